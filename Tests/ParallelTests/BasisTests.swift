import Parallel
import Tensor
import Testing

/// Orthogonal iteration with our own Gram-Schmidt.
@Suite struct BasisTests {
    /// Some symmetric matrix of this side, of `rank` directions.
    private static func fill(_ matrix: Matrix, rank: Int, _ memory: Arena) {
        let side = matrix.rows, half = Matrix(memory.take(side * max(rank, 1)), rows: side, columns: max(rank, 1))
        var random = SplitMix(seed: UInt64(side * 131 + rank))
        for row in 0..<side { for column in 0..<max(rank, 1) { half.row(row)[column] = rank == 0 ? 0 : random.next() } }
        Gemm.timesTransposed(matrix, half, half)
    }

    private struct SplitMix {
        var seed: UInt64
        mutating func next() -> Float {
            seed &+= 0x9E37_79B9_7F4A_7C15
            var z = (seed ^ (seed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return Float(Int32(truncatingIfNeeded: z >> 32)) * 0x1p-31
        }
    }

    private static func refined(side: Int, rank: Int, threads: Int, times: Int)
        throws -> (rows: [Float], matrix: [Float]) {
        let memory = try Arena(name: "test", capacity: 4 * side * side + 4 * 1024)
        defer { withExtendedLifetime(memory) {} }
        let matrix = Matrix(memory.take(side * side), rows: side, columns: side)
        let rows = Matrix(memory.take(side * side), rows: side, columns: side)
        fill(matrix, rank: rank, memory)
        for row in 0..<side {
            rows.row(row).fill(0)
            rows.row(row)[row] = 1
        }
        let basis = try Basis(side: side, pool: Pool(threads: threads))
        for _ in 0..<times { #expect(basis.refine(rows, of: matrix).sorted() == Array(0..<side)) }
        return (rows.all.array, matrix.all.array)
    }

    /// Of full rank, of a third of it, of one direction, of none at all; sides on both sides of a block and a tile.
    @Test(arguments: [1, 2, 3, 31, 32, 33, 64, 65, 100]) func rowsAreOrthonormal(side: Int) throws {
        for rank in Set([side, side / 3, 1, 0]) {
            let rows = try Self.refined(side: side, rank: rank, threads: 1, times: 3).rows
            for i in 0..<side {
                for j in 0...i {
                    let sum = (0..<side).reduce(0.0) { $0 + Double(rows[i * side + $1]) * Double(rows[j * side + $1]) }
                    #expect(abs(sum - (i == j ? 1 : 0)) < 2e-6, "rows \(i) and \(j) of \(side), rank \(rank)")
                }
            }
        }
    }

    @Test func bitsDependOnNoThread() throws {
        let one = try Self.refined(side: 100, rank: 60, threads: 1, times: 3).rows
        for threads in [2, 3] {
            #expect(try Self.refined(side: 100, rank: 60, threads: threads, times: 3).rows == one)
        }
    }

    /// After many steps rows x matrix x rows^T is diagonal, by falling values.
    @Test func rowsBecomeEigenvectors() throws {
        let side = 12, (rows, matrix) = try Self.refined(side: side, rank: side, threads: 1, times: 400)
        func form(_ i: Int, _ j: Int) -> Double {
            var sum = 0.0
            for a in 0..<side {
                for b in 0..<side {
                    sum += Double(rows[i * side + a]) * Double(matrix[a * side + b]) * Double(rows[j * side + b])
                }
            }
            return sum
        }
        let largest = form(0, 0)
        for i in 0..<side {
            if i > 0 { #expect(form(i, i) <= form(i - 1, i - 1)) }
            for j in 0..<i { #expect(abs(form(i, j)) < 1e-5 * largest, "\(i), \(j)") }
        }
    }
}
