import Model
import Recipe
import Tensor
import Testing

/// The plan's sizes and the arenas are reckoned in two rooms; here they meet.
@Suite struct PlannedArenaTests {
    @Test(arguments: TransformerTests.cases, Recipe.Recomputation.allCases)
    func thePlanIsTheArena(_ each: ModelCase, mode: Recipe.Recomputation) throws {
        var recipe = Recipe()
        recipe.model = each.table.shape
        recipe.training.sequenceLength = each.batch.sequence
        recipe.activationCheckpoint.mode = mode
        for (rows, threads) in [(each.rows, 1), (7, 3)] {
            recipe.training.localBatchSize = rows
            recipe.training.threads = threads
            let setting = MemoryPlan.Setting(vocabulary: each.table.vocabulary, threads: 64, textBytes: 1,
                                             processBytes: 1)
            let pool = Pool(threads: threads, spin: false)
            defer { pool.close() }
            let model = try Transformer(each.table, maxTokens: rows * each.batch.sequence,
                                        sequence: each.batch.sequence, pool: pool, recomputation: mode)
            let parts = MemoryPlan(recipe, setting).components.filter {
                ["activations", "logits", "attention scratch", "head scratch", "rotary tables"].contains($0.name)
            }
            #expect(parts.count >= 4)
            #expect(parts.reduce(0) { $0 + $1.bytes } == 4 * model.arena.capacity, "\(rows) rows, \(threads) threads")
        }
    }

    /// The same where operands are quantised, with weights that stay packed from one micro-batch to the next and
    /// without.
    @Test(arguments: [Recipe.PrecisionRecipe.bf16, .fp8Hybrid, .fp8Paper, .mxfp8], [1, 4])
    func theQuantisedPlanIsTheArena(_ precision: Recipe.PrecisionRecipe, microBatches: Int) throws {
        let each = TransformerTests.cases[0]
        var recipe = Recipe()
        recipe.model = each.table.shape
        recipe.training.sequenceLength = each.batch.sequence
        (recipe.training.localBatchSize, recipe.training.globalBatchSize) = (2, 2 * microBatches)
        recipe.training.threads = 2
        recipe.precision.recipe = precision
        let keeps = recipe.keepsPackedWeights(worldSize: 1)
        #expect(keeps == (microBatches > 1))
        let setting = MemoryPlan.Setting(vocabulary: each.table.vocabulary, threads: 64, textBytes: 1, processBytes: 1)
        let pool = Pool(threads: 2, spin: false)
        defer { pool.close() }
        let model = try Transformer(each.table, maxTokens: 2 * each.batch.sequence, sequence: each.batch.sequence,
                                    pool: pool, formats: LinearFormats.of(recipe), keepsWeights: keeps)
        let names = ["activations", "logits", "attention scratch", "head scratch", "rotary tables", "quantisation"]
        let parts = MemoryPlan(recipe, setting).components.filter { names.contains($0.name) }
        #expect(parts.reduce(0) { $0 + $1.bytes } == 4 * model.arena.capacity)
    }
}
