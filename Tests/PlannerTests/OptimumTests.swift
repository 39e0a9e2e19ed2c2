import Base
import Planner
import Testing

/// The planner against all plans there are.
@Suite struct OptimumTests {
    /// 1,000 random batches, 1 to 4 ranks, 1 to 10 sequences: no flaw, no bound above the optimum, and at most 1 % over
    /// it in the mean. Every one of them is feasible, so a plan must come for each.
    @Test func nearTheOptimumOfAllPlans() throws {
        var sum = 0.0, worst = 0.0, optimal = 0
        let count = 1_000
        for seed in 0..<count {
            let problem = try randomProblem(seed)
            let result = Planner().plan(problem)
            #expect(result.plan.flaw(problem) == nil, "seed \(seed)")
            let optimum = ExhaustiveOracle(problem).optimum(below: result.times.makespan)
            #expect(result.bound <= optimum * (1 + 1e-9), "seed \(seed): bound \(result.bound), optimum \(optimum)")
            let excess = result.times.makespan / optimum - 1
            (sum, worst) = (sum + excess, max(worst, excess))
            if excess < 1e-9 { optimal += 1 }
        }
        print("over the optimum of all plans: \(percent(sum / Double(count))) in the mean, \(percent(worst)) at most, "
            + "\(optimal) of \(count) optimal")
        #expect(sum / Double(count) <= 0.01)
    }

    /// The oracle itself, where the answer is plain.
    @Test func theOracleKnowsPlainCases() throws {
        let model = cost(gbit: 10_000), one = model.compute(3_000) + model.taskSeconds
        func optimum(_ lengths: [Int], ranks: Int, cap: Int) throws -> Double {
            let problem = try PlanProblem(lengths: lengths, rates: RankRates(equal: ranks), tokenCap: cap, cost: model)
            return ExhaustiveOracle(problem).optimum(below: .infinity)
        }
        // One rank: all in one task, or one after the other where they do not fit.
        #expect(abs(try optimum([3_000], ranks: 1, cap: 3_000) - one) < 1e-9 * one)
        #expect(abs(try optimum([3_000, 3_000], ranks: 1, cap: 3_000) - 2 * one) < 1e-9 * one)
        #expect(abs(try optimum([3_000, 3_000], ranks: 1, cap: 6_000) - 2 * one + model.taskSeconds) < 1e-9 * one)
        // Three equal sequences on two ranks: two side by side and one shared takes 1.5 times as long as one, and a
        // little for the exchange.
        let shared = try optimum([3_000, 3_000, 3_000], ranks: 2, cap: 3_000)
        #expect(shared > 1.5 * model.compute(3_000) && shared < 1.6 * one)
    }

    /// 30 instances in which branch-and-cut looks over the family: the fast plan is at most 1 % above what it proves.
    @Test func nearWhatBranchAndCutProves() throws {
        var sum = 0.0, closed = 0
        var exact = Planner.Options()
        (exact.solver, exact.nodeLimit) = (.exact, 500)
        for seed in 0..<30 {
            var draws = Draws(seed)
            let ranks = draws.pick([2, 4, 8])
            let lengths = draws.lengths(draws.integer(8...16), median: 1_500, spread: 1.2, longest: 1 << 14)
            let problem = try PlanProblem(lengths: lengths, rates: RankRates(equal: ranks), tokenCap: 8_192,
                                          cost: cost(gbit: draws.pick([0.36, 1, 8.8])))
            let fast = Planner().plan(problem), best = Planner(exact).plan(problem)
            let outcome = try #require(best.exact)
            #expect(best.plan.flaw(problem) == nil)
            // The limit may be reached; then the production plan stands, or a better one.
            #expect(best.times.makespan <= fast.times.makespan)
            #expect(outcome.bound <= best.times.makespan * (1 + 1e-6))
            guard outcome.isProven else { continue }
            closed += 1
            sum += fast.times.makespan / outcome.bound - 1
        }
        print("branch-and-cut closed \(closed) of 30; the fast plan is \(percent(sum / Double(max(closed, 1)))) above")
        #expect(closed >= 20)
        #expect(sum <= 0.01 * Double(closed))
    }

    /// Without a single node branch-and-cut proves nothing of a problem that needs some, nor does it begin one that is
    /// too large: the production plan stands, and the result says so.
    @Test func theLimitIsSaid() throws {
        var draws = Draws(20), options = Planner.Options()
        (options.solver, options.nodeLimit) = (.exact, 0)
        let problem = try PlanProblem(lengths: draws.lengths(40, median: 1_500), rates: RankRates(equal: 8),
                                      tokenCap: 8_192, cost: cost(gbit: 0.36))
        let result = Planner(options).plan(problem)
        #expect(result.exact?.isProven == false)
        #expect(result.plan.flaw(problem) == nil)
        #expect(result.times.makespan <= Planner().plan(problem).times.makespan)
        options.nodeLimit = 2_000
        let large = try PlanProblem(lengths: draws.lengths(500), rates: RankRates(equal: 32), tokenCap: 8_192,
                                    cost: cost())
        let stands = Planner(options).plan(large)
        #expect(stands.exact == ExactOutcome(isProven: false, bound: stands.bound))
        #expect(stands.plan == Planner().plan(large).plan)
        #expect(stands.rows(large).contains { $0.0 == "branch-and-cut" && $0.1.contains("stands") })
    }
}
