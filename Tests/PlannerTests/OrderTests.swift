import Planner
import Testing

/// One global order of tasks: every rank does its own in it, and nobody waits for ever.
@Suite struct OrderTests {
    /// Any tasks in any order, on groups that overlap as they like: ranks that know only their own lists end them all,
    /// and when they end is what the plan's clock says.
    @Test func randomPlansEnd() throws {
        for seed in 0..<500 {
            var draws = Draws(seed)
            let ranks = draws.integer(1...9), count = draws.integer(1...30)
            let groups = (0..<count).map { _ -> [Int] in
                let group = (0..<ranks).filter { _ in draws.integer(0...2) == 0 }
                return group.isEmpty ? [draws.integer(0...(ranks - 1))] : group
            }
            let model = cost(heads: 7)
            let problem = try PlanProblem(lengths: draws.lengths(count), rates: RankRates(equal: ranks),
                                          tokenCap: 1 << 15, cost: model)
            let plan = StepPlan(rankCount: ranks, tasks: groups.enumerated().map { place, group in
                PlannerTask(sequences: [place], ranks: group, mode: group.count == 1 ? .local : .ring)
            })
            #expect(plan.flaw(problem) == nil)
            let lists = (0..<ranks).map { plan.tasks(of: $0) }
            let order = try #require(execution(of: lists, ranksOfTask: groups), "seed \(seed)")
            #expect(order.sorted() == Array(0..<count))
            // The same clock in the order of the execution: a rank's tasks keep theirs, so do the times.
            let times = plan.times(problem)
            let shuffled = StepPlan(rankCount: ranks, tasks: order.map { plan.tasks[$0] }).times(problem)
            for (place, task) in order.enumerated() { #expect(shuffled.ends[place] == times.ends[task]) }
        }
    }

    /// Two ranks that take the same tasks in opposite orders wait for each other; the simulation sees it.
    @Test func oppositeOrdersDeadlock() {
        #expect(execution(of: [[0, 1], [1, 0]], ranksOfTask: [[0, 1], [0, 1]]) == nil)
        #expect(execution(of: [[0, 1], [1, 2], [2, 0]], ranksOfTask: [[0, 2], [0, 1], [1, 2]]) == nil)
        #expect(execution(of: [[0, 1], [0, 1]], ranksOfTask: [[0, 1], [0, 1]]) == [0, 1])
    }

    /// A clock by hand: ranks 0 and 1 together, then 1 and 2, then 0 alone.
    @Test func timesByHand() throws {
        let model = cost()
        let problem = try PlanProblem(lengths: [1_000, 2_000, 500], rates: RankRates(speeds: [1, 0.5, 1],
                                                                                    links: [1, 1, 0.25]),
                                      tokenCap: 4_096, cost: model)
        let plan = StepPlan(rankCount: 3, tasks: [
            PlannerTask(sequences: [0], ranks: [0, 1], mode: .ulysses),
            PlannerTask(sequences: [1], ranks: [1, 2], mode: .ring),
            PlannerTask(sequences: [2], ranks: [0], mode: .local),
        ])
        let ulysses = try #require(model.ulysses), ring = try #require(model.ring)
        let first = model.taskSeconds / 0.5 + model.compute(1_000) / (2 * 0.5)
            + ulysses.table.seconds(bytes: 1_000 / 4 * ulysses.bytesPerToken, degree: 2)
        let second = model.taskSeconds / 0.5 + model.compute(2_000) / (2 * 0.5)
            + ring.table.seconds(bytes: 2_000 / 2 * ring.bytesPerToken, degree: 2) / 0.25
        let third = model.taskSeconds + model.compute(500)
        let times = plan.times(problem)
        let expected = [first, first + second, first + third]
        for (end, right) in zip(times.ends, expected) { #expect(abs(end - right) < 1e-12 * right) }
        #expect(abs(times.busy[1] - first - second) < 1e-12)
        #expect(times.starts[1] == times.ends[0] && times.starts[2] == times.ends[0])
    }

    /// Each kind of flaw is found.
    @Test func flawsAreFound() throws {
        let problem = try PlanProblem(lengths: [100, 200], rates: RankRates(equal: 2), tokenCap: 200,
                                      cost: cost(heads: 7))
        func flaw(_ tasks: [PlannerTask]) -> String? { StepPlan(rankCount: 2, tasks: tasks).flaw(problem) }
        let whole = PlannerTask(sequences: [0, 1], ranks: [0, 1], mode: .ring)
        #expect(flaw([whole]) == nil)
        #expect(StepPlan(rankCount: 3, tasks: [whole]).flaw(problem) != nil)
        #expect(flaw([]) == "sequence 0 is computed 0 times")
        #expect(flaw([whole, PlannerTask(sequences: [1], ranks: [0], mode: .local)])?.contains("2 times") == true)
        #expect(flaw([PlannerTask(sequences: [0, 1], ranks: [0], mode: .local)])?.contains("300 tokens") == true)
        #expect(flaw([PlannerTask(sequences: [0, 1], ranks: [0, 1], mode: .ulysses)])?.contains("ulysses") == true)
        #expect(flaw([PlannerTask(sequences: [0, 1], ranks: [1, 1], mode: .ring)])?.contains("ranks") == true)
        #expect(flaw([PlannerTask(sequences: [7], ranks: [1], mode: .local)])?.contains("strangers") == true)
        #expect(flaw([PlannerTask(sequences: [], ranks: [1], mode: .local)])?.contains("empty") == true)
    }
}
