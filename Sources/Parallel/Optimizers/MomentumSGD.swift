import Collectives
import Recipe
import Tensor

/// Stochastic gradient descent with Polyak's momentum. Its decay is decoupled, as that of the others is.
final class MomentumSGD: ShardOptimizer {
    static let keepsMatrices = false

    static func vectors(_ table: ParameterTable) -> [VectorLayout] { [VectorLayout("momentum.", table)] }

    private var step = OptimizerStep(number: 0, rate: 0, gradientScale: 1)

    func begin(_ step: OptimizerStep, _ shard: OptimizerShard, _ tools: OptimizerTools) { self.step = step }

    func update(_ run: ShardRun, _ shard: OptimizerShard) -> VarianceRoots? {
        shard.eachPart(run, moments: 1) { part in
            momentumStep(part.weights, momentum: part.first, gradient: shard.gradient(part.run),
                         mu: Float(shard.settings.momentum), rate: Float(step.rate),
                         decay: Float(shard.decay(run.parameter)), scale: Float(step.gradientScale))
        }
        return nil
    }
}
