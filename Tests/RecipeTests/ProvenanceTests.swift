import Recipe
import Testing

@Suite struct ProvenanceTests {
    /// Defaults, then the file, then flags; the last word wins and says where it came from.
    @Test func laterWordsWin() throws {
        let text = "[training]\nsteps = 7\nseq_len = 64\n"
        let resolved = try ResolvedRecipe.load(
            text: text, name: "x.toml",
            flags: ["--training.steps", "90", "--lr_scheduler.warmup_steps=1_0", "--training.steps=80"])
        #expect(resolved.recipe.training.steps == 80)
        #expect(resolved.recipe.training.sequenceLength == 64)
        #expect(resolved.recipe.schedule.warmupSteps == 10)
        #expect("\(resolved.origin("training.steps"))" == "--training.steps")
        #expect("\(resolved.origin("training.seq_len"))" == "x.toml:3")
        #expect("\(resolved.origin("model.dim"))" == "default")
    }

    /// nanoGPT's names, in a file's top level and as flags: the value arrives, the translation is told.
    @Test func aliases() throws {
        for (alias, name) in Recipe.aliases {
            let key = try #require(Recipe.keys.first { $0.name == name }, "\(alias) names no key")
            #expect(!Recipe.keys.contains { $0.name == alias })
            let value = otherValue(key)
            let file = try ResolvedRecipe.load(text: "\n\(alias) = \(value.toml)\n", name: "x.toml")
            #expect(key.read(file.recipe) == value)
            #expect(file.origin(name) == .file(path: "x.toml", line: 2))
            #expect(file.translations == ["\(alias) (nanoGPT's name) is \(name)"])
            let flag = try ResolvedRecipe.load(file: nil, flags: ["--\(alias)", typed(value)])
            #expect(key.read(flag.recipe) == value)
            #expect(flag.origin(name) == .flag("--\(alias)"))
            #expect(flag.translations == file.translations)
        }
    }

    /// A whole config of nanoGPT's, as it would be typed.
    @Test func aNanoGPTConfig() throws {
        let text = """
            n_layer = 6
            n_head = 6
            n_embd = 384
            block_size = 256
            batch_size = 64
            learning_rate = 1e-3
            max_iters = 5000
            warmup_iters = 100
            grad_clip = 1
            beta2 = 0.99
            """
        let resolved = try ResolvedRecipe.load(text: text, name: "train.toml")
        #expect(resolved.recipe.model.layers == 6)
        #expect(resolved.recipe.model.headDim == 64)
        #expect(resolved.recipe.training.steps == 5_000)
        #expect(resolved.recipe.optimizer.beta2 == 0.99)
        #expect(resolved.translations.count == 10)
    }
}
