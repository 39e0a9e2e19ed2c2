import Tensor
import Testing
import TestSupport

/// Row lengths around every edge of the sixteen lanes.
let oddLengths = [1, 2, 5, 15, 16, 17, 31, 32, 33, 100, 257]

@Suite struct ElementwiseTests {
    @Test(arguments: oddLengths) func additions(count: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let a = normals(count, seed: 1), b = normals(count, seed: 2)
        let out = memory.row(a), x = memory.row(b)
        add(out, x)
        #expect(out.array == zip(a, b).map(+))
        #expect(x.array == b)
    }

    @Test(arguments: oddLengths) func dotProducts(count: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let a = normals(count, seed: 1), b = normals(count, seed: 2)
        let exact = weighted(doubles(a), by: doubles(b))
        let size = weighted(a.map { abs(Double($0)) }, by: b.map { abs(Double($0)) })
        #expect(abs(Double(dot(memory.row(a), memory.row(b))) - exact) <= 1e-6 * size)
        #expect(dot(memory.row(0), memory.row(0)) == 0)
    }

    /// Gathering and scattering, with tokens that repeat, by every cut of the columns.
    @Test(arguments: [1, 5, 16, 33]) func embedding(width: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let tokens = [3, 0, 3, 6, 3, 1], vocabulary = 7
        let table = normals(vocabulary * width, seed: 3), dOut = normals(tokens.count * width, seed: 4)
        let out = memory.matrix(tokens.count, width, gap: 2)
        gatherRows(out, table: memory.matrix(table, vocabulary, width, gap: 1), tokens: targets(tokens))
        let tape = Tape()
        let leaf = tape.input(doubles(table), rows: vocabulary, columns: width)
        let gathered = tape.gather(leaf, tokens: tokens)
        #expect(doubles(out.values) == tape[gathered])
        tape.backward(gathered, seed: doubles(dOut))
        let before = normals(vocabulary * width, seed: 5)
        let want = zip(doubles(before), tape.gradient(leaf)).map(+)
        let whole = memory.matrix(before, vocabulary, width, gap: 3)
        scatterRows(whole, dOut: memory.matrix(dOut, tokens.count, width), tokens: targets(tokens), columns: 0..<width)
        #expect(relativeError(whole.values, want) < 1e-6)
        for cut in 0...width {
            let parts = memory.matrix(before, vocabulary, width)
            for columns in [0..<cut, cut..<width] {
                scatterRows(parts, dOut: memory.matrix(dOut, tokens.count, width), tokens: targets(tokens),
                            columns: columns)
            }
            #expect(mismatch(parts.values, whole.values) == nil)
        }
        for parts in [2, 4, 8] {
            let cut = memory.matrix(before, vocabulary, width)
            for part in (0..<parts).reversed() {
                scatterRows(cut, dOut: memory.matrix(dOut, tokens.count, width), tokens: targets(tokens),
                            columns: 0..<width, part: part, of: parts)
            }
            #expect(mismatch(cut.values, whole.values) == nil, "\(parts) parts")
        }
    }
}
