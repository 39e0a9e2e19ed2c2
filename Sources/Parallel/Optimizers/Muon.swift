import Collectives
import Recipe
import Tensor

/// Muon: matrices between embedding and head descend steepest under the spectral norm (Bernstein and Newhouse,
/// 2409.20325, section 2), that is along the orthogonal factor of their momentum, found by Newton-Schulz iterations
/// without a decomposition. Embedding, head and gains stay with AdamW, whose rate is shared: the factor is scaled by
/// 0.2 sqrt(max(rows, columns)), so that its mean square is that of an AdamW step (Liu et al., 2502.16982, section
/// 2.2).
///
/// A matrix belongs whole to one rank, which alone computes its direction, in `begin`, in place of the gradient.
final class Muon: ShardOptimizer {
    static let moments = ["momentum.", "variance."]
    static let keepsMatrices = true

    private let iteration: NewtonSchulz
    /// The matrices of this rank: one run is a whole one.
    private let matrices: [ShardRun]
    private var decaying: AdamWStep?
    private var plain: AdamWStep?
    private var rate = 0.0

    init(_ state: TrainingState, _ settings: Recipe.Optimizer, _ pool: Pool) throws(OutOfMemory) {
        let table = state.table
        var matrices: [ShardRun] = []
        for (number, parameter) in table.parameters.enumerated() where table.isHiddenMatrix(number) {
            state.forEachPiece(of: parameter, in: state.moments[0]) { piece, _ in
                precondition(piece == parameter.range, "\(parameter.name) is cut, but its direction needs all of it")
                let unit = state.ownRanges.firstIndex { $0.contains(piece.lowerBound) } ?? 0
                matrices.append(ShardRun(parameter: number, unit: unit, range: piece))
            }
        }
        self.matrices = matrices
        iteration = try NewtonSchulz(matrices.map { table.parameters[$0.parameter].shape }, pool: pool)
    }

    static func scratchFloats(_ plan: ShardPlan, rank: Int) -> Int {
        let table = plan.table, own = plan.optimizerRanges(of: rank)
        return NewtonSchulz.floats(table.parameters.indices.filter { number in
            table.isHiddenMatrix(number) && own.contains { $0.overlaps(table.parameters[number].range) }
        }.map { table.parameters[$0].shape })
    }

    func begin(_ step: OptimizerStep, _ shard: OptimizerShard, _ tools: OptimizerTools) {
        decaying = shard.adam(step, decay: shard.settings.weightDecay)
        plain = shard.adam(step, decay: 0)
        rate = step.rate
        let mu = Float(shard.settings.momentum), scale = Float(step.gradientScale)
        for run in matrices {
            let shape = shard.state.table.parameters[run.parameter].shape
            let (gradient, momentum) = (shard.gradient(run), shard.moment(0, run))
            nesterov(gradient, momentum: momentum, mu: mu, scale: scale, pool: tools.pool)
            iteration.orthogonalize(Matrix(gradient, rows: shape[0], columns: shape[1]))
        }
    }

    /// momentum = mu momentum + scale gradient; gradient = scale gradient + mu momentum.
    private func nesterov(_ gradient: Row, momentum: Row, mu: Float, scale: Float, pool: Pool) {
        let size = 16_384
        pool.run((gradient.count + size - 1) / size, stage: "optimizer") { tile, _ in
            let start = tile * size, count = min(size, gradient.count - start)
            nesterovStep(gradient.slice(start, count), momentum: momentum.slice(start, count), mu: mu, scale: scale)
        }
    }

    func update(_ run: ShardRun, _ shard: OptimizerShard) -> VarianceRoots? {
        let parameter = shard.state.table.parameters[run.parameter]
        guard shard.state.table.isHiddenMatrix(run.parameter) else {
            guard let decaying, let plain else { preconditionFailure("an update before begin") }
            _ = adamW(shard.weights(run), momentum: shard.moment(0, run), variance: shard.moment(1, run),
                      gradient: shard.gradient(run), parameter.decays ? decaying : plain)
            return nil
        }
        let scale = 0.2 * Double(max(parameter.shape[0], parameter.shape[1])).squareRoot()
        descend(shard.weights(run), along: shard.gradient(run), rate: Float(rate * scale),
                keep: Float(1 - rate * shard.settings.weightDecay))
        return nil
    }
}

extension ParameterTable {
    /// Whether a parameter is a matrix of a layer: neither embedding nor head, nor a gain.
    func isHiddenMatrix(_ number: Int) -> Bool {
        let parameter = parameters[number]
        return parameter.shape.count == 2 && parameter.block > 0 && parameter.block < blocks.count - 1
    }
}
