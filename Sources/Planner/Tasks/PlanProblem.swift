import Base

/// What a plan is made for: a batch's sequences, the ranks, what they hold and what they take.
package struct PlanProblem: Sendable {
    /// Tokens of each sequence of the batch.
    package let lengths: [Int]
    package let rates: RankRates
    /// Tokens that a rank holds in one task (`training.max_tokens_per_task`). A group of d ranks holds d times as
    /// many; the tasks of a rank come one after the other, so each has all of it.
    package let tokenCap: Int
    package let cost: CostModel
    /// Every group has this many ranks; nil: as the planner likes.
    package let degree: Int?

    /// Sequences from the longest to the shortest, equal ones in the batch's order: the *items* of a search. Item i is
    /// sequence `order[i]`.
    let order: [Int]
    let tokens: [Int]
    /// Seconds of each item on one rank of speed 1.
    let work: [Double]
    /// Degrees of which there can be tasks, ascending, with the ways to do them.
    let ways: [Int: [(mode: TaskMode, bytesPerToken: Double, curve: ExchangeCurve)]]

    /// Throws where a sequence has no tokens, or more than all ranks can hold together.
    package init(lengths: [Int], rates: RankRates, tokenCap: Int, cost: CostModel, degree: Int? = nil)
        throws(BadInput) {
        precondition(tokenCap > 0, "ranks that hold nothing")
        self.lengths = lengths
        self.rates = rates
        self.tokenCap = tokenCap
        self.cost = cost
        self.degree = degree
        if let degree, degree < 1 || rates.count % degree != 0 {
            throw BadInput("groups of \(degree) ranks do not divide \(rates.count) ranks; choose a divisor")
        }
        order = lengths.indices.sorted { (lengths[$1], $0) < (lengths[$0], $1) }
        let tokens = order.map { lengths[$0] }
        self.tokens = tokens
        work = tokens.map { cost.compute($0) }
        let degrees = degree.map { $0...$0 } ?? 1...rates.count
        ways = Dictionary(uniqueKeysWithValues: degrees.compactMap { d in
            let found = cost.ways(degree: d)
            return d == 1 || !found.isEmpty ? (d, found) : nil
        })
        try requireRoom(order)
    }

    private func requireRoom(_ order: [Int]) throws(BadInput) {
        guard let widest = ways.keys.max() else {
            throw BadInput("no way to share a sequence between \(degree ?? 1) ranks: \(cost.heads) heads cannot be "
                + "dealt to as many, and the ring is off; choose another degree")
        }
        if let shortest = order.last, lengths[shortest] < 1 {
            throw BadInput("sequence \(shortest + 1) of the batch has \(lengths[shortest]) tokens; leave it out")
        }
        let held = tokenCap * widest
        if let longest = order.first, lengths[longest] > held {
            throw BadInput("sequence \(longest + 1) of the batch has \(Units.grouped(lengths[longest])) tokens, and "
                + "\(widest) rank\(widest == 1 ? "" : "s") of \(Units.grouped(tokenCap)) hold \(Units.grouped(held)); "
                + "raise training.max_tokens_per_task, use more ranks, or cut it")
        }
    }

    /// Degrees of which there can be tasks, ascending.
    package var degrees: [Int] { ways.keys.sorted() }

    /// Seconds of `tokens` tokens that are `work` together, as one task.
    func seconds(tokens: Int, work: Double, degree: Int, speed: Double, link: Double) -> (Double, TaskMode) {
        let compute = cost.taskSeconds / speed + work / (Double(degree) * speed)
        guard degree > 1 else { return (compute, .local) }
        var best = (seconds: Double.infinity, mode: TaskMode.ring)
        for way in ways[degree] ?? [] {
            let seconds = way.curve(way.bytesPerToken * Double(tokens)) / link
            if seconds < best.seconds { best = (seconds, way.mode) }
        }
        return (compute + best.seconds, best.mode)
    }

    /// Seconds of a task, in its own mode.
    package func seconds(of task: PlannerTask) -> Double {
        let speed = task.ranks.map { rates.speeds[$0] }.min() ?? 1, link = task.ranks.map { rates.links[$0] }.min() ?? 1
        let tokens = task.sequences.reduce(0) { $0 + lengths[$1] }
        let work = task.sequences.reduce(0) { $0 + cost.compute(lengths[$1]) }
        let compute = cost.taskSeconds / speed + work / (Double(task.degree) * speed)
        guard let way = ways[task.degree]?.first(where: { $0.mode == task.mode }) else { return compute }
        return compute + way.curve(way.bytesPerToken * Double(tokens)) / link
    }
}
