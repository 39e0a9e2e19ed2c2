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
        return adamW(shard.weights(run), momentum: shard.moment(0, run), variance: shard.moment(1, run),
                     gradient: shard.gradient(run), shard.decay(run.parameter) > 0 ? decaying : plain)
    }
}
