import Collectives
import Recipe
import Tensor

/// LAMB (You et al., 1904.00962): Adam's direction, scaled for each matrix to the length of its weights, so that large
/// batches may take large steps. Gains take Adam's step as it is, as its implementations have it for what does not
/// decay.
///
/// `begin` makes the directions in place of the gradients and exchanges the sums of squares of weights and directions,
/// in the fixed blocks of the norm; so the ratios have the same bits on all ranks, and at any number of them.
final class LAMB: ShardOptimizer {
    static let keepsMatrices = false

    private var rate = 0.0
    /// Of each parameter: length of the weights over length of the direction.
    private var ratios: [Double] = []

    func begin(_ step: OptimizerStep, _ shard: OptimizerShard, _ tools: OptimizerTools) throws(CollectiveFault) {
        let decaying = shard.adam(step, decay: shard.settings.weightDecay), plain = shard.adam(step, decay: 0)
        rate = step.rate
        let sums = tools.sums
        sums.measure(pool: tools.pool) { run in
            var length = 0.0
            shard.eachPart(run, weights: .read) { part in
                lambDirection(shard.gradient(part.run), momentum: part.first, variance: part.second,
                              weights: part.weights, shard.decay(run.parameter) > 0 ? decaying : plain)
                length += sumOfSquares(part.weights)
            }
            return (length, sumOfSquares(shard.gradient(run)))
        }
        try sums.exchange()
        // In the place of the last step's: a new list would be an allocation.
        if ratios.isEmpty { ratios = Array(repeating: 1, count: shard.state.table.parameters.count) }
        for parameter in ratios.indices where shard.state.table.parameters[parameter].decays {
            let (weights, direction) = (sums.first(of: parameter), sums.second(of: parameter))
            ratios[parameter] = weights > 0 && direction > 0 ? (weights / direction).squareRoot() : 1
        }
    }

    func update(_ run: ShardRun, _ shard: OptimizerShard) -> VarianceRoots? {
        shard.eachPart(run, moments: 0) { part in
            addScaled(part.weights, shard.gradient(part.run), Float(-rate * ratios[run.parameter]))
        }
        return nil
    }
}
