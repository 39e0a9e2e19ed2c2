import Base

/// A piece of a step: some sequences, computed by a group of ranks together, forward and backward.
package struct PlannerTask: Sendable, Equatable, Codable {
    /// Places of the sequences in the batch.
    package var sequences: [Int]
    /// In order: the i-th holds the i-th part of each sequence.
    package var ranks: [Int]
    package var mode: TaskMode

    package init(sequences: [Int], ranks: [Int], mode: TaskMode) {
        (self.sequences, self.ranks, self.mode) = (sequences, ranks, mode)
    }

    package var degree: Int { ranks.count }
}

/// A step: tasks in ONE global order. Every rank does its own tasks in that order, and a task begins when the last of
/// its ranks comes to it. So nothing can deadlock: among the tasks that are not done, the first in the order is the
/// next of each of its ranks, and can begin.
package struct StepPlan: Sendable, Equatable, Codable {
    package var rankCount: Int
    package var tasks: [PlannerTask]

    package init(rankCount: Int, tasks: [PlannerTask]) { (self.rankCount, self.tasks) = (rankCount, tasks) }

    /// Tasks of one rank, as places in `tasks`, in its order.
    package func tasks(of rank: Int) -> [Int] { tasks.indices.filter { tasks[$0].ranks.contains(rank) } }
}

/// When the tasks of a plan run.
package struct PlanTimes: Sendable, Equatable {
    /// Of each task, in seconds from the step's begin.
    package var starts: [Double]
    package var ends: [Double]
    /// For how long each rank computes or exchanges; the rest, up to `makespan`, it waits.
    package var busy: [Double]

    package init(starts: [Double], ends: [Double], busy: [Double]) {
        (self.starts, self.ends, self.busy) = (starts, ends, busy)
    }

    /// When the last rank is done: what a plan is chosen by.
    package var makespan: Double { ends.max() ?? 0 }

    /// The busiest rank's time over the mean.
    package var imbalance: Double {
        let total = busy.reduce(0, +)
        return total > 0 ? (busy.max() ?? 0) * Double(busy.count) / total : 1
    }
}

extension StepPlan {
    /// Runs the plan: each task begins when all its ranks are free.
    package func times(_ problem: PlanProblem) -> PlanTimes {
        var free = [Double](repeating: 0, count: rankCount)
        var times = PlanTimes(starts: [], ends: [], busy: free)
        for task in tasks {
            let start = task.ranks.reduce(0) { max($0, free[$1]) }
            let seconds = problem.seconds(of: task)
            for rank in task.ranks {
                free[rank] = start + seconds
                times.busy[rank] += seconds
            }
            times.starts.append(start)
            times.ends.append(start + seconds)
        }
        return times
    }

    /// What makes this no plan for a problem; nil where it is one: each sequence once, groups of different ranks in
    /// range, a mode that their number permits, and no more tokens than they hold.
    package func flaw(_ problem: PlanProblem) -> String? {
        guard rankCount == problem.rates.count else { return "it is for \(rankCount) ranks" }
        var seen = [Int](repeating: 0, count: problem.lengths.count)
        for (place, task) in tasks.enumerated() {
            guard !task.sequences.isEmpty, !task.ranks.isEmpty else { return "task \(place) is empty" }
            guard Set(task.ranks).count == task.degree, task.ranks.allSatisfy({ (0..<rankCount).contains($0) }) else {
                return "task \(place) has ranks \(task.ranks)"
            }
            guard task.sequences.allSatisfy({ seen.indices.contains($0) }) else { return "task \(place) has strangers" }
            guard problem.cost.permits(task.mode, degree: task.degree) else {
                return "task \(place) is \(task.mode.rawValue) on \(task.degree) ranks"
            }
            let tokens = task.sequences.reduce(0) { $0 + problem.lengths[$1] }
            guard tokens <= problem.tokenCap * task.degree else {
                return "task \(place) has \(tokens) tokens on \(task.degree) ranks of \(problem.tokenCap)"
            }
            for sequence in task.sequences { seen[sequence] += 1 }
        }
        if let wrong = seen.indices.first(where: { seen[$0] != 1 }) {
            return "sequence \(wrong) is computed \(seen[wrong]) times"
        }
        return nil
    }
}

/// Runs lists of tasks as ranks do, each its own list without knowing of the others': a task ends once it is the next
/// of all its ranks. Returns the tasks in an order in which they could end, or nil where ranks wait for each other.
package func execution(of lists: [[Int]], ranksOfTask: [[Int]]) -> [Int]? {
    var next = [Int](repeating: 0, count: lists.count)
    var ended: [Int] = []
    while true {
        let ready = ranksOfTask.indices.filter { task in
            ranksOfTask[task].allSatisfy { next[$0] < lists[$0].count && lists[$0][next[$0]] == task }
        }
        guard !ready.isEmpty else { break }
        for task in ready {
            for rank in ranksOfTask[task] { next[rank] += 1 }
            ended.append(task)
        }
    }
    return next.indices.allSatisfy { next[$0] == lists[$0].count } ? ended : nil
}
