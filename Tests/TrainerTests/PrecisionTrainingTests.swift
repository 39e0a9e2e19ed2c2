import Collectives
import Foundation
import Recipe
import Tensor
import Testing
import Trainer

/// Whole runs in few bits: the same weights for any number of threads, after a stop, and, up to rounding, on several
/// ranks.
@Suite struct PrecisionTrainingTests {
    static let recipes: [[String]] = [
        ["bf16"], ["fp8-hybrid"], ["fp8-block"], ["mxfp8"], ["fp8-paper"],
        ["fp8-hybrid", "--precision.smooth_swiglu", "token"],
        ["custom", "--precision.forward_input", "E3M4 row free", "--precision.weight_gradient_output",
         "E5M2 delayed stochastic", "--precision.input_gradient_output", "INT8 1x16", "--precision.amax_history", "3"],
    ]

    private func flags(_ recipe: [String]) -> [String] { ["--precision.recipe"] + recipe }

    private func weights(_ resolved: ResolvedRecipe, steps: Int, path: DotPath = .best) throws
        -> (bits: [UInt32], losses: [Double]) {
        let pool = Pool(threads: resolved.recipe.training.threads)
        defer { pool.close() }
        let runner = try StepRunner(recipe: resolved.recipe, corpus: openCorpus(resolved.recipe), pool: pool,
                                    path: path)
        runner.state.weights.initialize(seed: resolved.recipe.debug.seed)
        let losses = try (0..<steps).map { try runner.run(step: $0).loss }
        return (runner.state.weights.flat.array.map(\.bitPattern), losses)
    }

    /// Threads change no bit; another recipe does; and the run learns nearly what fp32 learns.
    @Test(arguments: recipes) func threadsGiveTheSameWeights(recipe: [String]) throws {
        let sandbox = try Sandbox()
        let one = try weights(sandbox.recipe(flags(recipe)), steps: 10)
        for threads in ["2", "3"] {
            let other = try weights(sandbox.recipe(flags(recipe) + ["--training.threads", threads]), steps: 10)
            #expect(other.bits == one.bits, "\(threads) threads")
        }
        let exact = try weights(sandbox.recipe(), steps: 10)
        #expect(exact.bits != one.bits)
        #expect(abs(exact.losses[9] - one.losses[9]) < 0.05, "\(one.losses[9]) for \(exact.losses[9])")
        #expect(one.losses[9] < one.losses[0] - 0.5)
    }

    /// Ranks with and without AVX512_BF16 may train together: the portable path has the bits of the instruction, or,
    /// where this CPU has none, of its model; 20 steps, attention included.
    @Test(arguments: recipes) func pathsGiveTheSameWeights(recipe: [String]) throws {
        let sandbox = try Sandbox(), resolved = try sandbox.recipe(flags(recipe))
        let own = try weights(resolved, steps: 20)
        let other = try weights(resolved, steps: 20, path: DotPath.best == .portable ? .model : .portable)
        #expect(other.bits == own.bits && other.losses == own.losses)
    }

    /// Weights that stay packed over the micro-batches of a step are those that are packed for each: every path but the
    /// portable one keeps them.
    @Test(arguments: recipes) func keptWeightsAreThePackedOnes(recipe: [String]) throws {
        let sandbox = try Sandbox()
        let resolved = try sandbox.recipe(flags(recipe) + ["--training.local_batch_size", "2",
                                                           "--training.global_batch_size", "8"])
        #expect(resolved.recipe.keepsPackedWeights(worldSize: 1))
        let packed = try weights(resolved, steps: 6, path: .portable)
        let kept = try weights(resolved, steps: 6, path: DotPath.best == .portable ? .model : .best)
        #expect(kept.bits == packed.bits && kept.losses == packed.losses)
    }

    /// From the third step on none asks the system for memory. In a process of its own, since allocations are counted
    /// for all threads.
    @Test func stepsAllocateNothing() async {
        await #expect(processExitsWith: .success) {
            let sandbox = try Sandbox()
            for recipe in PrecisionTrainingTests.recipes {
                let resolved = try sandbox.recipe(["--precision.recipe"] + recipe)
                let pool = Pool(threads: 1)
                defer { pool.close() }
                let runner = try StepRunner(recipe: resolved.recipe, corpus: openCorpus(resolved.recipe), pool: pool)
                runner.state.weights.initialize(seed: 1)
                for step in 0..<3 { _ = try runner.run(step: step) }
                let calls = try countAllocations { _ = try runner.run(step: 3) }
                precondition((calls ?? 0) == 0, "\(recipe): \(calls ?? 0) allocations")
            }
        }
    }

    /// Stopped, resumed and finished in another process's memory: the same files to the byte. The stop lies within the
    /// first round of the delayed scales' history.
    @Test(arguments: recipes) func resumedRunEqualsTheUninterruptedOne(recipe: [String]) throws {
        let sandbox = try Sandbox()
        let all = flags(recipe) + ["--training.steps", "20"]
        let silence = unsafe open("/dev/null", O_WRONLY)
        defer { close(silence) }
        try TrainingRun(sandbox.recipe(all + ["--job.name", "whole"]), output: silence).run()
        try TrainingRun(sandbox.recipe(all + ["--job.name", "halves"]), stopAfter: 9, output: silence).run()
        try TrainingRun(sandbox.recipe(all + ["--job.name", "halves", "--checkpoint.load", "latest",
                                              "--training.threads", "2"]), output: silence).run()
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let both = try ["whole", "halves"].map {
                try Data(contentsOf: URL(fileURLWithPath: "\(sandbox.path)/\($0)/checkpoint/step-20/\(file)"))
            }
            #expect(both[0] == both[1], "\(file)")
        }
    }

    /// A checkpoint without scales is none that a run with delayed ones could go on from, and the other way round.
    @Test func anotherRecipeIsRefused() throws {
        let sandbox = try Sandbox()
        let silence = unsafe open("/dev/null", O_WRONLY)
        defer { close(silence) }
        func run(_ recipe: String, _ more: [String]) throws {
            try TrainingRun(sandbox.recipe(["--precision.recipe", recipe, "--training.steps", "2"] + more),
                            output: silence).run()
        }
        try run("fp32", ["--job.name", "fp32"])
        try run("fp8-hybrid", ["--job.name", "fp8"])
        for (recipe, name) in [("fp8-hybrid", "fp32"), ("fp32", "fp8")] {
            let error = #expect(throws: (any Error).self) {
                try run(recipe, ["--job.name", name, "--checkpoint.load", "latest", "--training.steps", "4"])
            }
            #expect(error.map { "\($0)" }?.contains("precision.delayed_scales") == true, "\(String(describing: error))")
        }
    }

    /// Two ranks, at each stage of ZeRO, train as one does up to rounding. A flipped rounding moves an operand by a
    /// step of its format, so this is less than fp32 promises; current scales are those of other micro-batches.
    @Test(arguments: recipes, ["0", "1", "2", "3"]) func twoRanksTrainAsOne(recipe: [String], zero: String) throws {
        let sandbox = try Sandbox()
        let alone = try ShardedTrainingTests.train(sandbox, ranks: 1, steps: 8, flags(recipe))
        let shared = try ShardedTrainingTests.train(sandbox, ranks: 2, steps: 8,
                                                    flags(recipe) + ["--parallelism.zero", zero])
        for (own, one) in zip(shared.losses, alone.losses) { #expect(abs(own - one) < 3e-3, "\(own) for \(one)") }
        #expect(ShardedTrainingTests.distance(shared.weights, alone.weights) < 2e-2)
    }

    /// Where sums follow one tree, several ranks give the bits of one: scales that look back are all ranks', current
    /// ones belong to a micro-batch, and random numbers to a row of the step.
    @Test(arguments: recipes) func reproducibleAtAnyWorldSize(recipe: [String]) throws {
        let sandbox = try Sandbox()
        let all = flags(recipe) + ["--training.reproducible", "true"]
        let alone = try ShardedTrainingTests.train(sandbox, ranks: 1, steps: 6, all)
        for (ranks, zero) in [(2, "3"), (4, "1")] {
            let shared = try ShardedTrainingTests.train(sandbox, ranks: ranks, steps: 6,
                                                        all + ["--parallelism.zero", zero])
            #expect(shared.weights.map(\.bitPattern) == alone.weights.map(\.bitPattern), "\(ranks) ranks")
            #expect(shared.losses == alone.losses)
        }
    }
}
