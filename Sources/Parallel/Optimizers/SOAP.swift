import Collectives
import Recipe
import Tensor

/// SOAP (Vyas et al., 2409.11321, algorithm 3): Adam in the eigenbasis of Shampoo's preconditioner. Matrices between
/// embedding and head keep the means of G G^T (left) and G^T G (right) and slowly refined eigenbases of both; Adam's
/// second moment lives in the rotated space, its first one in the weights' own, and the direction is turned back.
///
///     G' = Q_L G Q_R^T     M' = Q_L M Q_R^T     N = Q_L^T (M' / sqrt V) Q_R
///
/// Bases are refined every ten updates (its section 5.1), by one step of orthogonal iteration. As in the authors' code
/// the first update only begins the bases, and the matrices stay; embedding, head and gains take AdamW's step. A matrix
/// belongs whole to one rank, which alone computes its direction, in `begin`, in place of the gradient.
final class SOAP: ShardOptimizer {
    static let keepsMatrices = true
    private static let interval = 10
    /// Orthogonal iterations that begin a basis, from the unit vectors on.
    private static let beginning = 8
    private static let tileRows = 48

    private enum Part { static let momentum = 0, variance = 1, left = 2, right = 3, leftBasis = 4, rightBasis = 5 }

    private let pool: Pool
    private let basis: Basis
    private let memory: Arena
    private let first: Row     // the largest matrix
    private let second: Row
    private let third: Row
    /// The matrices of this rank: one run is a whole one.
    private let matrices: [ShardRun]
    /// For embedding, head and gains.
    private let rest = AdamW()
    private var number = 0
    private var rate = 0.0

    static func vectors(_ table: ParameterTable) -> [VectorLayout] {
        func square(_ side: Int) -> ParameterTable {
            table.reshaped { number in
                guard table.isHiddenMatrix(number) else { return [0] }
                let size = table.parameters[number].shape[side]
                return [size, size]
            }
        }
        let (left, right) = (square(0), square(1))
        return [VectorLayout("momentum.", table), VectorLayout("variance.", table), VectorLayout("left.", left),
                VectorLayout("right.", right), VectorLayout("left_basis.", left), VectorLayout("right_basis.", right)]
    }

    static func scratchFloats(_ plan: ShardPlan, rank: Int) -> Int { floats(plan.hiddenShapes(of: rank)) }

    private static func floats(_ shapes: [[Int]]) -> Int {
        3 * Arena.padded(shapes.map { $0[0] * $0[1] }.max() ?? 0) + Basis.floats(side: largestSide(shapes))
    }

    private static func largestSide(_ shapes: [[Int]]) -> Int { shapes.flatMap { $0 }.max() ?? 0 }

    init(_ state: TrainingState, _ pool: Pool) throws(OutOfMemory) {
        self.pool = pool
        matrices = state.ownMatrices()
        let shapes = matrices.map { state.table.parameters[$0.parameter].shape }
        let whole = shapes.map { $0[0] * $0[1] }.max() ?? 0
        basis = try Basis(side: Self.largestSide(shapes), pool: pool)
        memory = try Arena(name: "scratch of SOAP", capacity: 3 * Arena.padded(whole))
        first = memory.take(whole)
        second = memory.take(whole)
        third = memory.take(whole)
    }

    func begin(_ step: OptimizerStep, _ shard: OptimizerShard, _ tools: OptimizerTools) {
        rest.begin(step, shard, tools)
        (rate, number) = (step.rate, step.number)
        // The first update of a matrix is the run's second.
        var counted = step
        counted.number = max(1, step.number - 1)
        let adam = shard.adam(counted, decay: 0)
        for run in matrices {
            let own = OwnedMatrix(run, shard)
            if number > 1 { direct(own, adam) }
            precondition(own, adam)
            guard number > 1 else { continue }
            let direction = own.view(first)
            forTiles(own.rows) { own.gradient.rows($0, $1).copy(direction.rows($0, $1)) }
        }
    }

    func update(_ run: ShardRun, _ shard: OptimizerShard) -> VarianceRoots? {
        guard shard.state.table.isHiddenMatrix(run.parameter) else {
            _ = rest.update(run, shard)
            return nil
        }
        if number > 1 {
            shard.eachPart(run, moments: 0) { part in
                descend(part.weights, along: shard.gradient(part.run), rate: Float(rate),
                        keep: Float(1 - rate * shard.settings.weightDecay))
            }
        }
        return nil
    }

    /// What a matrix has of everything.
    private struct OwnedMatrix: Sendable {
        let rows: Int
        let columns: Int
        let gradient: Matrix
        let momentum: Matrix
        let variance: Matrix
        let left: Matrix
        let right: Matrix
        let leftBasis: Matrix
        let rightBasis: Matrix

        init(_ run: ShardRun, _ shard: OptimizerShard) {
            let shape = shard.state.table.parameters[run.parameter].shape
            let moments = shard.state.momentParts.map(\.numbers)
            let (m, n) = (shape[0], shape[1])
            (rows, columns) = (m, n)
            gradient = Matrix(shard.gradient(run), rows: m, columns: n)
            momentum = Matrix(shard.moment(Part.momentum, run), rows: m, columns: n)
            variance = Matrix(shard.moment(Part.variance, run), rows: m, columns: n)
            left = Matrix(moments[Part.left].whole(run), rows: m, columns: m)
            right = Matrix(moments[Part.right].whole(run), rows: n, columns: n)
            leftBasis = Matrix(moments[Part.leftBasis].whole(run), rows: m, columns: m)
            rightBasis = Matrix(moments[Part.rightBasis].whole(run), rows: n, columns: n)
        }

        /// A scratch of the matrix's shape.
        func view(_ scratch: Row) -> Matrix { Matrix(scratch, rows: rows, columns: columns) }
    }

    /// The direction, into the first scratch; both moments move.
    private func direct(_ own: OwnedMatrix, _ adam: AdamWStep) {
        let (m, n) = (own.rows, own.columns), flops = 2 * m * n * (m + n)
        let (direction, turned, gradient) = (own.view(first), own.view(second), own.view(third))
        forTiles(m) { start, count in
            for row in start..<(start + count) {
                scaleAndAdd(own.momentum.row(row), adam.beta1, own.gradient.row(row), adam.fresh1 * adam.gradientScale)
            }
        }
        rotate(own.gradient, own, into: gradient, by: turned, flops: flops)
        rotate(own.momentum, own, into: direction, by: turned, flops: flops)
        forTiles(m) { start, count in
            for row in start..<(start + count) {
                adamDirection(direction.row(row), variance: own.variance.row(row), gradient: gradient.row(row), adam)
            }
        }
        forTiles(m, flops: 2 * m * n * m) { start, count in
            Gemm.transposedTimes(turned.rows(start, count), own.leftBasis.columns(start, count), direction,
                                 accumulate: false)
        }
        forTiles(m, flops: 2 * m * n * n) { start, count in
            Gemm.times(direction.rows(start, count), turned.rows(start, count), own.rightBasis)
        }
    }

    /// out = Q_L x Q_R^T.
    private func rotate(_ x: Matrix, _ own: OwnedMatrix, into out: Matrix, by turned: Matrix, flops: Int) {
        forTiles(own.rows, flops: flops) { start, count in
            Gemm.times(turned.rows(start, count), own.leftBasis.rows(start, count), x)
            Gemm.timesTransposed(out.rows(start, count), turned.rows(start, count), own.rightBasis)
        }
    }

    /// The means of G G^T and G^T G take in this gradient; where it is time, the bases follow them.
    private func precondition(_ own: OwnedMatrix, _ adam: AdamWStep) {
        let (m, n) = (own.rows, own.columns), scaled = own.view(second)
        let factor = adam.fresh2.squareRoot() * adam.gradientScale
        forTiles(m) { start, count in
            for row in start..<(start + count) { scaleAndAdd(scaled.row(row), 0, own.gradient.row(row), factor) }
        }
        forTiles(m, flops: 2 * m * m * n) { start, count in
            let out = own.left.rows(start, count)
            for row in 0..<count { scaleAndAdd(out.row(row), adam.beta2, out.row(row), 0) }
            Gemm.timesTransposed(out, scaled.rows(start, count), scaled, accumulate: true)
        }
        forTiles(n, flops: 2 * n * n * m) { start, count in
            let out = own.right.rows(start, count)
            for row in 0..<count { scaleAndAdd(out.row(row), adam.beta2, out.row(row), 0) }
            Gemm.transposedTimes(out, scaled.columns(start, count), scaled)
        }
        if number == 1 {
            begin(own.leftBasis, of: own.left)
            begin(own.rightBasis, of: own.right)
        } else if number % Self.interval == 1 {
            permuteRows(own.variance, basis.refine(own.leftBasis, of: own.left), own.view(second))
            permuteColumns(own.variance, basis.refine(own.rightBasis, of: own.right))
        }
    }

    private func begin(_ rows: Matrix, of matrix: Matrix) {
        for row in 0..<rows.rows {
            rows.row(row).fill(0)
            rows.row(row)[row] = 1
        }
        for _ in 0..<Self.beginning { _ = basis.refine(rows, of: matrix) }
    }

    /// The second moment goes along where eigenvectors change their order.
    private func permuteRows(_ matrix: Matrix, _ order: [Int], _ scratch: Matrix) {
        forTiles(matrix.rows) { scratch.rows($0, $1).copy(matrix.rows($0, $1)) }
        for (row, source) in order.enumerated() where row != source { matrix.row(row).copy(scratch.row(source)) }
    }

    private func permuteColumns(_ matrix: Matrix, _ order: [Int]) {
        let scratch = second
        for index in 0..<matrix.rows {
            let row = matrix.row(index), old = scratch.slice(0, row.count)
            old.copy(row)
            for (column, source) in order.enumerated() where column != source { row[column] = old[source] }
        }
    }

    private func forTiles(_ rows: Int, flops: Int = 0, _ body: @Sendable (_ start: Int, _ count: Int) -> Void) {
        pool.run((rows + Self.tileRows - 1) / Self.tileRows, stage: "precondition", flops: flops) { tile, _ in
            let start = tile * Self.tileRows
            body(start, min(Self.tileRows, rows - start))
        }
    }
}
