import Base
import Recipe
import Testing
import Trainer

/// Gradients that travel in bf16, and in E4M3.
@Suite struct GradientWireTests {
    /// The same in eight bits, with micro-batches that ranks have unevenly many of.
    @Test(arguments: ShardedTrainingTests.layouts) func eightBitsTrainToo(layout: [String]) throws {
        let sandbox = try Sandbox()
        let uneven = ["--training.global_batch_size", "18"]
        let alone = try ShardedTrainingTests.train(sandbox, ranks: 1, steps: 10, uneven)
        for ranks in [2, 3, 4] where ranks == 4 || !layout.contains("2") && ranks == 3 || layout.count == 2 {
            let flags = uneven + layout
            let shared = try ShardedTrainingTests.train(sandbox, ranks: ranks, steps: 10,
                                                        flags + ["--comm.gradients", "fp8"])
            for (own, one) in zip(shared.losses, alone.losses) { #expect(abs(own - one) < 2e-2, "\(ranks) \(layout)") }
            #expect(ShardedTrainingTests.distance(shared.weights, alone.weights) < 0.2)
            let exact = try ShardedTrainingTests.train(sandbox, ranks: ranks, steps: 10, flags)
            #expect(shared.weights.map(\.bitPattern) != exact.weights.map(\.bitPattern))
            // The first step has no scales yet.
            #expect(shared.norms[0] == exact.norms[0] && shared.norms[1] != exact.norms[1])
        }
    }

    /// The losses of one rank up to what the rounding costs, at every layout; ranks that hold the same have the same
    /// bits (`train` asks them). It is not what fp32 on the wire gives.
    @Test(arguments: ShardedTrainingTests.layouts) func lossesAreThoseOfOneRank(layout: [String]) throws {
        let sandbox = try Sandbox()
        let alone = try ShardedTrainingTests.train(sandbox, ranks: 1, steps: 10, [])
        for ranks in [2, 4] where ranks == 4 || !layout.contains("2") || layout.count == 2 {
            let flags = layout + ["--comm.gradients", "bf16"]
            let shared = try ShardedTrainingTests.train(sandbox, ranks: ranks, steps: 10, flags)
            for (own, one) in zip(shared.losses, alone.losses) { #expect(abs(own - one) < 2e-3, "\(ranks) \(layout)") }
            #expect(ShardedTrainingTests.distance(shared.weights, alone.weights) < 2e-2)
            let exact = try ShardedTrainingTests.train(sandbox, ranks: ranks, steps: 10, layout)
            #expect(shared.weights.map(\.bitPattern) != exact.weights.map(\.bitPattern))
        }
    }

    /// Sums that do not depend on the number of ranks cannot come from rounded shares.
    @Test func reproducibleSumsAreRefused() throws {
        let sandbox = try Sandbox()
        let error = #expect(throws: BadInput.self) {
            try sandbox.recipe(["--training.reproducible", "true", "--comm.gradients", "bf16"])
        }
        let line = error.map { "\($0)" } ?? ""
        #expect(line.contains("comm.gradients = \"bf16\" rounds what ranks send"), "\(line)")
    }
}
