import Base

/// A plan for the terminal: a line for each group of ranks that do the same all the time, and time from left to right.
/// A task's cells have the character of its degree (1 to 9, then a for 10 to 15, b for 16 to 31, and so on by
/// doubling); dots are time spent waiting. More than `mostLines` lines are thinned out evenly.
package struct PlanChart {
    private static let mostLines = 32
    private let plan: StepPlan
    private let times: PlanTimes
    /// Columns of time.
    private let width: Int

    package init(_ plan: StepPlan, _ times: PlanTimes, width: Int = 72) {
        (self.plan, self.times, self.width) = (plan, times, width)
    }

    package var text: String {
        var lists = [[Int]](repeating: [], count: plan.rankCount)
        for (place, task) in plan.tasks.enumerated() { for rank in task.ranks { lists[rank].append(place) } }
        // Ranks with the same tasks, in the order of the first of them.
        var rows: [(ranks: [Int], tasks: [Int])] = [], place: [[Int]: Int] = [:]
        for rank in lists.indices {
            if let row = place[lists[rank]] {
                rows[row].ranks.append(rank)
            } else {
                place[lists[rank]] = rows.count
                rows.append(([rank], lists[rank]))
            }
        }
        let shown = rows.count <= Self.mostLines ? Array(rows.indices)
            : (0..<Self.mostLines).map { $0 * rows.count / Self.mostLines }
        let names = shown.map { name(rows[$0].ranks) }, widest = names.map(\.count).max() ?? 0
        var lines = zip(shown, names).map { row, name in
            name + String(repeating: " ", count: widest - name.count) + " |" + bar(rows[row].tasks) + "|"
        }
        if shown.count < rows.count { lines.append("(\(shown.count) of \(rows.count) lines)") }
        return lines.joined(separator: "\n")
    }

    /// "rank 3", or "ranks 4-7": runs of neighbours.
    private func name(_ ranks: [Int]) -> String {
        var runs: [ClosedRange<Int>] = []
        for rank in ranks {
            if let last = runs.last, last.upperBound + 1 == rank {
                runs[runs.count - 1] = last.lowerBound...rank
            } else {
                runs.append(rank...rank)
            }
        }
        let texts = runs.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
        let shown = texts.prefix(3).joined(separator: ",") + (texts.count > 3 ? ",…" : "")
        return (ranks.count == 1 ? "rank " : "ranks ") + shown
    }

    private func bar(_ tasks: [Int]) -> String {
        var cells = [Character](repeating: ".", count: width)
        let scale = times.makespan > 0 ? Double(width) / times.makespan : 0
        for task in tasks {
            let from = Int((times.starts[task] * scale).rounded()), to = Int((times.ends[task] * scale).rounded())
            for cell in from..<max(from, min(to, width)) { cells[cell] = Self.symbol(plan.tasks[task].degree) }
        }
        return String(cells)
    }

    static func symbol(_ degree: Int) -> Character {
        if degree < 10 { return Character("\(degree)") }
        // 10 to 15 are a; from 16 on each doubling has the next letter.
        let doublings = Int.bitWidth - 1 - degree.leadingZeroBitCount - 3
        return Character(UnicodeScalar(UInt8(97 + doublings)))
    }
}

extension Planner.Result {
    /// One JSON object on one line: bounds, and the tasks in their global order with what they take.
    package func json(_ problem: PlanProblem, extra: [(String, String)] = []) -> String {
        let tasks = zip(plan.tasks.indices, plan.tasks).map { place, task in
            let lengths = task.sequences.map { "\(problem.lengths[$0])" }.joined(separator: ",")
            let sequences = task.sequences.map(String.init).joined(separator: ",")
            let ranks = task.ranks.map(String.init).joined(separator: ",")
            return "{\"ranks\":[\(ranks)],\"mode\":\"\(task.mode.rawValue)\",\"sequences\":[\(sequences)],"
                + "\"tokens\":[\(lengths)],"
                + "\"start_seconds\":\(times.starts[place]),\"end_seconds\":\(times.ends[place])}"
        }
        var fields = [("plan", "\"layout\"")] + extra
        fields += [
            ("ranks", "\(plan.rankCount)"), ("sequences", "\(problem.lengths.count)"),
            ("tokens", "\(problem.lengths.reduce(0, +))"), ("seconds", "\(times.makespan)"),
            ("bound_seconds", "\(bound)"), ("counting_bound_seconds", "\(countingBound)"),
            ("linear_bound_seconds", linearBound.map { "\($0)" } ?? "null"), ("gap", "\(gap)"),
            ("imbalance", "\(times.imbalance)"),
            ("proven", exact.map { "\($0.isProven)" } ?? "null"),
            ("proven_bound_seconds", exact.map { "\($0.bound)" } ?? "null"),
            ("tasks", "[\(tasks.joined(separator: ","))]"),
        ]
        return "{" + fields.map { "\"\($0.0)\":\($0.1)" }.joined(separator: ",") + "}"
    }

    /// Names and values of what there is to say beside the chart.
    package func rows(_ problem: PlanProblem) -> [(String, String)] {
        var byDegree: [Int: (tasks: Int, sequences: Int, tokens: Int)] = [:]
        for task in plan.tasks {
            byDegree[task.degree, default: (0, 0, 0)].tasks += 1
            byDegree[task.degree, default: (0, 0, 0)].sequences += task.sequences.count
            byDegree[task.degree, default: (0, 0, 0)].tokens += task.sequences.reduce(0) { $0 + problem.lengths[$1] }
        }
        var rows = byDegree.sorted { $0.key > $1.key }.map { degree, sum in
            ("degree \(degree)", "\(Units.grouped(sum.tasks)) task\(sum.tasks == 1 ? "" : "s"), "
                + "\(Units.grouped(sum.sequences)) sequence\(sum.sequences == 1 ? "" : "s"), "
                + "\(Units.grouped(sum.tokens)) tokens")
        }
        rows.append(("a step", Self.time(times.makespan)))
        rows.append(("no plan ends before", "\(Self.time(bound)) (\(boundName)); this one ends "
            + "\(Units.fixed(gap * 100, 2)) % later"))
        rows.append(("busiest rank", "\(Units.fixed(times.imbalance, 3)) of the mean"))
        if let exact {
            rows.append(("branch-and-cut", exact.isProven
                ? "proves \(Self.time(exact.bound)) for groups nested like these"
                : "its limit of nodes or columns came before a proof; the production plan stands, or what was found "
                    + "on the way"))
        }
        return rows
    }

    /// Shorter than `Units.duration` has digits for.
    private static func time(_ seconds: Double) -> String {
        seconds < 60 ? "\(Units.fixed(seconds, 3)) s" : Units.duration(seconds)
    }
}
