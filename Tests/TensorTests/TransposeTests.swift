import Tensor
import Testing
import TestSupport

@Suite struct TransposeTests {
    static let sizes = [1, 2, 15, 16, 17, 31, 32, 33, 48, 64, 65]

    /// Every meeting of whole tiles and rests, between matrices with gaps, with and without columns left over.
    @Test(arguments: sizes) func everyShape(rows: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        for columns in Self.sizes {
            let x = normals(rows * columns, seed: rows)
            let from = memory.matrix(x, rows, columns, gap: 3)
            for more in [0, 1, 20] {
                let out = memory.matrix(columns, rows + more, gap: 2)
                transpose(out, from)
                for column in 0..<columns {
                    let want = (0..<rows).map { x[$0 * columns + column] } + [Float](repeating: 0, count: more)
                    #expect(out.row(column).array == want)
                }
            }
        }
    }
}
