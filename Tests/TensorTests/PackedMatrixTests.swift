import Tensor
import Testing
import TestSupport

@Suite struct PackedMatrixTests {
    struct Shape: Sendable {
        let m, n, k: Int
    }

    /// Edges of strips (16 or 64 columns, 512 of depth), of tiles (64), of panels (6 rows, then fours and ones) and of
    /// blocks (96 rows).
    static let shapes = [1, 2, 5, 6, 8, 11, 96, 104, 195].flatMap { m in
        [1, 15, 16, 17, 64, 65, 129, 200].map { Shape(m: m, n: $0, k: 37) }
    } + [1, 2, 511, 512, 513, 1_030].map { Shape(m: 98, n: 70, k: $0) } + [Shape(m: 3, n: 3, k: 0)]

    /// A packed operand gives the bits of an unpacked one, in both forms and of both kinds, added or not.
    @Test(arguments: shapes) func packingChangesNoBit(_ shape: Shape) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (m, n, k) = (shape.m, shape.n, shape.k)
        let a = memory.matrix(normals(m * k, seed: 1), m, k, gap: 3)
        let aTurned = memory.matrix(normals(m * k, seed: 2), k, m, gap: 1)
        let b = memory.matrix(normals(n * k, seed: 3), k, n, gap: 2)
        let bTurned = memory.matrix(normals(n * k, seed: 4), n, k, gap: 5)
        let before = normals(m * n, seed: 5)
        for accumulate in [false, true] {
            func out() -> Matrix {
                accumulate ? memory.matrix(before, m, n, gap: 4) : memory.matrix(m, n, gap: 4)
            }
            for turned in [false, true] {
                let packed = packed(turned ? bTurned : b, turned: turned, k, n, memory)
                let (got, want) = (out(), out())
                Gemm.times(got, a, packed, accumulate: accumulate)
                if turned {
                    Gemm.timesTransposed(want, a, bTurned, accumulate: accumulate)
                } else {
                    Gemm.times(want, a, b, accumulate: accumulate)
                }
                #expect(mismatch(got.values, want.values) == nil, "\(shape) turned \(turned) added \(accumulate)")
            }
            let (got, want) = (out(), out())
            Gemm.transposedTimes(got, aTurned, packed(b, turned: false, k, n, memory), accumulate: accumulate)
            Gemm.transposedTimes(want, aTurned, b, accumulate: accumulate)
            #expect(mismatch(got.values, want.values) == nil, "\(shape) A^T added \(accumulate)")
        }
    }

    /// One row by a packed matrix, a tile at a time: the bits of the product. And its columns come out again.
    @Test(arguments: [1, 15, 16, 17, 63, 64, 65, 100, 129, 200, 257]) func aVectorHasTheProductsBits(n: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        for k in [1, 3, 64, 513] {
            let x = memory.matrix(normals(k, seed: 1), 1, k), b = memory.matrix(normals(n * k, seed: 2), n, k, gap: 3)
            let packed = packed(b, turned: true, k, n, memory), before = normals(n, seed: 3)
            for accumulate in [false, true] {
                let (got, want) = (memory.matrix(before, 1, n), memory.matrix(before, 1, n))
                for tile in (0..<packed.tiles).reversed() {
                    packed.multiply(x.row(0), into: got.row(0), tile: tile, accumulate: accumulate)
                }
                Gemm.timesTransposed(want, x, b, accumulate: accumulate)
                #expect(mismatch(got.values, want.values) == nil, "\(n) x \(k)")
            }
            let row = memory.row([Float](repeating: 0, count: k))
            for column in Set([0, n / 2, n - 1]) {
                packed.copy(column: column, to: row)
                #expect(row.array == b.row(column).array)
            }
        }
    }

    /// Tiles in any order make the same; memory that holds not-a-numbers before is no matter.
    private func packed(_ b: Matrix, turned: Bool, _ k: Int, _ n: Int, _ memory: FencedMemory) -> PackedMatrix {
        let row = memory.row([Float](repeating: .nan, count: PackedMatrix.floats(rows: k, columns: n)))
        let packed = PackedMatrix(row, rows: k, columns: n)
        for tile in (0..<packed.packingTiles).reversed() { packed.pack(tile, from: b, transposed: turned) }
        return packed
    }

    /// Products with A turned over have no rounding of their own: one chain over the depth.
    @Test func aTurnedOperandIsTheSameChain() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        for m in [1, 2, 3, 4, 6, 7, 8, 9, 10, 14, 95, 96, 97, 98] {
            let (n, k) = (33, 600)
            let turned = normals(m * k, seed: 6), b = memory.matrix(normals(n * k, seed: 7), k, n)
            let straight = (0..<(m * k)).map { turned[$0 % k * m + $0 / k] }
            let (got, want) = (memory.matrix(m, n), memory.matrix(m, n))
            Gemm.transposedTimes(got, memory.matrix(turned, k, m), b, accumulate: false)
            Gemm.times(want, memory.matrix(straight, m, k), b)
            #expect(mismatch(got.values, want.values) == nil, "\(m) rows")
        }
    }

    @Test func openBLASHasTheThreeForms() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (m, n, k) = (37, 29, 53)
        let a = memory.matrix(normals(m * k, seed: 1), m, k, gap: 3)
        let aTurned = memory.matrix(normals(m * k, seed: 2), k, m, gap: 1)
        let b = memory.matrix(normals(n * k, seed: 3), k, n, gap: 2)
        let bTurned = memory.matrix(normals(n * k, seed: 4), n, k, gap: 5)
        for accumulate in [false, true] {
            func pair() -> [Matrix] { (0..<2).map { _ in memory.matrix(normals(m * n, seed: 5), m, n, gap: 4) } }
            var results = pair()
            OpenBLAS.timesTransposed(results[0], a, bTurned, accumulate: accumulate)
            Gemm.timesTransposed(results[1], a, bTurned, accumulate: accumulate)
            #expect(relativeError(results[0].values, doubles(results[1].values)) < 1e-6)
            results = pair()
            OpenBLAS.times(results[0], a, b, accumulate: accumulate)
            Gemm.times(results[1], a, b, accumulate: accumulate)
            #expect(relativeError(results[0].values, doubles(results[1].values)) < 1e-6)
            results = pair()
            OpenBLAS.transposedTimes(results[0], aTurned, b, accumulate: accumulate)
            Gemm.transposedTimes(results[1], aTurned, b, accumulate: accumulate)
            #expect(relativeError(results[0].values, doubles(results[1].values)) < 1e-6)
        }
    }
}
