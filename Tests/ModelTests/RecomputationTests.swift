import Model
import Recipe
import Tensor
import Testing
import TestSupport

/// Making activations again instead of keeping them changes memory and time, and not one bit of a result.
@Suite struct RecomputationTests {
    static let modes = Recipe.Recomputation.allCases

    @Test(arguments: TransformerTests.cases, modes)
    func gradientsEqualTheTape(_ each: ModelCase, mode: Recipe.Recomputation) throws {
        let got = try each.run(recomputation: mode)
        let (loss, gradient) = DoubleTransformer(table: each.table).lossAndGradient(doubles(each.weights), each.batch)
        #expect(abs(got.losses[0] - loss) < 1e-6 * loss)
        #expect(relativeError(got.gradients, gradient.map { $0 * Double(each.scale) }) < 1e-5)
    }

    /// Between the modes, for one to three threads, for whole batches and for micro-batches of which the last one
    /// is smaller, whose layers find the shared slots full of another task's values.
    @Test(arguments: TransformerTests.cases, modes)
    func bitsAreTheSame(_ each: ModelCase, mode: Recipe.Recomputation) throws {
        for microRows in Set([each.rows, max(1, each.rows - 1)]) {
            let kept = try each.run(microRows: microRows)
            for threads in 1...3 {
                let again = try each.run(threads: threads, microRows: microRows, recomputation: mode)
                #expect(again.losses == kept.losses, "\(threads) threads, \(microRows) rows")
                #expect(mismatch(again.gradients, kept.gradients) == nil, "\(threads) threads, \(microRows) rows")
            }
        }
    }

    /// Each mode takes the memory that its slots add up to, and less than the one before it.
    @Test(arguments: TransformerTests.cases) func theArenaFollows(_ each: ModelCase) throws {
        let pool = Pool(threads: 1)
        let capacities = try Self.modes.map { mode in
            let model = try Transformer(each.table, maxTokens: each.batch.inputs.count, sequence: each.batch.sequence,
                                        pool: pool, recomputation: mode)
            #expect(model.arena.used == model.arena.capacity)
            return model.arena.capacity
        }
        if each.table.shape.layers > 1 {
            #expect(capacities[0] > capacities[1] && capacities[1] > capacities[2])
        } else {
            #expect(Set(capacities).count == 1)
        }
    }
}
