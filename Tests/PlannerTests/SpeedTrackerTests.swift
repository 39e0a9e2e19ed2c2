import Base
import Planner
import Testing

/// The controller that follows ranks' speeds, on simulated ranks: plans are real, what tasks take is reckoned.
@Suite struct SpeedTrackerTests {
    private struct Ranks {
        var speeds: [Double]
        let model = cost(gbit: 1)
        var draws: Draws

        /// A step with a plan by `planned` speeds. Returns when it ends, by the true ones, the last rank's share of the
        /// computation, and what the tracker is told.
        mutating func step(planned: [Double], noise: Double) throws
            -> (seconds: Double, share: Double, expected: [Double], taken: [Double]) {
            let lengths = draws.lengths(16 * speeds.count, median: 600), links = speeds.map { _ in 1.0 }
            let problem = try PlanProblem(lengths: lengths, rates: RankRates(speeds: planned, links: links),
                                          tokenCap: 1 << 14, cost: model)
            let plan = Planner().plan(problem).plan
            let truth = try PlanProblem(lengths: lengths, rates: RankRates(speeds: speeds, links: links),
                                        tokenCap: 1 << 14, cost: model)
            let expected = problem.computeSeconds(plan)
            let taken = expected.indices.map { expected[$0] / speeds[$0] * (1 + noise * draws.normal()) }
            return (plan.times(truth).makespan / expected.reduce(0, +), (expected.last ?? 0) / expected.reduce(0, +),
                    expected, taken)
        }
    }

    /// One of some ranks falls to half its speed: within 20 steps it has its share of the work, and the rate is at
    /// least 80 % of what unequal ranks can reach (here well above); when it recovers, so does its share.
    @Test(arguments: [2, 4, 8]) func aSlowRankGetsLess(_ count: Int) throws {
        var ranks = Ranks(speeds: Array(repeating: 1, count: count), draws: Draws(count))
        var tracker = SpeedTracker(ranks.speeds), shares: [Double] = []
        for speed in [0.5, 1] {
            ranks.speeds[count - 1] = speed
            var late = 0.0
            for step in 0..<30 {
                let done = try ranks.step(planned: tracker.planned, noise: 0.03)
                tracker.observe(expected: done.expected, taken: done.taken)
                shares.append(done.share)
                if step >= 20 { late += done.seconds / 10 }
            }
            // Were the work divided by speed, all would end together after this part of it.
            let total = Double(count - 1) + speed
            print("\(count) ranks, one at speed \(speed): \(percent(1 / total / late)) of the ideal rate")
            #expect(1 / total / late >= 0.8)
            // One step's share also depends on how its documents can be dealt out.
            let share = shares.suffix(10).reduce(0, +) / 10
            #expect(abs(share - speed / total) < 0.1 / Double(count))
        }
    }

    /// What steps waver by changes no plan, and one disturbed step little.
    @Test func noiseChangesNothing() throws {
        var draws = Draws(5), tracker = SpeedTracker([1, 1, 0.5]), changes = 0
        let expected = [1.0, 1, 0.5]
        for step in 0..<200 {
            var taken = [1.0, 1, 1].map { $0 * (1 + 0.03 * draws.normal()) }
            if step == 100 { taken[1] = 3 }
            if tracker.observe(expected: expected, taken: taken) { changes += 1 }
        }
        #expect(changes == 0)
        #expect(abs(tracker.speeds[0] - 1) < 0.05 && abs(tracker.speeds[2] - 0.5) < 0.025)
    }

    /// A rank without a task keeps its speed.
    @Test func idleRanksKeepTheirSpeed() {
        var tracker = SpeedTracker([1, 0.7])
        for _ in 0..<10 { tracker.observe(expected: [1, 0], taken: [1, 0]) }
        #expect(tracker.planned == [1, 0.7])
    }

    @Test func levelling() {
        #expect(RankRates.levelled([1, 0.98, 0.5, 1.02, 0.51], tolerance: 0.05) == [1, 1, 0.5, 1, 0.5])
        #expect(RankRates.levelled([2], tolerance: 0.05) == [2])
    }
}
