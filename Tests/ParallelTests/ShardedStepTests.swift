import Collectives
import Model
import Parallel
import Recipe
import Simulation
import Tensor
import Testing

/// Gradients and weights over ranks, without a model: whole numbers, so that every sum is exact whatever its order.
@Suite struct ShardedStepTests {
    private static func recipe(_ counts: ShardCounts, reproducible: Bool = false) -> Recipe {
        var recipe = Recipe()
        recipe.parallelism.zero = 0
        recipe.parallelism.shardParameters = counts.parameters
        recipe.parallelism.shardGradients = counts.gradients
        recipe.parallelism.shardOptimizer = counts.optimizer
        recipe.training.reproducible = reproducible
        return recipe
    }

    /// For every layout of up to eight ranks and 1 to 3 micro-batches: whoever answers for a float has the sum of all
    /// ranks' and micro-batches' gradients, and a model that asks for a block's weights has them.
    @Test(arguments: [1, 2, 3, 4, 6, 8], [false, true]) func sumsAndWeightsAreComplete(ranks: Int, tied: Bool) throws {
        let table = table(3, tied: tied)
        for counts in allCounts(ranks) {
            for batches in [1, 3] {
                let results = onThreads(ranks: ranks) { communicator -> Bool in
                    let pool = Pool(threads: 1)
                    let step = try ShardedStep(table, recipe: Self.recipe(counts), pool: pool,
                                               communicator: communicator)
                    Self.fill(step.state) { Float($0 % 1_000) }
                    for number in 1...2 {
                        guard Self.runs(step, table, batches, number, communicator.rank) else { return false }
                        try step.finish()
                        let others = Float(ranks * (ranks - 1) / 2)
                        for (unit, range) in step.state.ownRanges.enumerated() {
                            let sums = step.state.gradientShard.part(range, unit: unit)
                            for (index, place) in range.enumerated() {
                                let expected = Float(batches * number * (place % 50) * ranks) + Float(batches) * others
                                guard sums[index] == expected else { return false }
                            }
                        }
                        // New weights must be fetched anew.
                        Self.fill(step.state) { Float($0 % 1_000 + number) }
                        step.changed()
                    }
                    return true
                }
                for result in results { #expect(try result.get(), "\(counts.text), \(batches) micro-batches") }
            }
        }
    }

    private static func fill(_ state: TrainingState, _ value: (Int) -> Float) {
        for (unit, range) in state.weightShard.ranges.enumerated() {
            let row = state.weightShard.part(range, unit: unit)
            for (index, place) in range.enumerated() { row[index] = value(place) }
        }
    }

    /// What a model does: weights are read in the order that was announced, and each block's gradient is added to.
    private static func runs(_ step: ShardedStep, _ table: ParameterTable, _ batches: Int, _ number: Int,
                             _ rank: Int) -> Bool {
        let last = table.blocks.count - 1, head = table.shape.tieEmbeddings ? [last, 0] : [last]
        let layers = Array(1..<last)
        func holds(_ block: Int) -> Bool {
            let row = step.state.weights.blocks[block]
            return table.blocks[block].enumerated().allSatisfy { row[$0] == Float($1 % 1_000 + number - 1) }
        }
        for batch in 0..<batches {
            step.beginForward(batch, of: batches, tokens: .unknown, uses: [0] + layers + head + layers.reversed())
            for block in [0] + layers {
                step.source?.acquire(block)
                guard holds(block) else { return false }
                step.source?.release(block)
            }
            let gradients = step.beginBackward(batch, of: batches)
            func add(_ block: Int) {
                for (index, place) in table.blocks[block].enumerated() {
                    gradients.blocks[block][index] += Float(number * (place % 50) + rank)
                }
            }
            for block in head { step.gradients.begin(block) }
            for block in head { step.source?.acquire(block) }
            guard head.allSatisfy({ holds($0) }) else { return false }
            for block in head { step.source?.release(block) }
            add(last)
            step.gradients.ready(last)
            for block in layers.reversed() {
                step.source?.acquire(block)
                step.gradients.begin(block)
                guard holds(block) else { return false }
                add(block)
                step.source?.release(block)
                step.gradients.ready(block)
            }
            if !table.shape.tieEmbeddings { step.gradients.begin(0) }
            add(0)
            step.gradients.ready(0)
            step.endBackward(batch, of: batches)
        }
        return true
    }
}
