import Recipe
import Testing

@Suite struct MemoryPlanTests {
    private static let setting = MemoryPlan.Setting(vocabulary: 257, threads: 2, textBytes: 10_000,
                                                    processBytes: 20 << 20)

    private func recipe(_ flags: String...) throws -> Recipe { try ResolvedRecipe.load(file: nil, flags: flags).recipe }

    /// The default recipe by hand: 8 rows of 256 tokens, width 192, 4 layers of 6 heads of 32, hidden width 512.
    @Test func componentsByHand() throws {
        let plan = MemoryPlan(try recipe(), Self.setting)
        let bytes = Dictionary(uniqueKeysWithValues: plan.components.map { ($0.name, $0.bytes) })
        let parameters = 4 * (2 * 257 * 192 + 192 + 4 * (4 * 192 * 192 + 3 * 192 * 512 + 2 * 192))
        #expect(bytes["parameters"] == parameters)
        #expect(bytes["gradients"] == parameters)
        #expect(bytes["moments"] == 2 * parameters)
        #expect(bytes["logits"] == 4 * 2_048 * 257)
        #expect(bytes["rotary tables"] == 4 * 256 * 32)
        // A worker packs five copies of one head's rows, holds four blocks of 64 rows, two of 64 x 64, three columns.
        #expect(bytes["attention scratch"] == 2 * 4 * (5 * 256 * 32 + 3 * 128 * 32 + 2 * 128 * 64 + 17 * 128))
        #expect(bytes["data"] == 10_000)
        #expect(bytes["batches"] == 12 * 2_048)
        let slots = plan.components.first { $0.name == "activations" }?.slots ?? []
        #expect(slots.first { $0.name == "qkv" }?.bytes == 4 * 4 * 2_048 * 576)
        #expect(slots.reduce(0) { $0 + $1.bytes } == bytes["activations"])
        #expect(plan.peakBytes == plan.components.reduce(0) { $0 + $1.bytes })
        #expect(plan.neededBytes == plan.peakBytes - (20 << 20))
    }

    /// What eight bits need beside fp32's memory lies in the logits', as far as that goes: no more is held at once.
    @Test(arguments: ["1", "2"]) func eightBitsTakeNoMoreThanFloats(threads: String) throws {
        func plan(_ recipe: String) throws -> MemoryPlan {
            let model = ["--model.dim", "512", "--model.n_layers", "8", "--model.n_heads", "8", "--model.ffn_dim",
                         "1408"]
            let flags = model + ["--training.seq_len", "1024", "--training.local_batch_size", "4",
                                 "--training.threads", threads, "--precision.recipe", recipe]
            return MemoryPlan(try ResolvedRecipe.load(file: nil, flags: flags).recipe, Self.setting)
        }
        let floats = try plan("fp32"), bits = try plan("fp8-hybrid")
        #expect(bits.peakBytes <= floats.peakBytes, "\(bits.peakBytes) for \(floats.peakBytes)")
        #expect(bits.components.contains { $0.name == "quantisation" })
        // All that does not fit stays where it was.
        let some = BorrowedLogits(logits: 1_000, attention: 700, tiles: 400)
        #expect(some == BorrowedLogits(logits: 1_000, attention: 700, tiles: 0) && some.tilesStart == 704)
        #expect(BorrowedLogits(logits: 1_000, attention: 1_001, tiles: 400).tiles == 400)
        let behind = BorrowedLogits(logits: 1_000, taken: 290, attention: 300, tiles: 392)
        #expect(behind.attention == 300 && behind.tilesStart == 608 && behind.tiles == 392)
        #expect(BorrowedLogits(logits: 1_000, taken: 290, attention: 300, tiles: 393).tiles == 0)
    }

    /// More micro-batches take more batches and nothing else; a smaller task takes less of all that tokens need.
    @Test func tasksAndBatches() throws {
        func bytes(_ name: String, _ flags: String...) throws -> Int {
            let recipe = try ResolvedRecipe.load(file: nil, flags: flags).recipe
            return MemoryPlan(recipe, Self.setting).components.first { $0.name == name }?.bytes ?? -1
        }
        for name in ["parameters", "gradients", "moments", "activations", "logits", "attention scratch", "data"] {
            #expect(try bytes(name) == bytes(name, "--training.global_batch_size", "40"), "\(name)")
        }
        #expect(try bytes("batches", "--training.global_batch_size", "40") == 5 * bytes("batches"))
        #expect(try bytes("batches", "--training.global_batch_size", "41") == 6 * bytes("batches"))
        let small = ["--training.max_tokens_per_task", "512"]
        #expect(try bytes("batches", small[0], small[1]) == bytes("batches"))
        #expect(try bytes("logits", small[0], small[1]) == bytes("logits") / 4)
        #expect(try bytes("attention scratch", "--training.threads", "4") == 2 * bytes("attention scratch"))
    }

    /// A corpus larger than the model peaks while it is read: its file is mapped and copied.
    @Test func readingCanBeThePeak() throws {
        var setting = Self.setting
        setting.textBytes = 10 << 30
        let plan = MemoryPlan(try recipe(), setting)
        #expect(plan.peakBytes == plan.readingBytes)
        #expect(plan.readingBytes > 20 << 30)
        setting.vocabulary = 50_257
        #expect(MemoryPlan(try recipe(), setting).components.first { $0.name == "data" }!.bytes < 8 << 30)
    }

    /// A model smaller than the measurement of the machine peaks there: nine matrices of 4 MiB for four threads.
    @Test func measuringCanBeThePeak() throws {
        var setting = Self.setting
        setting.threads = 4
        let plan = MemoryPlan(try recipe("--model.dim", "12", "--training.seq_len", "16"), setting)
        #expect(plan.peakBytes == plan.measuringBytes)
        #expect(plan.measuringBytes - plan.processBytes - 10_000 >= 9 * 4 << 20)
        #expect(plan.measuringBytes - plan.processBytes - 10_000 < 14 * 4 << 20)
    }

    /// Each remedy's saving is what the plan says with the remedy as a flag, and there is no better single change
    /// among those that are tried.
    @Test(arguments: [
        [], ["--training.local_batch_size", "1", "--training.seq_len", "8192"], ["--model.dim", "1536"],
        ["--training.local_batch_size", "64", "--activation_checkpoint.mode", "full"],
        ["--training.local_batch_size", "2", "--training.seq_len", "8192", "--data.layout", "decompose"],
        ["--training.local_batch_size", "4", "--training.seq_len", "2048", "--data.layout", "best_fit"],
        ["--training.global_batch_size", "48", "--training.length_warmup", "truncate"],
    ], [1, 2, 3, 8]) func remediesSaveWhatTheySay(_ flags: [String], ranks: Int) throws {
        let before = try ResolvedRecipe.load(file: nil, flags: flags).recipe
        var setting = Self.setting
        setting.ranks = ranks
        setting.communicationBytes = ranks > 1 ? 8 << 20 : 0
        let remedies = MemoryPlan.remedies(before, setting)
        #expect(remedies.count == 3)
        #expect(remedies.map(\.savedBytes) == remedies.map(\.savedBytes).sorted(by: >))
        #expect(Set(remedies.map(\.key)).count == 3)
        let peak = MemoryPlan(before, setting).peakBytes
        for remedy in remedies {
            let after = try ResolvedRecipe.load(file: nil, flags: flags + ["--\(remedy.key)", remedy.value]).recipe
            try after.requireRows(worldSize: ranks)
            let saved = peak - MemoryPlan(after, setting).peakBytes
            // Halving the rows' length keeps their number by a cap on the task, which the flag alone does not set.
            #expect(saved == remedy.savedBytes || remedy.key == "training.seq_len", "\(remedy)")
        }
    }

    @Test func keepingNothingComesFirstWhereActivationsRule() throws {
        let recipe = try recipe("--training.local_batch_size", "64", "--model.n_layers", "24")
        #expect(MemoryPlan.remedies(recipe, Self.setting)[0].key == "activation_checkpoint.mode")
        #expect(MemoryPlan.remedies(recipe, Self.setting)[0].value == "full")
    }

    @Test func refusals() throws {
        let recipe = try recipe("--training.local_batch_size", "64")
        let plan = MemoryPlan(recipe, Self.setting)
        try plan.require(recipe, Self.setting, available: plan.neededBytes, limit: "this machine")
        do {
            try plan.require(recipe, Self.setting, available: plan.neededBytes - 1, limit: "the cgroup")
            Issue.record("accepted")
        } catch {
            #expect(error.kind.exitCode == 2)
            #expect(!error.description.contains("\n"))
            #expect(error.description.contains("the cgroup leaves"))
            for remedy in MemoryPlan.remedies(recipe, Self.setting) {
                #expect(error.description.contains("--\(remedy.key) \(remedy.value) saves"))
            }
        }
    }

    /// What fits no machine is refused by name before anything is multiplied out.
    @Test func sizesThatOverflow() {
        #expect(refusal(flags: ["--training.seq_len", "16777216", "--training.local_batch_size", "1000000"])?
            .contains("training.max_tokens_per_task") == true)
        #expect(refusal(flags: ["--model.dim", "65536", "--model.n_layers", "1000", "--model.n_heads", "1024",
                                "--model.ffn_dim", "1048576", "--training.seq_len", "16777216",
                                "--training.local_batch_size", "100"])?.contains("model.n_layers") == true)
    }

    /// Selective computes the fused gate and up projection again in all layers but the last; full also the norms,
    /// projections and scores of attention.
    @Test func theCostOfAStep() throws {
        let shape = ["--model.dim", "192", "--training.global_batch_size", "8"]
        func cost(_ mode: String) throws -> StepCost {
            let flags = shape + ["--activation_checkpoint.mode", mode]
            return StepCost(try ResolvedRecipe.load(file: nil, flags: flags).recipe, vocabulary: 257)
        }
        let (none, selective, full) = (try cost("none"), try cost("selective"), try cost("full"))
        #expect(none.tokens == 2_048)
        #expect(none.recomputedFlops == 0)
        #expect(selective.recomputedFlops == Double(3 * 2_048 * 2 * 1_024 * 192))
        // Four products of 192 x 192, and scores and sums over a mean of 128 tokens.
        let attention: Double = 294_912 + 98_304
        #expect(full.recomputedFlops - selective.recomputedFlops == 3 * 2_048 * attention)
        #expect(none.modelFlops == selective.modelFlops && none.modelFlops == full.modelFlops)
        #expect(abs(none.seconds(atGflops: 100) - none.modelFlops / 1e11) < 1e-12)
    }

    /// A quantised step leaves the head in fp32, and attention where its operands are not bf16: that runs at another
    /// rate.
    @Test(arguments: [("fp32", 0, 0), ("bf16", 1, 0), ("fp8-hybrid", 1, 0), ("fp8-paper", 1, 1), ("mxfp8", 1, 1)])
    func theCostInFewBits(name: String, head: Int, attention: Int) throws {
        let cost = StepCost(try recipe("--precision.recipe", name), vocabulary: 257), tokens = Double(cost.tokens)
        let exact = tokens * Double(head * 6 * 257 * 192 + attention * 12 * 4 * 192 * 128)
        #expect(cost.exactFlops == (name == "fp32" ? cost.modelFlops : exact))
        let seconds = (cost.modelFlops - cost.exactFlops) / 4e11 + cost.exactFlops / 2e11
        #expect(abs(cost.seconds(atGflops: 400, exact: 200) - seconds) < 1e-12)
    }

    /// Two measurements give a layer's line; a step is its layers, what of them is computed again, and the head.
    @Test func theCostByALayer() throws {
        let layer = LayerTime((16, 5e-6), (128, 12e-6))
        #expect(abs(layer.perContext - 6.25e-8) < 1e-18 && abs(layer.perToken - 4e-6) < 1e-18)
        #expect(abs(layer.seconds(context: 64) - 8e-6) < 1e-18)
        // A disturbed measurement makes no token faster by what it looks back at.
        #expect(LayerTime((16, 5e-6), (128, 4e-6)) == LayerTime(perToken: 4e-6, perContext: 0))
        #expect(LayerTime((1, 5e-6), (1, 4e-6)) == LayerTime(perToken: 4e-6, perContext: 0))
        for (mode, ranks) in [("none", 1), ("none", 3), ("full", 1), ("selective", 2)] {
            let recipe = try recipe("--activation_checkpoint.mode", mode, "--training.global_batch_size", "8")
            let cost = StepCost(recipe, vocabulary: 257, ranks: ranks), tokens = Double(cost.tokens)
            let layers = (cost.modelFlops / tokens - Double(6 * 257 * 192))
            let again = 1 + cost.recomputedFlops / tokens / layers
            let own = 4 * layer.seconds(context: 128) * again + Double(6 * 257 * 192) / 1e11
            let seconds = cost.seconds(layer: layer, rate: 100)
            #expect(abs(seconds - own * Double(cost.largestShare)) < 1e-9 * seconds)
            let flops = (cost.modelFlops + cost.recomputedFlops) * Double(cost.largestShare) / tokens
            #expect(abs(cost.gflops(seconds: seconds) * seconds * 1e9 - flops) < 1e-9 * flops)
        }
    }

    /// Ranks bring rows of their own or share what there is; the largest share takes the time. Attention costs what
    /// tokens look back at: 12 operations a layer, a channel and a token.
    @Test func theCostForRanksAndContexts() throws {
        let own = try recipe()
        let alone = StepCost(own, vocabulary: 257)
        #expect(alone.largestShare == alone.tokens && alone.lastTask == alone.tokens && alone.context == 128)
        for ranks in 1...9 {
            let cost = StepCost(own, vocabulary: 257, ranks: ranks)
            #expect(cost.tokens == ranks * alone.tokens && cost.largestShare == alone.tokens)
            #expect(abs(cost.seconds(atGflops: 50) - alone.seconds(atGflops: 50)) < 1e-12)
            let shared = StepCost(try recipe("--training.global_batch_size", "9"), vocabulary: 257, ranks: ranks)
            let rows = (9 + ranks - 1) / ranks
            #expect(shared.tokens == 9 * 256 && shared.largestShare == rows * 256)
            #expect(shared.lastTask == (rows == 9 ? 1 : rows) * 256)
            #expect(abs(shared.seconds(atGflops: 50) * 8 - alone.seconds(atGflops: 50) * Double(rows)) < 1e-12)
        }
        let short = StepCost(own, vocabulary: 257, context: 28)
        #expect(alone.modelFlops - short.modelFlops == Double(2_048 * 12 * 4 * 192 * 100))
        let full = try recipe("--activation_checkpoint.mode", "full")
        let saved = StepCost(full, vocabulary: 257).recomputedFlops
            - StepCost(full, vocabulary: 257, context: 28).recomputedFlops
        #expect(saved == Double(2_048 * 4 * 3 * 192 * 100))
    }
}
