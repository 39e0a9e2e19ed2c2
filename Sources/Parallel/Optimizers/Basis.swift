import Tensor

/// Refines the eigenbasis of a symmetric matrix by one step of orthogonal iteration: the rows of basis x matrix, made
/// orthonormal in order (Wang et al., 2409.11321, algorithm 4). Repeated while the matrix changes slowly, the rows
/// follow its eigenvectors, the largest eigenvalue first.
///
/// The rows are made orthonormal by Gram-Schmidt in blocks, everything twice, which leaves them orthogonal to the
/// rounding of a Float (Giraud et al., 2005). Blocks are products of matrices, cut by the shape alone, and each
/// element of a product is one chain, so the bits depend on no thread.
package final class Basis {
    private static let blockRows = 32
    private static let tile = 64
    private static let damping: Float = 1e-3
    /// A row that keeps less of its length than this has lost its direction to rounding.
    private static let lost = 1e-6

    private let pool: Pool
    private let memory: Arena
    private let rows: Row            // the largest side, squared
    private let coefficients: Row    // a block's share in the rows before it
    private let estimates: Row

    static func floats(side: Int) -> Int {
        Arena.padded(side * side) + Arena.padded(blockRows * side) + Arena.padded(side)
    }

    package init(side: Int, pool: Pool) throws(OutOfMemory) {
        self.pool = pool
        memory = try Arena(name: "scratch of eigenbases", capacity: Self.floats(side: side))
        rows = memory.take(side * side)
        coefficients = memory.take(Self.blockRows * side)
        estimates = memory.take(side)
    }

    /// basis, matrix: side x side; the basis has eigenvectors as rows. Returns which old row each new one comes from.
    ///
    /// The matrix is taken with a thousandth of its mean eigenvalue on its diagonal. Eigenvectors stay the same, and
    /// where the matrix has nothing to say, rows stay what they were instead of following its rounding.
    package func refine(_ basis: Matrix, of matrix: Matrix) -> [Int] {
        let side = basis.rows, next = Matrix(rows, rows: side, columns: side), estimates = estimates
        let damping = Self.damping * (0..<side).reduce(0) { $0 + matrix.row($1)[$1] } / Float(side)
        forTiles(side, flops: 2 * side * side * side) { start, count in
            Gemm.times(next.rows(start, count), basis.rows(start, count), matrix)
            for row in start..<(start + count) {
                addScaled(next.row(row), basis.row(row), damping)
                estimates[row] = dot(next.row(row), basis.row(row))
            }
        }
        let values = (0..<side).map { estimates[$0] }
        guard values.allSatisfy(\.isFinite) else { return Array(0..<side) }
        // Rows converge fastest in the order of the eigenvalues, as they are estimated now.
        let order = (0..<side).sorted { (values[$0], $1) > (values[$1], $0) }
        for (row, source) in order.enumerated() { basis.row(row).copy(next.row(source)) }
        orthonormalize(basis)
        return order
    }

    /// The rows of `matrix`, which is square, in ascending order.
    package func orthonormalize(_ matrix: Matrix) {
        for start in stride(from: 0, to: matrix.rows, by: Self.blockRows) {
            let count = min(Self.blockRows, matrix.rows - start)
            var lengths = (start..<(start + count)).map { sumOfSquares(matrix.row($0)).squareRoot() }
            for _ in 0..<2 {
                subtractRows(before: start, count, of: matrix)
                for row in start..<(start + count) {
                    for other in start..<row { project(matrix.row(row), out: matrix.row(other)) }
                    let length = sumOfSquares(matrix.row(row)).squareRoot()
                    if length > Self.lost * lengths[row - start] {
                        scale(matrix.row(row), Float(1 / length))
                    } else {
                        complete(matrix, row)
                    }
                    lengths[row - start] = 1
                }
            }
        }
    }

    /// Takes from a block of rows what they have in the rows before it.
    private func subtractRows(before start: Int, _ count: Int, of matrix: Matrix) {
        guard start > 0 else { return }
        let block = matrix.rows(start, count), known = matrix.rows(0, start)
        let shares = Matrix(coefficients, rows: count, columns: start)
        forTiles(start, flops: 2 * count * start * matrix.columns) { first, some in
            let own = shares.columns(first, some)
            Gemm.timesTransposed(own, block, known.rows(first, some))
            for row in 0..<count { scale(own.row(row), -1) }
        }
        forTiles(matrix.columns, flops: 2 * count * start * matrix.columns) { first, some in
            Gemm.times(block.columns(first, some), shares, known.columns(first, some), accumulate: true)
        }
    }

    /// Replaces a row by a unit vector's part that is orthogonal to the rows before it: the first that has enough of
    /// it. The squares of these parts add up to at least one, so there is one.
    private func complete(_ matrix: Matrix, _ row: Int) {
        let own = matrix.row(row)
        for shift in 0..<matrix.columns {
            own.fill(0)
            own[(row + shift) % matrix.columns] = 1
            for _ in 0..<2 {
                for other in 0..<row { project(own, out: matrix.row(other)) }
            }
            let length = sumOfSquares(own).squareRoot()
            if length * length * Double(2 * matrix.columns) >= 1 { return scale(own, Float(1 / length)) }
        }
        preconditionFailure("\(row) rows leave no direction of \(matrix.columns)")
    }

    private func forTiles(_ count: Int, flops: Int, _ body: @Sendable (_ start: Int, _ count: Int) -> Void) {
        pool.run((count + Self.tile - 1) / Self.tile, stage: "eigenbasis", flops: flops) { tile, _ in
            body(tile * Self.tile, min(Self.tile, count - tile * Self.tile))
        }
    }
}

/// Takes from a row what it has in a direction of length one.
private func project(_ row: Row, out direction: Row) { addScaled(row, direction, -dot(row, direction)) }

private func scale(_ row: Row, _ factor: Float) { scaleAndAdd(row, factor, row, 0) }
