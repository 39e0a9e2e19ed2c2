/// Items on the nodes of a family, and when their ranks are done. An item is a sequence; they are numbered from the
/// longest, so ascending items are descending lengths.
struct NestedAssignment: Sendable {
    let family: GroupFamily
    /// Node of each item; -1: none yet.
    private(set) var home: [Int]
    /// Items of each node, ascending.
    private(set) var items: [[Int]]
    /// Seconds of each node's tasks.
    private(set) var load: [Double]
    /// Seconds from the begin of a node's tasks to the end of the last rank below.
    private(set) var height: [Double]

    init(_ family: GroupFamily, items count: Int) {
        self.family = family
        home = Array(repeating: -1, count: count)
        items = Array(repeating: [], count: family.nodes.count)
        load = Array(repeating: 0, count: family.nodes.count)
        height = load
    }

    /// When the last rank is done.
    var makespan: Double { height[0] }

    /// Seconds of the tasks above a node: when its own begin.
    func begin(_ node: Int) -> Double {
        var seconds = 0.0, at = family.nodes[node].parent
        while at >= 0 {
            seconds += load[at]
            at = family.nodes[at].parent
        }
        return seconds
    }

    mutating func put(_ item: Int, on node: Int, _ problem: PlanProblem) {
        let place = items[node].firstIndex { $0 > item } ?? items[node].count
        items[node].insert(item, at: place)
        home[item] = node
        refresh(node, problem)
    }

    mutating func take(_ item: Int, _ problem: PlanProblem) {
        let node = home[item]
        items[node].removeAll { $0 == item }
        home[item] = -1
        refresh(node, problem)
    }

    /// Puts all items at once: what a greedy start has found.
    mutating func fill(_ homes: [Int], _ problem: PlanProblem) {
        home = homes
        for node in items.indices { items[node].removeAll(keepingCapacity: true) }
        for (item, node) in homes.enumerated() where node >= 0 { items[node].append(item) }
        for node in items.indices.reversed() {
            load[node] = items[node].isEmpty ? 0 : seconds(of: items[node], on: node, problem)
            height[node] = load[node] + below(node)
        }
    }

    private mutating func refresh(_ node: Int, _ problem: PlanProblem) {
        load[node] = items[node].isEmpty ? 0 : seconds(of: items[node], on: node, problem)
        var at = node
        while at >= 0 {
            height[at] = load[at] + below(at)
            at = family.nodes[at].parent
        }
    }

    /// Seconds from the end of a node's own tasks to the end of the last rank below.
    func below(_ node: Int) -> Double {
        let here = family.nodes[node]
        return here.isLeaf ? 0 : max(height[here.left], height[here.right])
    }

    /// Seconds of items as tasks of one node: exactly what the plan made of them takes.
    private func seconds(of items: [Int], on node: Int, _ problem: PlanProblem) -> Double {
        let here = family.nodes[node]
        var tokens = 0, work = 0.0
        for item in items {
            tokens += problem.tokens[item]
            work += problem.work[item]
        }
        // All in one task is the common case of wide groups.
        if tokens <= here.capacity {
            return problem.seconds(tokens: tokens, work: work, degree: here.degree, speed: here.speed,
                                   link: here.link).0
        }
        let bins = pack(items, capacity: here.capacity, problem)
        if here.degree == 1 { return (Double(bins.count) * problem.cost.taskSeconds + work) / here.speed }
        return bins.reduce(0) { sum, bin in
            sum + problem.seconds(tokens: bin.reduce(0) { $0 + problem.tokens[$1] },
                                  work: bin.reduce(0) { $0 + problem.work[$1] }, degree: here.degree,
                                  speed: here.speed, link: here.link).0
        }
    }

    /// The plan: wider groups first, each group's items packed into tasks.
    func plan(_ problem: PlanProblem) -> StepPlan {
        var tasks: [PlannerTask] = []
        for node in family.nodes.indices where !items[node].isEmpty {
            let here = family.nodes[node]
            for bin in pack(items[node], capacity: here.capacity, problem) {
                let tokens = bin.reduce(0) { $0 + problem.tokens[$1] }
                let mode = problem.seconds(tokens: tokens, work: 0, degree: here.degree, speed: here.speed,
                                           link: here.link).1
                tasks.append(PlannerTask(sequences: bin.map { problem.order[$0] }.sorted(),
                                         ranks: Array(family.ranks[here.members]), mode: mode))
            }
        }
        return StepPlan(rankCount: problem.rates.count, tasks: tasks)
    }
}

/// Items cut into tasks of at most `capacity` tokens: each, from the longest, into the first that has room.
/// First-fit decreasing takes at most 11/9 of the fewest, and 6/9 of one (Dosa, ESCAPE 2007).
func pack(_ items: [Int], capacity: Int, _ problem: PlanProblem) -> [[Int]] {
    var bins: [[Int]] = [], room: [Int] = []
    for item in items {
        let tokens = problem.tokens[item]
        if let bin = room.firstIndex(where: { $0 >= tokens }) {
            bins[bin].append(item)
            room[bin] -= tokens
        } else {
            bins.append([item])
            room.append(capacity - tokens)
        }
    }
    return bins
}
