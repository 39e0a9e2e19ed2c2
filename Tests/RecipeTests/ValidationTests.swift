import Recipe
import Testing

@Suite struct ValidationTests {
    @Test(arguments: [
        (["--model.n_heads", "5"], "--model.n_heads: model.n_heads = 5 does not divide model.dim = 192"),
        (["--model.dim", "100"], "--model.dim: model.n_heads = 6 does not divide model.dim = 100"),
        (["--model.dim", "18"], "--model.dim: model.n_heads: heads of 3 cannot be rotated in pairs"),
        (["--model.n_kv_heads", "4"], "--model.n_kv_heads: model.n_kv_heads = 4 does not divide model.n_heads = 6"),
        (["--model.n_kv_heads", "12"], "--model.n_kv_heads: model.n_kv_heads = 12 does not divide model.n_heads = 6"),
        (["--model.head_dim", "33"], "--model.head_dim: model.head_dim = 33: heads are rotated in pairs"),
        (["--model.rope_scaling", "llama3", "--model.rope_high_freq_factor", "1"],
         "--model.rope_high_freq_factor: model.rope_high_freq_factor = 1.0 must be more than"),
        (["--training.max_tokens_per_task", "255"],
         "--training.max_tokens_per_task: training.max_tokens_per_task = 255 is less than one row; "
            + "make it at least training.seq_len = 256"),
        (["--comm.port_range", "80"], "--comm.port_range: comm.port_range = \"80\" is no range of ports"),
        (["--comm.port_range", "9-8"], "--comm.port_range: comm.port_range = \"9-8\" is no range of ports"),
        (["--comm.port_range", "0-70000"], "--comm.port_range: comm.port_range = \"0-70000\" is no range of ports"),
        (["--comm.interface", "eth0", "--comm.bind", "::1"],
         "--comm.interface: comm.interface = \"eth0\" and comm.bind"),
        (["--job.name", ""], "--job.name: job.name = \"\" cannot name a folder"),
        (["--job.name", "a/b"], "--job.name: job.name = \"a/b\" cannot name a folder"),
        (["--job.name", ".."], "--job.name: job.name = \"..\" cannot name a folder"),
        (["--job.name", "a b"], "--job.name: job.name = \"a b\" cannot name a folder"),
        (["--metrics.enable_tensorboard", "--metrics.save_tb_folder", "a/b"],
         "--metrics.save_tb_folder: metrics.save_tb_folder = \"a/b\" cannot name a folder"),
        (["--metrics.prometheus", "x.txt"], "--metrics.prometheus: metrics.prometheus = \"x.txt\" must end in .prom"),
        (["--job.name", "ä"], "--job.name: job.name = \"ä\" cannot name a folder"),
    ]) func whatDoesNotFitTogether(flags: [String], start: String) {
        let line = refusal(flags: flags)
        #expect(line?.hasPrefix(start) == true, "\(line ?? "accepted")")
    }

    /// The file's line is told for what the file said.
    @Test func theLineOfAMisfit() {
        #expect(refusal(text: "[model]\ndim = 64\nn_heads = 7\n")
            == "x.toml:3: model.n_heads = 7 does not divide model.dim = 64")
    }

    /// Whatever the heads, a recipe is accepted exactly when the model can be built.
    @Test func headsOfAllKinds() {
        for dim in 2...26 {
            for heads in 1...8 {
                for keyHeads in 0...8 {
                    let fits = dim % heads == 0 && dim / heads % 2 == 0 && (keyHeads == 0 || heads % keyHeads == 0)
                    let line = refusal(flags: ["--model.dim=\(dim)", "--model.n_heads=\(heads)",
                                               "--model.n_kv_heads=\(keyHeads)"])
                    #expect((line == nil) == fits, "\(dim) / \(heads) / \(keyHeads): \(line ?? "accepted")")
                }
            }
        }
    }

    @Test func rows() throws {
        func recipe(_ flags: String...) throws -> Recipe { try ResolvedRecipe.load(file: nil, flags: flags).recipe }
        let plain = try recipe("--training.local_batch_size=6")
        #expect(plain.rowsPerTask == 6)
        #expect(plain.rowsPerStep(worldSize: 4) == 24)
        let capped = try recipe("--training.local_batch_size=6", "--training.seq_len=100",
                                "--training.max_tokens_per_task=399", "--training.global_batch_size=18")
        #expect(capped.rowsPerTask == 3)
        #expect(capped.rowsPerStep(worldSize: 4) == 18)
        #expect(try recipe("--training.local_batch_size=2", "--training.max_tokens_per_task=100000").rowsPerTask == 2)
    }

    /// Warm-up rises in equal steps to the peak; each decay starts there and ends at its floor in the last step.
    @Test(arguments: Recipe.Decay.allCases, [0, 1, 10]) func learningRates(decay: Recipe.Decay, warmup: Int) {
        var recipe = Recipe()
        recipe.training.steps = 101 + warmup
        recipe.optimizer.learningRate = 0.5
        recipe.schedule.warmupSteps = warmup
        recipe.schedule.decay = decay
        recipe.schedule.minimumFactor = 0.2
        func near(_ a: Double, _ b: Double) -> Bool { abs(a - b) < 1e-12 }
        for step in 0..<warmup { #expect(near(recipe.learningRate(at: step), 0.5 * Double(step + 1) / Double(warmup))) }
        #expect(near(recipe.learningRate(at: warmup), 0.5))
        let (last, middle, quarter) = (recipe.learningRate(at: warmup + 100), recipe.learningRate(at: warmup + 50),
                                       recipe.learningRate(at: warmup + 25))
        switch decay {
        case .none:
            #expect([last, middle, quarter] == [0.5, 0.5, 0.5])
        case .linear:
            #expect(near(last, 0.1) && near(middle, 0.3) && near(quarter, 0.4))
        case .cosine:
            #expect(near(last, 0.1) && near(middle, 0.3) && near(quarter, 0.1 + 0.4 * (2 + 2.0.squareRoot()) / 4))
        }
        // Past the end it stays, and it never rises after the warm-up.
        #expect(near(recipe.learningRate(at: warmup + 500), last))
        for step in warmup..<(warmup + 100) {
            #expect(recipe.learningRate(at: step + 1) <= recipe.learningRate(at: step))
        }
    }

    /// With a share of the steps to decay in, the rate stands still until then whatever the end, and what comes before
    /// the decay does not change when the end is moved.
    @Test(arguments: Recipe.Decay.allCases) func theEndCanBeMoved(decay: Recipe.Decay) {
        var short = Recipe()
        short.training.steps = 1000
        short.schedule.warmupSteps = 10
        short.schedule.decay = decay
        short.schedule.decayRatio = 0.2
        var long = short
        long.training.steps = 4000
        for step in 0..<800 { #expect(short.learningRate(at: step) == long.learningRate(at: step), "\(step)") }
        #expect(short.learningRate(at: 800) == short.optimizer.learningRate)
        let last = short.learningRate(at: 999) / short.optimizer.learningRate
        #expect(abs(last - (decay == .none ? 1 : 0.1)) < 1e-12)
        #expect(decay == .none || short.learningRate(at: 801) < short.optimizer.learningRate)
        // No share: no decay. A share that reaches into the warm-up: all after it, as without one.
        short.schedule.decayRatio = 0
        #expect(short.learningRate(at: 999) == short.optimizer.learningRate)
        var (whole, nearly) = (long, long)
        (whole.schedule.decayRatio, nearly.schedule.decayRatio) = (1, 0.999)
        for step in stride(from: 0, to: 4000, by: 97) {
            #expect(whole.learningRate(at: step) == nearly.learningRate(at: step))
        }
    }

    @Test func theShortestRuns() {
        for steps in 1...3 {
            for warmup in 0...steps {
                var recipe = Recipe()
                recipe.training.steps = steps
                recipe.schedule.warmupSteps = warmup
                for step in 0..<steps {
                    let rate = recipe.learningRate(at: step)
                    #expect(rate > 0 && rate <= recipe.optimizer.learningRate)
                }
            }
        }
    }
}
