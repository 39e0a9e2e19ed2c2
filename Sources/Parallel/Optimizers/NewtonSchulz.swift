import Tensor

/// The orthogonal factor U V^T of a matrix U S V^T, by iterations of an odd polynomial that drives its singular values
/// towards 1 (Newton-Schulz; its coefficients are Jordan's, which trade exactness for speed: after five iterations
/// singular values lie between about 0.7 and 1.2).
///
///     X = M / |M|        X = a X + (b (X X^T) + c (X X^T)^2) X, five times
///
/// The smaller of X X^T and X^T X is taken. Each element of each product is one chain over the depth, cut into tiles by
/// the shape alone, so the bits depend on no thread.
final class NewtonSchulz {
    private static let iterations = 5
    private static let (a, b, c): (Float, Float, Float) = (3.4445, -4.7750, 2.0315)
    private static let tileRows = 48

    private let pool: Pool
    private let memory: Arena
    private let first: Row       // the largest matrix
    private let second: Row
    private let gram: Row        // the largest small side, squared
    private let square: Row

    static func floats(_ shapes: [[Int]]) -> Int {
        let whole = shapes.map { $0[0] * $0[1] }.max() ?? 0, side = shapes.map { min($0[0], $0[1]) }.max() ?? 0
        return 2 * Arena.padded(whole) + 2 * Arena.padded(side * side)
    }

    /// `shapes`: of the matrices to come.
    init(_ shapes: [[Int]], pool: Pool) throws(OutOfMemory) {
        self.pool = pool
        let whole = shapes.map { $0[0] * $0[1] }.max() ?? 0, side = shapes.map { min($0[0], $0[1]) }.max() ?? 0
        memory = try Arena(name: "scratch of Newton-Schulz iterations",
                           capacity: Self.floats(shapes))
        first = memory.take(whole)
        second = memory.take(whole)
        gram = memory.take(side * side)
        square = memory.take(side * side)
    }

    /// Replaces `matrix`, which is dense, by its orthogonal factor. A matrix of zeros stays.
    func orthogonalize(_ matrix: Matrix) {
        let (rows, columns) = (matrix.rows, matrix.columns), side = min(rows, columns)
        let norm = sumOfSquares(matrix.all).squareRoot()
        guard norm > 0, norm.isFinite else { return }
        var x = Matrix(first, rows: rows, columns: columns), next = Matrix(second, rows: rows, columns: columns)
        let gram = Matrix(gram, rows: side, columns: side), square = Matrix(square, rows: side, columns: side)
        let begin = x
        tiles(rows, "optimizer") { start, count in
            scaled(begin.rows(start, count), matrix.rows(start, count), Float(1 / norm))
        }
        for _ in 0..<Self.iterations {
            step(x, into: next, gram, square)
            swap(&x, &next)
        }
        let result = x
        tiles(rows, "optimizer") { start, count in matrix.rows(start, count).copy(result.rows(start, count)) }
    }

    private func step(_ x: Matrix, into next: Matrix, _ gram: Matrix, _ square: Matrix) {
        let isWide = x.rows <= x.columns
        tiles(gram.rows, "orthogonalize", flops: 2 * gram.rows * gram.rows * max(x.rows, x.columns)) { start, count in
            if isWide {
                Gemm.timesTransposed(gram.rows(start, count), x.rows(start, count), x)
            } else {
                Gemm.transposedTimes(gram.rows(start, count), x.columns(start, count), x, accumulate: false)
            }
        }
        tiles(gram.rows, "orthogonalize", flops: 2 * gram.rows * gram.rows * gram.rows) { start, count in
            let out = square.rows(start, count)
            Gemm.times(out, gram.rows(start, count), gram)
            blend(out, Self.c, gram.rows(start, count), Self.b)
        }
        tiles(x.rows, "orthogonalize", flops: 2 * x.rows * x.columns * gram.rows) { start, count in
            let out = next.rows(start, count)
            scaled(out, x.rows(start, count), Self.a)
            if isWide {
                Gemm.times(out, square.rows(start, count), x, accumulate: true)
            } else {
                Gemm.times(out, x.rows(start, count), square, accumulate: true)
            }
        }
    }

    private func tiles(_ rows: Int, _ stage: StaticString, flops: Int = 0,
                       _ body: @Sendable (_ start: Int, _ count: Int) -> Void) {
        pool.run((rows + Self.tileRows - 1) / Self.tileRows, stage: stage, flops: flops) { tile, _ in
            let start = tile * Self.tileRows
            body(start, min(Self.tileRows, rows - start))
        }
    }
}

private func scaled(_ out: Matrix, _ x: Matrix, _ factor: Float) {
    for row in 0..<out.rows {
        out.row(row).fill(0)
        addScaled(out.row(row), x.row(row), factor)
    }
}

/// out = out * own + x * factor.
private func blend(_ out: Matrix, _ own: Float, _ x: Matrix, _ factor: Float) {
    for row in 0..<out.rows { scaleAndAdd(out.row(row), own, x.row(row), factor) }
}
