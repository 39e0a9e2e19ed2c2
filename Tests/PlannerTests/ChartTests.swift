import Foundation
import Planner
import Testing

@Suite struct ChartTests {
    private static func result() throws -> (PlanProblem, Planner.Result) {
        var draws = Draws(5)
        let problem = try PlanProblem(lengths: draws.lengths(60, median: 900), rates: RankRates(equal: 16),
                                      tokenCap: 4_096, cost: cost(gbit: 0.36))
        return (problem, Planner().plan(problem))
    }

    /// Ranks that do the same share a line, and each cell says the degree of the task that runs then.
    @Test func linesAndCells() {
        let plan = StepPlan(rankCount: 12, tasks: [
            PlannerTask(sequences: [0], ranks: Array(0..<12), mode: .ring),
            PlannerTask(sequences: [1], ranks: [0, 1, 3], mode: .ring),
            PlannerTask(sequences: [2], ranks: [2], mode: .local),
        ])
        let times = PlanTimes(starts: [0, 2, 2], ends: [2, 4, 3], busy: Array(repeating: 2, count: 12))
        #expect(PlanChart(plan, times, width: 8).text == """
            ranks 0-1,3 |aaaa3333|
            rank 2      |aaaa11..|
            ranks 4-11  |aaaa....|
            """)
    }

    @Test func symbolsOfDegrees() {
        func symbol(_ degree: Int) -> Character? {
            let plan = StepPlan(rankCount: degree, tasks: [PlannerTask(sequences: [0], ranks: Array(0..<degree),
                                                                       mode: .ring)])
            let times = PlanTimes(starts: [0], ends: [1], busy: [])
            return PlanChart(plan, times, width: 1).text.last { $0 != "|" }
        }
        #expect([1, 9, 10, 15, 16, 31, 32, 1_024].map(symbol) == ["1", "9", "a", "a", "b", "b", "c", "h"])
    }

    /// More groups than lines: every so many, and it says so.
    @Test func manyLinesAreThinnedOut() {
        let plan = StepPlan(rankCount: 100, tasks: (0..<100).map {
            PlannerTask(sequences: [$0], ranks: [$0], mode: .local)
        })
        let times = PlanTimes(starts: Array(repeating: 0, count: 100), ends: Array(repeating: 1, count: 100), busy: [])
        let lines = PlanChart(plan, times).text.split(separator: "\n")
        #expect(lines.count == 33 && lines[32] == "(32 of 100 lines)")
    }

    /// The JSON is one line, parses, and is the plan.
    @Test func jsonIsThePlan() throws {
        let (problem, result) = try Self.result()
        let text = result.json(problem, extra: [("token_cap", "4096")])
        #expect(!text.contains("\n"))
        let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        let tasks = try #require(object["tasks"] as? [[String: Any]])
        #expect(tasks.count == result.plan.tasks.count && object["token_cap"] as? Int == 4_096)
        let back = StepPlan(rankCount: try #require(object["ranks"] as? Int), tasks: try tasks.map { task in
            PlannerTask(sequences: try #require(task["sequences"] as? [Int]),
                        ranks: try #require(task["ranks"] as? [Int]),
                        mode: try #require(TaskMode(rawValue: task["mode"] as? String ?? "")))
        })
        #expect(back == result.plan)
        #expect(object["seconds"] as? Double == result.times.makespan)
        #expect(object["bound_seconds"] as? Double == result.bound)
        #expect(object["proven"] is NSNull)
    }

    /// Every sequence is in one of the lines of degrees, and the gap is there.
    @Test func rowsAddUp() throws {
        let (problem, result) = try Self.result()
        let rows = result.rows(problem)
        let sequences = rows.filter { $0.0.hasPrefix("degree") }.compactMap { row in
            row.1.split(separator: ", ")[1].split(separator: " ").first.flatMap { Int($0) }
        }
        #expect(sequences.reduce(0, +) == 60)
        #expect(rows.contains { $0.0 == "no plan ends before" && $0.1.contains("% later") })
    }
}
