import Base
import Parallel
import Recipe
import Testing
import Trainer

@Suite struct PlannedTrafficTests {
    private let recipe: Recipe
    private let table: ParameterTable

    /// Several buckets: 26 million parameters.
    init() throws {
        recipe = try ResolvedRecipe.load(file: nil, flags: [
            "--model.dim", "512", "--model.n_layers", "8", "--model.n_heads", "8", "--training.seq_len", "1024",
        ]).recipe
        table = ParameterTable(recipe.model, vocabulary: 257)
    }

    private func traffic(ranks: Int, gflops: Double = 100, gbit: Double = 1, _ other: Recipe? = nil) -> PlannedTraffic {
        let recipe = other ?? recipe
        let step = StepCost(recipe, vocabulary: 257, ranks: ranks)
        return PlannedTraffic(recipe, vocabulary: 257, step: step, ranks: ranks, gflops: gflops, linkGbit: gbit)
    }

    /// Two ranks send each gradient once, many almost twice; a gigabit moves 125 MB a second.
    @Test func bytesByHand() {
        #expect(traffic(ranks: 1).bytes == 0)
        #expect(traffic(ranks: 1).hiddenShare == 1)
        for ranks in 2...9 {
            let planned = traffic(ranks: ranks)
            #expect(planned.bytes == 8 * table.count * (ranks - 1) / ranks)
            #expect(abs(planned.seconds - Double(planned.bytes) / 125e6) < 1e-9)
            #expect(abs(traffic(ranks: ranks, gbit: 10).seconds - planned.seconds / 10) < 1e-9)
        }
        #expect(traffic(ranks: 2).bytes == 4 * table.count)
    }

    /// On a fast link the last two buckets alone are seen, for the first layer's is complete only at the end, and the
    /// embedding's multiplies nothing; on a slow one all but what goes under the computation after the first.
    @Test func whatIsHidden() {
        let last = BucketPlan(table).buckets.suffix(2).reduce(0) { $0 + $1.range.count }
        let fast = traffic(ranks: 2, gbit: 100)
        #expect(abs(fast.visibleSeconds - Double(4 * last) / 12.5e9) < 1e-9)
        #expect(abs(fast.hiddenShare - (1 - Double(last) / Double(table.count))) < 1e-6)
        let slow = traffic(ranks: 2, gbit: 0.001)
        let backward = StepCost(recipe, vocabulary: 257, ranks: 2).seconds(atGflops: 100)
        #expect(slow.visibleSeconds < slow.seconds)
        #expect(slow.visibleSeconds > slow.seconds - backward)
        #expect(slow.hiddenShare < 0.02)
        // Without computation there is nothing to hide under.
        #expect(traffic(ranks: 2, gflops: 1e12).hiddenShare < 1e-4)
    }

    /// Never more than the whole, and never less on a slower link, on a faster machine, or with more ranks.
    @Test func moreLinkOrLessComputationIsSeen() {
        var visible: [Double] = []
        for gbit in [0.01, 0.1, 1, 10, 100] {
            for ranks in 2...5 {
                let planned = traffic(ranks: ranks, gbit: gbit)
                #expect(planned.visibleSeconds > 0 && planned.visibleSeconds <= planned.seconds)
                let least = planned.visibleSeconds - 1e-9
                #expect(traffic(ranks: ranks, gflops: 200, gbit: gbit).visibleSeconds >= least)
                #expect(traffic(ranks: ranks + 1, gbit: gbit).visibleSeconds >= least)
            }
            visible.append(traffic(ranks: 2, gbit: gbit).visibleSeconds)
        }
        #expect(visible == visible.sorted(by: >))
    }

    /// Gradients go off in the last micro-batch: a smaller one hides less.
    @Test func theLastMicroBatchHides() {
        var uneven = recipe
        uneven.training.globalBatchSize = 18
        let step = StepCost(uneven, vocabulary: 257, ranks: 2)
        #expect(step.largestShare == 9 * 1_024 && step.lastTask == 1_024)
        #expect(traffic(ranks: 2, gbit: 0.02, uneven).visibleSeconds > traffic(ranks: 2, gbit: 0.02).visibleSeconds)
    }

    /// Recomputation is time to hide under.
    @Test func recomputationHides() {
        var full = recipe
        full.activationCheckpoint.mode = .full
        #expect(traffic(ranks: 2, gbit: 0.02, full).visibleSeconds < traffic(ranks: 2, gbit: 0.02).visibleSeconds)
    }
}
