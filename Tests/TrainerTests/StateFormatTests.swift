import Base
import Checkpoint
import Foundation
import Parallel
import Recipe
import Tensor
import Testing
import Trainer

/// Runs whose moments and weights are kept in few bits.
@Suite struct StateFormatTests {
    static let whole = ["--optimizer.moments", "fp8", "--optimizer.master_weights", "fp16"]
    static let kinds: [[String]] = [
        ["--optimizer.moments", "fp8"], ["--optimizer.moments", "fp8-nearest"], ["--optimizer.moments", "fp8-root"],
        ["--optimizer.moments", "fp8-fp16"], ["--optimizer.moments", "bf16"], ["--optimizer.master_weights", "fp16"],
        whole,
    ]

    /// Bit for bit the weights of one rank at every stage: blocks are never cut, and random numbers belong to places.
    @Test(arguments: ["adamw", "lamb", "sgd", "muon"]) func reproducibleAtAnyWorldSize(optimizer: String) throws {
        let sandbox = try Sandbox()
        let rate = ["sgd": "0.1", "lamb": "2e-2"][optimizer] ?? "5e-3"
        let flags = Self.whole + ["--training.reproducible", "true", "--optimizer.name", optimizer, "--optimizer.lr",
                                  rate]
        let alone = try ShardedTrainingTests.train(sandbox, ranks: 1, steps: 8, flags)
        #expect(alone.losses[7] < alone.losses[0] - 0.1)
        for ranks in [2, 4] {
            let layouts = ShardedTrainingTests.layouts
            for layout in optimizer == "adamw" ? layouts : [layouts[0], layouts[3]]
            where ranks == 4 || layout.count == 2 {
                let shared = try ShardedTrainingTests.train(sandbox, ranks: ranks, steps: 8, flags + layout)
                #expect(shared.weights.map(\.bitPattern) == alone.weights.map(\.bitPattern), "\(ranks) \(layout)")
                #expect(shared.losses == alone.losses, "\(ranks) \(layout)")
            }
        }
    }

    /// It learns nearly what fp32 learns, with other bits.
    @Test(arguments: kinds) func lossesAreNearThoseOfFloats(flags: [String]) throws {
        let sandbox = try Sandbox()
        let floats = try ShardedTrainingTests.train(sandbox, ranks: 1, steps: 20, [])
        let coded = try ShardedTrainingTests.train(sandbox, ranks: 1, steps: 20, flags)
        #expect(coded.weights.map(\.bitPattern) != floats.weights.map(\.bitPattern))
        #expect(abs(coded.losses[19] - floats.losses[19]) < 0.05, "\(coded.losses[19]) for \(floats.losses[19])")
    }

    /// Stopped, resumed and finished with another number of threads: the same files to the byte.
    @Test(arguments: kinds) func resumedRunEqualsTheUninterruptedOne(kind: [String]) throws {
        let sandbox = try Sandbox()
        let flags = kind + ["--training.steps", "16"], silence = unsafe open("/dev/null", O_WRONLY)
        defer { close(silence) }
        try TrainingRun(sandbox.recipe(flags + ["--job.name", "whole"]), output: silence).run()
        try TrainingRun(sandbox.recipe(flags + ["--job.name", "halves"]), stopAfter: 7, output: silence).run()
        try TrainingRun(sandbox.recipe(flags + ["--job.name", "halves", "--checkpoint.load", "latest",
                                                "--training.threads", "2"]), output: silence).run()
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let both = try ["whole", "halves"].map {
                try Data(contentsOf: URL(fileURLWithPath: "\(sandbox.path)/\($0)/checkpoint/step-16/\(file)"))
            }
            #expect(both[0] == both[1], "\(file)")
        }
    }

    /// Codes lie in a checkpoint as such, and whoever reads its weights gets floats; other formats are refused by name.
    @Test func checkpointsHoldCodes() throws {
        let sandbox = try Sandbox()
        let silence = unsafe open("/dev/null", O_WRONLY)
        defer { close(silence) }
        try TrainingRun(sandbox.recipe(Self.whole + ["--training.steps", "5", "--job.name", "coded"]),
                        output: silence).run()
        let path = sandbox.path + "/coded/checkpoint/step-5", name = "model.layers.0.mlp.up_proj.weight"
        let (checkpoint, _) = try Checkpoint.locate(path)
        func type(_ name: String) -> ElementType? { checkpoint.tensor(name)?.dtype }
        #expect(type(name) == .float16 && type("scale." + name) == .float32)
        #expect(type("momentum." + name) == .float8E4M3 && type("variance." + name) == .float8E5M2)
        #expect(checkpoint.tensor("variance_scale." + name)?.shape == [48 * 80 / 128])
        let bytes = try ["model", "optimizer"].map {
            try Data(contentsOf: URL(fileURLWithPath: "\(path)/\($0).safetensors")).count
        }
        #expect(Double(bytes[0] + bytes[1]) < 0.36 * 12 * Double(try LoadedModel(path: path).table.parameterCount)
            + 40_000)
        let error = #expect(throws: BadInput.self) {
            try TrainingRun(sandbox.recipe(["--training.steps", "9", "--job.name", "coded", "--checkpoint.load",
                                            "latest", "--optimizer.master_weights", "fp16"]), output: silence).run()
        }
        let line = error.map { "\($0)" } ?? ""
        #expect(line.contains("optimizer.moments = \"fp8\""), "\(line)")
        // Its weights begin a run of either kind.
        for flags in [[], Self.whole] {
            try TrainingRun(sandbox.recipe(flags + ["--training.steps", "2", "--job.name", "next\(flags.count)",
                                                    "--checkpoint.load_weights", path]), output: silence).run()
        }
    }

    /// Whoever looks at a second moment sees what its codes stand for, also where they are of its root: after one step
    /// the same numbers as in floats, but for their rounding.
    @Test(arguments: ["fp8", "fp8-root", "bf16"]) func codesAreShownAsWhatTheyStandFor(moments: String) throws {
        let sandbox = try Sandbox(), silence = unsafe open("/dev/null", O_WRONLY)
        defer { close(silence) }
        let secondMoment = "variance.model.layers.0.mlp.up_proj.weight"
        let tensors = try ["fp32", moments].map { format in
            try TrainingRun(sandbox.recipe(["--training.steps", "1", "--job.name", format, "--optimizer.moments",
                                            format]), output: silence).run()
            let (archive, _) = try TensorArchive.open("\(sandbox.path)/\(format)/checkpoint/step-1")
            let tensor = try #require(archive.tensors.first { $0.name == secondMoment })
            return try archive.values(of: tensor, SliceExpression("", of: tensor.shape), with: archive.reader())
        }
        let largest = tensors[0].max()!
        let ratios = zip(tensors[0], tensors[1]).filter { $0.0 > largest / 100 }.map { $0.1 / $0.0 }
        // E5M2 keeps two bits behind the leading one.
        #expect(ratios.count > 100 && ratios.allSatisfy { $0 > 0.7 && $0 < 1.35 }, "\(ratios.min()!) \(ratios.max()!)")
        let mean = ratios.reduce(0, +) / Double(ratios.count)
        #expect(abs(mean - 1) < 0.03, "\(mean)")
    }

    /// A rank holds what was promised of fp32's bytes: moments 0.27, with the weights 0.35.
    @Test func bytesAreWhatTheFormatsSay() throws {
        let table = ParameterTable(Recipe().model, vocabulary: 4_096)
        func bytes(_ moments: Recipe.MomentFormat, _ masters: Recipe.MasterFormat) throws -> (Int, Int) {
            var recipe = Recipe()
            (recipe.optimizer.moments, recipe.optimizer.masterWeights) = (moments, masters)
            let state = try TrainingState(ShardPlan(table), formats: StateFormats(recipe.optimizer))
            func sum(_ vectors: [StateVector]) -> Int { vectors.reduce(0) { $0 + 4 * $1.shard.row.count } }
            return (sum(state.moments), sum(state.moments) + sum(state.weightVectors))
        }
        let floats = try bytes(.fp32, .fp32), coded = try bytes(.fp8, .fp16)
        #expect(Double(coded.0) < 0.27 * Double(floats.0))
        #expect(Double(coded.1) < 0.35 * Double(floats.1))
    }

    /// No step asks the system for memory, whichever optimizer decodes and encodes. In a process of its own, since
    /// allocations are counted for all threads.
    @Test func stepsAllocateNothing() async {
        await #expect(processExitsWith: .success) {
            let sandbox = try Sandbox()
            let optimizers = ["lamb", "sgd", "muon"].map { StateFormatTests.whole + ["--optimizer.name", $0] }
            for flags in StateFormatTests.kinds + optimizers {
                let resolved = try sandbox.recipe(flags)
                let pool = Pool(threads: 1)
                defer { pool.close() }
                let runner = try StepRunner(recipe: resolved.recipe, corpus: openCorpus(resolved.recipe), pool: pool)
                try runner.state.initialize(seed: 1)
                for step in 0..<3 { _ = try runner.run(step: step) }
                let calls = try countAllocations { _ = try runner.run(step: 3) }
                precondition((calls ?? 0) == 0, "\(flags): \(calls ?? 0) allocations")
            }
        }
    }

    @Test func momentsOfTurnedAxesAreRefused() throws {
        let sandbox = try Sandbox()
        let error = #expect(throws: BadInput.self) {
            try sandbox.recipe(["--optimizer.name", "soap", "--optimizer.moments", "fp8"])
        }
        let line = error.map { "\($0)" } ?? ""
        #expect(line.contains("optimizer.moments = \"fp8\" is not for soap"), "\(line)")
    }
}
