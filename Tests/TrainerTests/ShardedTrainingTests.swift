import Collectives
import Foundation
import Parallel
import Recipe
import Simulation
import Tensor
import Testing
import Trainer

/// Training with a state that is shared out: the model, the data and the optimizers as in a run, ranks as threads.
@Suite struct ShardedTrainingTests {
    struct Trained {
        var weights: [Float]
        var losses: [Double]
        var norms: [Double]
        /// Nats a token of five held-out rows, after the last step.
        var heldOut: Double
    }

    /// Some steps on `ranks` ranks. The weights are put together from what each rank answers for.
    static func train(_ sandbox: borrowing Sandbox, ranks: Int, steps: Int, _ flags: [String]) throws -> Trained {
        let resolved = try sandbox.recipe(["--training.local_batch_size", "2", "--training.global_batch_size", "16"]
            + flags)
        typealias Part = (pieces: [(Range<Int>, [Float])], losses: [Double], norms: [Double], heldOut: Double)
        let results: [Result<Part, any Error>] = onThreads(ranks: ranks) { communicator in
            let pool = Pool(threads: 1)
            let world = World(communicator, rank: communicator.rank, size: ranks)
            let runner = try StepRunner(recipe: resolved.recipe, corpus: openCorpus(resolved.recipe), pool: pool,
                                        world: world)
            try runner.state.initialize(seed: 3)
            let done = try (0..<steps).map { try runner.run(step: $0) }
            try runner.requireEqualState(step: steps)
            let state = runner.state, ranges = state.plan.parameterRanges(of: world.rank)
            let memory = try Arena(name: "weights", capacity: Arena.padded(state.table.count))
            let row = memory.take(state.table.count)
            let pieces = ranges.enumerated().map { unit, range in
                state.readWeights(range, unit: unit, to: row.slice(range.lowerBound, range.count), pool: pool)
                return (range, row.slice(range.lowerBound, range.count).array)
            }
            let held = try runner.validate(rows: 5)
            return (pieces, done.map(\.loss), done.map(\.gradientNorm), held.nats / Double(held.targets))
        }
        var weights: [Float] = [], found: Trained?
        for result in results {
            let part = try result.get()
            for (range, values) in part.pieces {
                if weights.count < range.upperBound {
                    weights += Array(repeating: .nan, count: range.upperBound - weights.count)
                }
                weights.replaceSubrange(range, with: values)
            }
            found = Trained(weights: [], losses: part.losses, norms: part.norms, heldOut: part.heldOut)
        }
        #expect(!weights.contains { $0.isNaN })
        var trained = try #require(found)
        trained.weights = weights
        return trained
    }

    static func distance(_ a: [Float], _ b: [Float]) -> Double {
        let difference = zip(a, b).reduce(0.0) { $0 + pow(Double($1.0) - Double($1.1), 2) }
        return (difference / b.reduce(0.0) { $0 + Double($1) * Double($1) }).squareRoot()
    }

    static let layouts: [[String]] = [
        ["--parallelism.zero", "0"], ["--parallelism.zero", "1"], ["--parallelism.zero", "2"],
        ["--parallelism.zero", "3"],
        ["--parallelism.zero", "1", "--parallelism.shard_gradients", "2"],
        ["--parallelism.zero", "0", "--parallelism.shard_optimizer", "2"],
        ["--parallelism.zero", "2", "--parallelism.shard_parameters", "2"],
    ]

    /// One rank's losses at every stage, and with counts of InternEvo's kind.
    @Test(arguments: layouts) func lossesAreThoseOfOneRank(layout: [String]) throws {
        let sandbox = try Sandbox()
        let alone = try Self.train(sandbox, ranks: 1, steps: 12, [])
        for ranks in [2, 4] where ranks == 4 || !layout.contains("2") || layout.count == 2 {
            let shared = try Self.train(sandbox, ranks: ranks, steps: 12, layout)
            for (own, one) in zip(shared.losses, alone.losses) { #expect(abs(own - one) < 1e-5, "\(ranks) \(layout)") }
            #expect(Self.distance(shared.weights, alone.weights) < 1e-4)
        }
    }

    /// Ranks with fewer micro-batches than others take part in what these exchange, in validation too.
    @Test(arguments: ["1", "2", "3"]) func ranksMayHaveFewerMicroBatches(stage: String) throws {
        let sandbox = try Sandbox()
        let flags = ["--training.global_batch_size", "5", "--training.local_batch_size", "2",
                     "--parallelism.zero", stage]
        let alone = try Self.train(sandbox, ranks: 1, steps: 6, flags)
        for ranks in [2, 3, 4] {
            let shared = try Self.train(sandbox, ranks: ranks, steps: 6, flags)
            for (own, one) in zip(shared.losses, alone.losses) { #expect(abs(own - one) < 1e-5, "\(ranks) ranks") }
            #expect(Self.distance(shared.weights, alone.weights) < 1e-4)
            #expect(abs(shared.heldOut - alone.heldOut) < 1e-4)
        }
    }

    /// Bit for bit the weights of one rank, with clipping at work, whatever the optimizer.
    @Test(arguments: ["adamw", "lamb", "sgd", "muon", "soap"])
    func reproducibleAtAnyWorldSize(optimizer: String) throws {
        let sandbox = try Sandbox()
        let rate = ["sgd": "0.1", "lamb": "2e-2"][optimizer] ?? "5e-3"
        let flags = ["--training.reproducible", "true", "--optimizer.name", optimizer, "--optimizer.lr", rate,
                     "--training.max_norm", "0.5"]
        let alone = try Self.train(sandbox, ranks: 1, steps: 10, flags)
        #expect(alone.norms.contains { $0 > 0.5 })
        #expect(alone.losses[9] < alone.losses[0] - 0.1)
        for ranks in [2, 4, 8] {
            // Layouts are AdamW's matter; what others exchange is the same at each.
            let layouts = optimizer == "adamw" ? Self.layouts : [Self.layouts[ranks == 4 ? 0 : 3]]
            for layout in layouts where ranks >= 4 || layout.count == 2 {
                let shared = try Self.train(sandbox, ranks: ranks, steps: 10, flags + layout)
                #expect(shared.weights.map(\.bitPattern) == alone.weights.map(\.bitPattern), "\(ranks) \(layout)")
                #expect(shared.losses == alone.losses && shared.norms == alone.norms, "\(ranks) \(layout)")
            }
        }
        let other = try Self.train(sandbox, ranks: 2, steps: 10, flags + ["--training.reproducible", "false"])
        #expect(other.weights.map(\.bitPattern) != alone.weights.map(\.bitPattern))
    }
}
