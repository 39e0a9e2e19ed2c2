import Collectives
import Tensor

/// AdamW (Loshchilov and Hutter, 1711.05101), in one pass over memory.
final class AdamW: ShardOptimizer {
    static let keepsMatrices = false

    private var decaying: AdamWStep?
    private var plain: AdamWStep?

    func begin(_ step: OptimizerStep, _ shard: OptimizerShard, _ tools: OptimizerTools) {
        decaying = shard.adam(step, decay: shard.settings.weightDecay)
        plain = shard.adam(step, decay: 0)
    }

    func update(_ run: ShardRun, _ shard: OptimizerShard) -> VarianceRoots? {
        guard let decaying, let plain else { preconditionFailure("an update before begin") }
        let step = shard.decay(run.parameter) > 0 ? decaying : plain
        var roots = VarianceRoots(sum: 0, max: 0)
        shard.eachPart(run) { part in
            let own = adamW(part.weights, momentum: part.first, variance: part.second,
                            gradient: shard.gradient(part.run), step)
            roots.sum += own.sum
            roots.max = max(roots.max, own.max)
        }
        return roots
    }
}
