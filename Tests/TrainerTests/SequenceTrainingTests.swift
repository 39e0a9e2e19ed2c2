import Base
import Collectives
import Parallel
import Recipe
import Simulation
import Tensor
import Testing
import Trainer

/// Training in which ranks share sequences: the model, the data and the optimizer as in a run, ranks as threads.
@Suite struct SequenceTrainingTests {
    private static func context(_ degree: Int, _ method: String) -> [String] {
        ["--parallelism.context_parallel_degree", "\(degree)", "--parallelism.context_parallel_method", method]
    }

    /// One rank's losses and weights, at every stage of ZeRO, for groups of every size that divides the ranks. There
    /// are 6 heads and 2 key/value heads, so that some groups get uneven shares.
    @Test(arguments: ["ulysses", "ring"], [1, 3]) func lossesAreThoseOfOneRank(method: String, stage: Int) throws {
        let sandbox = try Sandbox()
        let flags = ["--data.paths", sandbox.documents, "--parallelism.zero", "\(stage)"]
        let alone = try ShardedTrainingTests.train(sandbox, ranks: 1, steps: 10, flags)
        for (ranks, degree) in [(2, 2), (3, 3), (4, 2), (4, 4), (6, 2), (5, 5)] {
            let shared = try ShardedTrainingTests.train(sandbox, ranks: ranks, steps: 10,
                                                        flags + Self.context(degree, method))
            for (own, one) in zip(shared.losses, alone.losses) {
                #expect(abs(own - one) < 1e-5, "\(degree) of \(ranks) ranks")
            }
            for (own, one) in zip(shared.norms, alone.norms) { #expect(abs(own / one - 1) < 1e-4) }
            #expect(ShardedTrainingTests.distance(shared.weights, alone.weights) < 1e-4, "\(degree) of \(ranks) ranks")
        }
    }

    /// Where heads divide so that a layer makes one group of them while another is exchanged; and where they do, and
    /// products cannot be cut.
    @Test(arguments: [[], ["--activation_checkpoint.mode", "full"], ["--training.matmul", "openblas"],
                      ["--precision.recipe", "bf16"], ["--model.n_kv_heads", "4", "--training.threads", "2"]])
    func groupsOfHeads(flags: [String]) throws {
        let sandbox = try Sandbox(), isRounded = flags.contains("bf16")
        let flags = ["--data.paths", sandbox.documents, "--model.dim", "48", "--model.n_heads", "8",
                     "--model.n_kv_heads", "8", "--model.head_dim", "32"] + flags
        let alone = try ShardedTrainingTests.train(sandbox, ranks: 1, steps: 6, flags)
        for ranks in [2, 4] {
            let shared = try ShardedTrainingTests.train(sandbox, ranks: ranks, steps: 6,
                                                        flags + Self.context(ranks, "ulysses"))
            for (own, one) in zip(shared.losses, alone.losses) {
                #expect(abs(own - one) < (isRounded ? 3e-3 : 1e-5), "\(ranks) ranks: \(own) for \(one)")
            }
            #expect(ShardedTrainingTests.distance(shared.weights, alone.weights) < (isRounded ? 2e-2 : 1e-4))
        }
    }

    /// The other stages, recomputation, other optimizers, buckets of lengths, warm-ups, and documents that are not
    /// masked: whatever shapes a micro-batch.
    @Test(arguments: [
        ["--parallelism.zero", "0"], ["--parallelism.zero", "2"], ["--activation_checkpoint.mode", "full"],
        ["--activation_checkpoint.mode", "selective"], ["--optimizer.name", "muon"], ["--data.document_mask", "false"],
        ["--data.layout", "decompose", "--data.min_length", "8", "--training.seq_len", "64"],
        ["--training.length_warmup", "reshape", "--training.length_warmup_steps", "8", "--training.seq_len", "64"],
        ["--training.length_warmup", "window", "--training.length_warmup_steps", "8", "--training.seq_len", "64"],
    ]) func whateverShapesAStep(flags: [String]) throws {
        let sandbox = try Sandbox()
        let flags = ["--data.paths", sandbox.documents] + flags
        let alone = try ShardedTrainingTests.train(sandbox, ranks: 1, steps: 8, flags)
        for method in ["ulysses", "ring"] {
            let shared = try ShardedTrainingTests.train(sandbox, ranks: 4, steps: 8, flags + Self.context(4, method))
            for (own, one) in zip(shared.losses, alone.losses) { #expect(abs(own - one) < 1e-5, "\(method)") }
            #expect(ShardedTrainingTests.distance(shared.weights, alone.weights) < 2e-4, "\(method)")
        }
    }

    /// Groups of any ranks, as each step's plan says: the losses are one rank's all the same, for ranks that share
    /// everything, something or nothing, and also where rows are longer than a rank holds. Slow ranks share
    /// nearly all, fast ones what they must. At every stage of ZeRO: from 2 on ranks meet in each round of tasks.
    @Test(arguments: ["0.5", "50"], ["0", "1", "2", "3"])
    func plannedStepsAreThoseOfOneRank(gflops: String, stage: String) throws {
        let sandbox = try Sandbox()
        let flags = ["--data.paths", sandbox.documents, "--training.seq_len", "120", "--parallelism.zero", stage,
                     "--planner.gflops", gflops]
        let alone = try ShardedTrainingTests.train(sandbox, ranks: 1, steps: 8, flags)
        for (ranks, cap) in [(2, 240), (3, 60), (4, 40), (7, 20)] {
            let shared = try ShardedTrainingTests.train(sandbox, ranks: ranks, steps: 8, flags + [
                "--parallelism.context_parallel_degree", "auto",
                "--training.max_tokens_per_task", "\(cap)",
            ])
            for (own, one) in zip(shared.losses, alone.losses) { #expect(abs(own - one) < 1e-5, "\(ranks) ranks") }
            for (own, one) in zip(shared.norms, alone.norms) { #expect(abs(own / one - 1) < 1e-4) }
            #expect(ShardedTrainingTests.distance(shared.weights, alone.weights) < 1e-4, "\(ranks) ranks")
            #expect(abs(shared.heldOut - alone.heldOut) < 1e-5, "\(ranks) ranks")
        }
    }

    /// The same in few bits, up to roundings that flip, as other ways to share a step out differ.
    @Test(arguments: ["bf16", "mxfp8", "fp8-block"], ["1", "3"])
    func plannedStepsInFewBits(recipe: String, stage: String) throws {
        let sandbox = try Sandbox()
        let flags = ["--data.paths", sandbox.documents, "--training.seq_len", "120", "--parallelism.zero", stage,
                     "--precision.recipe", recipe]
        let alone = try ShardedTrainingTests.train(sandbox, ranks: 1, steps: 6, flags)
        for (ranks, cap) in [(2, 120), (4, 40)] {
            let shared = try ShardedTrainingTests.train(sandbox, ranks: ranks, steps: 6, flags + [
                "--parallelism.context_parallel_degree", "auto", "--training.max_tokens_per_task", "\(cap)",
            ])
            for (own, one) in zip(shared.losses, alone.losses) { #expect(abs(own - one) < 3e-3, "\(own) for \(one)") }
            #expect(ShardedTrainingTests.distance(shared.weights, alone.weights) < 2e-2)
        }
    }

    /// Rounds give a rank one task at a time, in order, and gradients go under a last task only where all its ranks
    /// are done with it.
    @Test func roundsAndFinalTasks() {
        func task(_ ranks: Int...) -> SequenceTask { SequenceTask(documents: [0..<1], ranks: ranks, method: .ring) }
        let tasks = [task(0, 1), task(2), task(1, 2), task(2), task(3)]
        let rounds = (0..<5).map { StepRounds(tasks, rank: $0) }
        #expect(rounds.map(\.own) == [[0], [0, 1], [0, 1, 2], [0], []])
        #expect(rounds.allSatisfy { $0.count == 3 })
        #expect(rounds.map(\.lastIsFinal) == [false, false, true, true, false])
    }

    /// Plans mix degrees, hold every document once, give ranks no more than they hold, and validation takes them too.
    @Test func plansMixDegrees() throws {
        let sandbox = try Sandbox()
        let resolved = try sandbox.recipe(["--data.paths", sandbox.documents, "--training.seq_len", "120",
                                           "--parallelism.context_parallel_degree", "auto",
                                           "--training.max_tokens_per_task", "40"])
        let results = onThreads(ranks: 4) { communicator -> [Double] in
            let runner = try StepRunner(recipe: resolved.recipe, corpus: openCorpus(resolved.recipe),
                                        pool: Pool(threads: 1),
                                        world: World(communicator, rank: communicator.rank, size: 4))
            try runner.state.initialize(seed: 3)
            let step = try runner.run(step: 0), held = try runner.validate(rows: 50)
            return [step.contextDegree ?? 0, step.plannedSeconds ?? 0, held.nats, Double(held.targets)]
        }
        let all = try results.map { try $0.get() }
        #expect(all.allSatisfy { $0 == all[0] })
        #expect(all[0][0] > 1 && all[0][0] < 4 && all[0][1] > 0)
        let alone = try sandbox.recipe(["--data.paths", sandbox.documents, "--training.seq_len", "120"])
        let runner = try StepRunner(recipe: alone.recipe, corpus: openCorpus(alone.recipe), pool: Pool(threads: 1))
        try runner.state.initialize(seed: 3)
        _ = try runner.run(step: 0)
        let held = try runner.validate(rows: 50)
        #expect(abs(all[0][2] / held.nats - 1) < 1e-5 && all[0][3] == Double(held.targets))
    }

    /// Another run has the same bits, since nothing depends on who comes first.
    @Test(arguments: ["ulysses", "ring"]) func bitsRepeat(method: String) throws {
        let sandbox = try Sandbox()
        let flags = ["--data.paths", sandbox.documents] + Self.context(2, method)
        let once = try ShardedTrainingTests.train(sandbox, ranks: 4, steps: 6, flags)
        let again = try ShardedTrainingTests.train(sandbox, ranks: 4, steps: 6, flags + ["--training.threads", "2"])
        #expect(once.weights.map(\.bitPattern) == again.weights.map(\.bitPattern))
        #expect(once.losses == again.losses)
    }

    /// A row may be longer than one rank holds: `training.max_tokens_per_task` is what each of the group holds. And
    /// what the held-out rows cost is the same.
    @Test func rowsThatNoRankHoldsAlone() throws {
        let sandbox = try Sandbox()
        let flags = ["--training.seq_len", "120", "--training.local_batch_size", "1"]
        func validated(_ ranks: Int, _ more: [String]) throws -> [Double] {
            let resolved = try sandbox.recipe(flags + more)
            let results = onThreads(ranks: ranks) { communicator -> [Double] in
                let runner = try StepRunner(recipe: resolved.recipe, corpus: openCorpus(resolved.recipe),
                                            pool: Pool(threads: 1),
                                            world: World(communicator, rank: communicator.rank, size: ranks))
                try runner.state.initialize(seed: 3)
                let loss = try runner.run(step: 0).loss
                let held = try runner.validate(rows: 5)
                return [loss, held.nats, Double(held.targets)]
            }
            return try results[0].get()
        }
        let alone = try validated(1, [])
        for method in ["ulysses", "ring"] {
            let shared = try validated(6, Self.context(3, method) + ["--training.max_tokens_per_task", "40"])
            #expect(abs(shared[0] - alone[0]) < 1e-5 && abs(shared[1] / alone[1] - 1) < 1e-6)
            #expect(shared[2] == alone[2])
        }
    }

    /// What a step sends is what was planned; with whole recomputation also the second forward.
    @Test(arguments: ["none", "full"]) func sentIsPlanned(mode: String) throws {
        let sandbox = try Sandbox()
        for method in ["ulysses", "ring"] {
            let resolved = try sandbox.recipe(Self.context(2, method) + [
                "--activation_checkpoint.mode", mode, "--data.document_mask", "false", "--training.seq_len", "64",
            ])
            let results = onThreads(ranks: 2) { communicator -> [Int] in
                let runner = try StepRunner(recipe: resolved.recipe, corpus: openCorpus(resolved.recipe),
                                            pool: Pool(threads: 1),
                                            world: World(communicator, rank: communicator.rank, size: 2))
                try runner.state.initialize(seed: 3)
                return try [runner.run(step: 0).sentBytes, runner.plannedBytes]
            }
            let both = try results.map { try $0.get() }
            let sent = both[0][0] + both[1][0], planned = both[0][1] + both[1][1]
            #expect(abs(Double(sent) / Double(planned) - 1) < 0.02, "\(method): \(sent) of \(planned)")
        }
    }

    /// So is what planned steps send, at every stage: from 2 on gradients travel in every round of tasks, and at 3 so
    /// do the weights.
    @Test(arguments: [0, 1, 2, 3]) func plannedStepsSendWhatIsPlanned(stage: Int) throws {
        let sandbox = try Sandbox()
        let resolved = try sandbox.recipe([
            "--parallelism.context_parallel_degree", "auto", "--planner.gflops", "1", "--training.seq_len", "64",
            "--training.max_tokens_per_task", "32", "--training.global_batch_size", "6",
            "--data.document_mask", "false", "--parallelism.zero", "\(stage)",
        ])
        let results = onThreads(ranks: 4) { communicator -> (sent: Int, planned: Int, rounds: Int) in
            let runner = try StepRunner(recipe: resolved.recipe, corpus: openCorpus(resolved.recipe),
                                        pool: Pool(threads: 1),
                                        world: World(communicator, rank: communicator.rank, size: 4))
            try runner.state.initialize(seed: 3)
            let result = try runner.run(step: 0)
            let plan = try #require(runner.plan)
            return (result.sentBytes, runner.plannedBytes + (result.plannedPlanBytes ?? 0),
                    StepRounds(plan.tasks, rank: 0).count)
        }
        let all = try results.map { try $0.get() }
        #expect(all[0].rounds > 1)
        let (sent, planned) = (all.reduce(0) { $0 + $1.sent }, all.reduce(0) { $0 + $1.planned })
        #expect(abs(Double(sent) / Double(planned) - 1) < 0.02, "\(sent) of \(planned)")
    }
}
