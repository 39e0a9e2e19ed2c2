/// A first assignment: items from the longest to the shortest (longest processing time first, Graham 1969), each on the
/// group where it costs least among those where it ends by `target`; where none does, on that where it ends first.
///
/// The price of a second of a group is what its ranks are worth together. With the prices of a linear program (its
/// dual values) that is what the cheapest fractional plan pays for them; without, a rank is worth its speed.
///
/// Among groups that cost the same it ends as early as possible, which spreads the load, or with `stacks` as late,
/// which keeps whole ranks free for sequences that are cheaper on one rank but take long there.
///
/// `prices`: of each node. `confined`: whether an item may go to a node, as long as any that it may go to can hold it.
/// Returns the node of each item.
func greedyHomes(_ family: GroupFamily, _ problem: PlanProblem, target: Double, prices: [Double], stacks: Bool = false,
                 confined: ((_ item: Int, _ node: Int) -> Bool)? = nil) -> [Int] {
    var state = GreedyState(family, stacks: stacks)
    return problem.tokens.indices.map { item in
        let (tokens, work) = (problem.tokens[item], problem.work[item])
        var node = -1
        if let confined {
            node = state.choose(tokens, work, family, target: .infinity, prices: nil) { confined(item, $0) }
        }
        if node < 0 { node = state.choose(tokens, work, family, target: target, prices: prices) { _ in true } }
        state.put(tokens, work, on: node, family)
        return node
    }
}

/// Loads as sums of estimates: a task's constant is paid when one more has to be opened.
private struct GreedyState {
    private var load: [Double]
    private var height: [Double]
    private var begin: [Double]
    /// Tokens that the last of a node's tasks has room for.
    private var room: [Int]

    private let stacks: Bool

    init(_ family: GroupFamily, stacks: Bool) {
        self.stacks = stacks
        load = Array(repeating: 0, count: family.nodes.count)
        (height, begin, room) = (load, load, Array(repeating: 0, count: load.count))
    }

    private func seconds(_ tokens: Int, _ work: Double, _ node: Int, _ here: GroupFamily.Node) -> Double {
        let opening = tokens <= room[node] ? 0 : here.taskSeconds
        return work * here.perWork + Double(tokens) * here.perToken + opening
    }

    /// Without `prices` the node where the item ends first. -1: no node has room.
    mutating func choose(_ tokens: Int, _ work: Double, _ family: GroupFamily, target: Double, prices: [Double]?,
                         _ isMeant: (Int) -> Bool) -> Int {
        var cheapest = (cost: Double.infinity, end: Double.infinity, node: -1)
        var first = (end: Double.infinity, node: -1)
        for node in family.nodes.indices {
            let here = family.nodes[node]
            begin[node] = here.parent < 0 ? 0 : begin[here.parent] + load[here.parent]
            guard here.isAllowed, tokens <= here.capacity, isMeant(node) else { continue }
            let end = begin[node] + height[node] + seconds(tokens, work, node, here)
            if end < first.end { first = (end, node) }
            guard end <= target, let prices else { continue }
            let cost = prices[node] * (work * here.perWork + Double(tokens) * here.perTokenFull)
            if cost < cheapest.cost || cost == cheapest.cost && (end < cheapest.end) != stacks {
                cheapest = (cost, end, node)
            }
        }
        return cheapest.node >= 0 ? cheapest.node : first.node
    }

    mutating func put(_ tokens: Int, _ work: Double, on node: Int, _ family: GroupFamily) {
        load[node] += seconds(tokens, work, node, family.nodes[node])
        room[node] = tokens <= room[node] ? room[node] - tokens : family.nodes[node].capacity - tokens
        var at = node
        while at >= 0 {
            let here = family.nodes[at]
            height[at] = load[at] + (here.isLeaf ? 0 : max(height[here.left], height[here.right]))
            at = here.parent
        }
    }
}
