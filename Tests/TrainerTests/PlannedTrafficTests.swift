import Base
import Parallel
import Recipe
import Testing
import Trainer

@Suite struct PlannedTrafficTests {
    private let recipe: Recipe
    private let table: ParameterTable

    /// Several buckets: 26 million parameters. Nothing is shared out, but where a test says so.
    init() throws {
        recipe = try ResolvedRecipe.load(file: nil, flags: [
            "--model.dim", "512", "--model.n_layers", "8", "--model.n_heads", "8", "--training.seq_len", "1024",
            "--parallelism.zero", "0",
        ]).recipe
        table = ParameterTable(recipe.model, vocabulary: 257)
    }

    private func traffic(ranks: Int, gflops: Double = 100, gbit: Double = 1,
                         _ other: Recipe? = nil) throws -> PlannedTraffic {
        let recipe = other ?? recipe
        let step = StepCost(recipe, vocabulary: 257, ranks: ranks)
        return try PlannedTraffic(recipe, vocabulary: 257, step: step, ranks: ranks, gflops: gflops, linkGbit: gbit)
    }

    /// Two ranks send each gradient once, many almost twice; a gigabit moves 125 MB a second.
    @Test func bytesByHand() throws {
        #expect(try traffic(ranks: 1).bytes == 0)
        #expect(try traffic(ranks: 1).hiddenShare == 1)
        for ranks in 2...9 {
            let planned = try traffic(ranks: ranks)
            #expect(abs(planned.bytes - 8 * table.count * (ranks - 1) / ranks) <= 8)
            #expect(abs(planned.seconds - Double(planned.bytes) / 125e6) < 1e-9)
            #expect(abs(try traffic(ranks: ranks, gbit: 10).seconds - planned.seconds / 10) < 1e-9)
        }
        #expect(try traffic(ranks: 2).bytes == 4 * table.count)
    }

    /// On a fast link the last two buckets alone are seen, for the first layer's is complete only at the end, and the
    /// embedding's multiplies nothing; on a slow one all but what goes under the computation after the first.
    @Test func whatIsHidden() throws {
        let last = BucketPlan(table).buckets.suffix(2).reduce(0) { $0 + $1.range.count }
        let fast = try traffic(ranks: 2, gbit: 100)
        #expect(abs(fast.visibleSeconds - Double(4 * last) / 12.5e9) < 1e-9)
        #expect(abs(fast.hiddenShare - (1 - Double(last) / Double(table.count))) < 1e-6)
        let slow = try traffic(ranks: 2, gbit: 0.001)
        let backward = StepCost(recipe, vocabulary: 257, ranks: 2).seconds(atGflops: 100)
        #expect(slow.visibleSeconds < slow.seconds)
        #expect(slow.visibleSeconds > slow.seconds - backward)
        #expect(slow.hiddenShare < 0.02)
        // Without computation there is nothing to hide under.
        #expect(try traffic(ranks: 2, gflops: 1e12).hiddenShare < 1e-4)
    }

    /// Never more than the whole, and never less on a slower link, on a faster machine, or with more ranks.
    @Test func moreLinkOrLessComputationIsSeen() throws {
        var visible: [Double] = []
        for gbit in [0.01, 0.1, 1, 10, 100] {
            for ranks in 2...5 {
                let planned = try traffic(ranks: ranks, gbit: gbit)
                #expect(planned.visibleSeconds > 0 && planned.visibleSeconds <= planned.seconds)
                let least = planned.visibleSeconds - 1e-9
                #expect(try traffic(ranks: ranks, gflops: 200, gbit: gbit).visibleSeconds >= least)
                #expect(try traffic(ranks: ranks + 1, gbit: gbit).visibleSeconds >= least)
            }
            visible.append(try traffic(ranks: 2, gbit: gbit).visibleSeconds)
        }
        #expect(visible == visible.sorted(by: >))
    }

    /// Gradients go off in the last micro-batch: a smaller one hides less.
    @Test func theLastMicroBatchHides() throws {
        var uneven = recipe
        uneven.training.globalBatchSize = 18
        let step = StepCost(uneven, vocabulary: 257, ranks: 2)
        #expect(step.largestShare == 9 * 1_024 && step.lastTask == 1_024)
        let (other, plain) = (try traffic(ranks: 2, gbit: 0.02, uneven).visibleSeconds,
                              try traffic(ranks: 2, gbit: 0.02).visibleSeconds)
        #expect(other > plain)
    }

    /// Recomputation is time to hide under.
    @Test func recomputationHides() throws {
        var full = recipe
        full.activationCheckpoint.mode = .full
        let (other, plain) = (try traffic(ranks: 2, gbit: 0.02, full).visibleSeconds,
                              try traffic(ranks: 2, gbit: 0.02).visibleSeconds)
        #expect(other < plain)
    }

    /// The papers' volumes: 2 F, 2 F, (M + 1) F and 3 M F, and with reproducible sums 2 F, 2 F and (2 M + 1) F.
    @Test(arguments: [2, 4, 8]) func volumesOfTheStages(ranks: Int) throws {
        for batches in [1, 3] {
            for (stage, isReproducible, volume) in [(0, false, 2), (1, false, 2), (2, false, batches + 1),
                                                    (3, false, 3 * batches), (1, true, 2), (2, true, 2),
                                                    (3, true, 2 * batches + 1)] {
                var other = recipe
                other.parallelism.zero = stage
                other.training.reproducible = isReproducible
                other.training.globalBatchSize = batches * ranks * other.training.localBatchSize
                let bytes = try traffic(ranks: ranks, other).bytes
                let expected = 4 * volume * table.count * (ranks - 1) / ranks
                // Layers that still lie in their slots when they are wanted again: two at each turn of a pass.
                let turns = stage == 3 ? 2 * batches - 1 : 0
                let kept = 4 * 2 * turns * table.blocks[1].count * (ranks - 1) / ranks
                #expect(abs(Double(bytes + kept) / Double(expected) - 1) < 0.02,
                        "stage \(stage), \(batches) x \(ranks)")
            }
        }
    }

    /// In bf16 gradients are half the bytes, and parameters what they were.
    @Test(arguments: 0...3) func gradientsInFewBits(stage: Int) throws {
        var other = recipe
        other.parallelism.zero = stage
        let plan = try ShardPlan(table, recipe: other, worldSize: 4), step = StepCost(other, vocabulary: 257, ranks: 4)
        let whole = PlannedTraffic.traffic(plan, other, step), wholeTimes = try traffic(ranks: 4, gbit: 0.1, other)
        other.communication.gradients = .bf16
        let half = PlannedTraffic.traffic(plan, other, step)
        #expect(2 * half.gradients == whole.gradients && half.updated == whole.updated)
        #expect(half.gathered == whole.gathered && half.gradients > 0)
        #expect(try traffic(ranks: 4, gbit: 0.1, other).visibleSeconds < wholeTimes.visibleSeconds)
    }

    /// What an update has changed has nothing to hide under but the update; gradients of every micro-batch have much.
    @Test func stagesHideWhatTheyCan() throws {
        func planned(_ stage: Int, gflops: Double = 100) throws -> PlannedTraffic {
            var other = recipe
            other.parallelism.zero = stage
            return try traffic(ranks: 4, gflops: gflops, gbit: 10, other)
        }
        let (whole, first) = (try planned(0), try planned(1))
        #expect(abs(first.visibleSeconds - whole.visibleSeconds / 2 - first.seconds / 2) < first.seconds * 0.03)
        #expect(try planned(3).visibleSeconds < first.visibleSeconds)
        #expect(try planned(3, gflops: 1e9).hiddenShare < 0.01)
    }
}
