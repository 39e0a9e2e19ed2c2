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
    static let keepsMatrices = true

    /// The second moment is AdamW's: matrices have none.
    static func vectors(_ table: ParameterTable) -> [VectorLayout] {
        [VectorLayout("momentum.", table), VectorLayout("variance.", table.reshaped { number in
            table.isHiddenMatrix(number) ? [0] : table.parameters[number].shape
        })]
    }

    private let iteration: NewtonSchulz
    /// The matrices of this rank: one run is a whole one.
    private let matrices: [ShardRun]
    /// For embedding, head and gains.
    private let rest = AdamW()
    private var rate = 0.0

    init(_ state: TrainingState, _ settings: Recipe.Optimizer, _ pool: Pool) throws(OutOfMemory) {
        let table = state.table
        matrices = state.ownMatrices()
        iteration = try NewtonSchulz(matrices.map { table.parameters[$0.parameter].shape }, pool: pool)
    }

    static func scratchFloats(_ plan: ShardPlan, rank: Int) -> Int {
        NewtonSchulz.floats(plan.hiddenShapes(of: rank))
    }

    func begin(_ step: OptimizerStep, _ shard: OptimizerShard, _ tools: OptimizerTools) {
        rest.begin(step, shard, tools)
        rate = step.rate
        let mu = Float(shard.settings.momentum), scale = Float(step.gradientScale)
        for run in matrices {
            let shape = shard.state.table.parameters[run.parameter].shape
            nesterov(run, shard, mu: mu, scale: scale, pool: tools.pool)
            iteration.orthogonalize(Matrix(shard.gradient(run), rows: shape[0], columns: shape[1]))
        }
    }

    /// momentum = mu momentum + scale gradient; gradient = scale gradient + mu momentum.
    private func nesterov(_ run: ShardRun, _ shard: OptimizerShard, mu: Float, scale: Float, pool: Pool) {
        let size = 16_384
        pool.run((run.range.count + size - 1) / size, stage: "optimizer") { tile, _ in
            let start = run.range.lowerBound + tile * size, end = min(start + size, run.range.upperBound)
            shard.eachPart(ShardRun(parameter: run.parameter, unit: run.unit, range: start..<end), weights: .none,
                           moments: 1) { part in
                nesterovStep(shard.gradient(part.run), momentum: part.first, mu: mu, scale: scale)
            }
        }
    }

    func update(_ run: ShardRun, _ shard: OptimizerShard) -> VarianceRoots? {
        let parameter = shard.state.table.parameters[run.parameter]
        guard shard.state.table.isHiddenMatrix(run.parameter) else {
            _ = rest.update(run, shard)
            return nil
        }
        let scale = 0.2 * Double(max(parameter.shape[0], parameter.shape[1])).squareRoot()
        shard.eachPart(run, moments: 0) { part in
            descend(part.weights, along: shard.gradient(part.run), rate: Float(rate * scale),
                    keep: Float(1 - rate * shard.settings.weightDecay))
        }
        return nil
    }
}
