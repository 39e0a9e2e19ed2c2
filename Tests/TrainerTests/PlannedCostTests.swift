import Base
import Collectives
import Foundation
import Planner
import Recipe
import Simulation
import Tensor
import Testing
import Trainer

/// What planned steps reckon with: measured at the start, followed while training, and plans that are replayed.
@Suite struct PlannedCostTests {
    private static let flags = ["--training.seq_len", "120", "--parallelism.context_parallel_degree", "auto",
                                "--training.max_tokens_per_task", "60", "--training.local_batch_size", "2",
                                "--training.global_batch_size", "8"]

    private struct Run {
        /// Of which the rank holds all, or at stage 3 its share.
        var weights: [Float] = []
        var cost = ""
        var records: [String] = []
        var note: String?
        /// The last rank's share of the planned computation, of each step.
        var shares: [Double] = []
    }

    /// Some steps of `ranks` ranks; the result is rank 0's. `kept`: what a checkpoint kept.
    private static func run(_ sandbox: borrowing Sandbox, ranks: Int, steps: Int, _ flags: [String], kept: String = "")
        throws -> Run {
        let resolved = try sandbox.recipe(["--data.paths", sandbox.documents] + Self.flags + flags)
        let results = onThreads(ranks: ranks) { communicator -> Run in
            do {
                return try run(resolved.recipe, communicator, ranks: ranks, steps: steps, kept: kept)
            } catch {
                // As a process that gives up: the others would wait.
                communicator.abort("\(error)", during: "a test")
                throw error
            }
        }
        let all = try results.map { try $0.get() }
        for other in all { #expect(other.cost == all[0].cost && other.records == all[0].records) }
        return all[0]
    }

    private static func run(_ recipe: Recipe, _ communicator: Communicator, ranks: Int, steps: Int, kept: String) throws
        -> Run {
        let runner = try StepRunner(recipe: recipe, corpus: openCorpus(recipe), pool: Pool(threads: 1),
                                    world: World(communicator, rank: communicator.rank, size: ranks))
        try runner.state.initialize(seed: 3)
        var run = Run()
        run.note = try runner.settleCost(kept: kept)
        run.cost = runner.planner?.cost.encoded ?? ""
        for step in 0..<steps {
            _ = try runner.run(step: step)
            guard let plan = runner.plan else { continue }
            run.records.append(plan.record.json)
            run.shares.append((plan.computeSeconds.last ?? 0) / plan.computeSeconds.reduce(0, +))
        }
        let state = runner.state, memory = try Arena(name: "weights", capacity: Arena.padded(state.table.count))
        let row = memory.take(state.table.count)
        for (unit, range) in state.plan.parameterRanges(of: communicator.rank).enumerated() {
            state.readWeights(range, unit: unit, to: row.slice(range.lowerBound, range.count), pool: runner.pool)
            run.weights += row.slice(range.lowerBound, range.count).array
        }
        return run
    }

    /// Measuring leaves weights and training as they were, ranks agree, and a run that is given the measured cost makes
    /// the same plans and so the same weights, bit for bit.
    @Test(arguments: [2, 3]) func measuredCostIsKept(ranks: Int) throws {
        let sandbox = try Sandbox()
        let first = try Self.run(sandbox, ranks: ranks, steps: 5, [])
        #expect(first.note?.contains("measured") == true)
        let cost = try FrozenCost(decoding: first.cost, place: "test")
        #expect(cost.rates.count == ranks && cost.model.compute(40) > 0)
        #expect(cost.model.ring != nil)
        let again = try Self.run(sandbox, ranks: ranks, steps: 5, [], kept: first.cost)
        #expect(again.note == nil && again.cost == first.cost && again.records == first.records)
        #expect(again.weights.map(\.bitPattern) == first.weights.map(\.bitPattern))
        // Of another number of ranks it is measured anew.
        let others = try Self.run(sandbox, ranks: ranks + 1, steps: 1, [], kept: first.cost)
        #expect(others.note?.contains("is of \(ranks) ranks") == true)
    }

    /// Where ranks meet in every round of tasks they measure as well, and go on with what they found.
    @Test(arguments: ["2", "3"]) func measuredAtEveryStage(stage: String) throws {
        let sandbox = try Sandbox()
        let first = try Self.run(sandbox, ranks: 3, steps: 2, ["--parallelism.zero", stage])
        #expect(first.note?.contains("measured") == true && first.records.count == 2)
        let again = try Self.run(sandbox, ranks: 3, steps: 2, ["--parallelism.zero", stage], kept: first.cost)
        #expect(again.note == nil && again.records == first.records)
        #expect(again.weights.map(\.bitPattern) == first.weights.map(\.bitPattern))
    }

    /// Whatever is declared is not measured.
    @Test func declaredRatesAreNotMeasured() throws {
        let sandbox = try Sandbox()
        for flags in [["--planner.gflops", "20"], ["--planner.link_gbit", "2"]] {
            let run = try Self.run(sandbox, ranks: 2, steps: 1, flags)
            #expect(run.note == nil && run.records.count == 1)
        }
    }

    /// A rank that is slowed down gets less to do; and the plans of that run, which depend on time, give the same
    /// weights again, bit for bit, without a slow rank and with other rates.
    @Test func followsAndReplays() throws {
        let sandbox = try Sandbox()
        let adapting = ["--planner.gflops", "1", "--planner.adapt", "true", "--debug.slow_ranks", "1,6",
                        "--training.max_tokens_per_task", "480"]
        let first = try Self.run(sandbox, ranks: 2, steps: 14, adapting)
        #expect((first.shares.last ?? 1) < 0.4, "\(first.shares)")
        let file = sandbox.path + "/plans.jsonl"
        try first.records.enumerated().map { "{\"step\":\($0 + 1)," + $1.dropFirst() }.joined(separator: "\n")
            .write(toFile: file, atomically: true, encoding: .utf8)
        let replaying = ["--planner.replay", file, "--training.max_tokens_per_task", "480", "--planner.gflops", "3"]
        let again = try Self.run(sandbox, ranks: 2, steps: 14, replaying)
        #expect(again.records == first.records)
        #expect(again.weights.map(\.bitPattern) == first.weights.map(\.bitPattern))
        for (flags, word) in [(["--debug.seed", "9"], "other documents"),
                              (["--training.max_tokens_per_task", "60"], "no plan for this run")] {
            #expect { try Self.run(sandbox, ranks: 2, steps: 1, replaying + flags) } throws: { "\($0)".contains(word) }
        }
        #expect { try Self.run(sandbox, ranks: 2, steps: 15, replaying) } throws: { "\($0)".contains("step 15") }
        try "nothing\n".write(toFile: file, atomically: true, encoding: .utf8)
        #expect { try Self.run(sandbox, ranks: 2, steps: 1, replaying) } throws: { "\($0)".contains("holds no plan") }
    }
}
