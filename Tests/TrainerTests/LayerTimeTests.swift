import Recipe
import Tensor
import Testing
import Trainer

/// A layer's time is a measurement, so what can be tested is that there is one for every kind of recipe, and that it is
/// not tried where there is no memory for it.
@Suite struct LayerTimeTests {
    @Test(arguments: [[], ["--precision.recipe", "fp8-paper"], ["--precision.recipe", "mxfp8"],
                      ["--training.seq_len", "8"], ["--training.matmul", "openblas"],
                      ["--model.dim", "64", "--model.n_heads", "4", "--model.n_kv_heads", "2"],
                      ["--training.seq_len", "48", "--training.local_batch_size", "3"]])
    func aLayerIsMeasured(flags: [String]) throws {
        let recipe = try ResolvedRecipe.load(file: nil, flags: flags).recipe
        let pool = Pool(threads: 2, spin: false)
        defer { pool.close() }
        let time = try #require(try LayerTime(of: recipe, pool: pool, memory: 4 << 30))
        #expect(time.perToken >= 0 && time.perContext >= 0 && time.seconds(context: 4) > 0)
        #expect(time.seconds(context: 64) < 0.1)
        #expect(try LayerTime(of: recipe, pool: pool, memory: 1 << 20) == nil)
    }
}
