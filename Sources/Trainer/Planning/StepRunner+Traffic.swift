import Model
import Parallel
import Recipe

/// The bytes that a rank foresees, against which those that it has counted are held.
extension StepRunner {
    /// What this rank will send in a step, small exchanges not counted.
    public var plannedTraffic: ShardTraffic {
        traffic(microBatches: recipe.turns(batches.count, tokens: schedule.tokensPerStep, ranks: world.size))
    }

    private func traffic(microBatches: Int) -> ShardTraffic {
        ShardTraffic(state.plan, rank: world.rank, microBatches: microBatches,
                     isReproducible: recipe.training.reproducible, gradientBytes: recipe.gradientBytes,
                     weightBytes: recipe.updatedBytes,
                     uses: model.uses(backward: true))
    }

    /// What a plan adds to `plannedBytes`, which reckons with full tasks.
    func planBytes(_ plan: PlannedStep) -> Int {
        let sequences = plan.sequenceBytes(recipe, ranks: world.size)
        guard sharded.exchangesEach else { return sequences }
        let rounds = StepRounds(plan.tasks, rank: world.rank).count
        return sequences + traffic(microBatches: rounds).bytes - plannedTraffic.bytes
    }

    /// The same with what is sent for shared sequences, of which all ranks send as much in the mean, and of copies for
    /// the loss of a rank.
    public var plannedBytes: Int {
        let groups = recipe.groups(worldSize: world.size)
        return plannedTraffic.bytes + recipe.sequenceBytes(tokens: schedule.tokensPerStep / groups)
            + PlannedMemory.copiedBytes(recipe, state.plan)
    }
}
