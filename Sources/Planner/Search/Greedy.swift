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
    var state = GreedyState(family, prices: prices, stacks: stacks)
    return problem.tokens.indices.map { item in
        let (tokens, work) = (problem.tokens[item], problem.work[item])
        var node = -1
        if let confined { node = state.first(tokens, work) { confined(item, $0) } }
        if node < 0 { node = state.cheapest(tokens, work, target: target) }
        if node < 0 { node = state.first(tokens, work) { _ in true } }
        if node >= 0 { state.put(tokens, work, on: node, family) }
        return node
    }
}

/// Loads as sums of estimates: a task's constant is paid when one more has to be opened.
private struct GreedyState {
    /// Groups that cost the same for any item.
    private struct Kind {
        let price: Double
        let example: GroupFamily.Node
        var nodes: [Int]
    }

    private let stacks: Bool
    /// The narrowest first: most often that is the cheapest, and the others need no look.
    private var kinds: [Kind] = []
    private var load: [Double]
    private var height: [Double]
    private var begin: [Double]
    /// Tokens that the last of a node's tasks has room for.
    private var room: [Int]

    init(_ family: GroupFamily, prices: [Double], stacks: Bool) {
        self.stacks = stacks
        load = Array(repeating: 0, count: family.nodes.count)
        (height, begin, room) = (load, load, Array(repeating: 0, count: load.count))
        for (node, here) in family.nodes.enumerated().reversed() where here.isAllowed {
            let same = kinds.firstIndex { kind in
                let other = kind.example
                return kind.price == prices[node] && other.degree == here.degree && other.speed == here.speed
                    && other.link == here.link
            }
            if let same { kinds[same].nodes.append(node) } else {
                kinds.append(Kind(price: prices[node], example: here, nodes: [node]))
            }
        }
    }

    private func end(_ tokens: Int, _ node: Int, seconds: Double, opening: Double) -> Double {
        begin[node] + height[node] + seconds + (tokens <= room[node] ? 0 : opening)
    }

    /// The cheapest node on which the item ends by `target`; -1: none.
    func cheapest(_ tokens: Int, _ work: Double, target: Double) -> Int {
        var best = (cost: Double.infinity, node: -1)
        for kind in kinds where tokens <= kind.example.capacity {
            let example = kind.example
            let cost = kind.price * (work * example.perWork + Double(tokens) * example.perTokenFull)
            guard cost < best.cost else { continue }
            let seconds = work * example.perWork + Double(tokens) * example.perToken
            var found = (end: stacks ? -Double.infinity : .infinity, node: -1)
            for node in kind.nodes {
                let end = end(tokens, node, seconds: seconds, opening: example.taskSeconds)
                if end <= target, stacks ? end > found.end : end < found.end { found = (end, node) }
            }
            if found.node >= 0 { best = (cost, found.node) }
        }
        return best.node
    }

    /// The node on which the item ends first, of those that are meant; -1: none has room.
    func first(_ tokens: Int, _ work: Double, _ isMeant: (Int) -> Bool) -> Int {
        var best = (end: Double.infinity, node: -1)
        for kind in kinds where tokens <= kind.example.capacity {
            let seconds = work * kind.example.perWork + Double(tokens) * kind.example.perToken
            for node in kind.nodes where isMeant(node) {
                let end = end(tokens, node, seconds: seconds, opening: kind.example.taskSeconds)
                if (end, node) < best { best = (end, node) }
            }
        }
        return best.node
    }

    mutating func put(_ tokens: Int, _ work: Double, on node: Int, _ family: GroupFamily) {
        let here = family.nodes[node], opens = tokens > room[node]
        let seconds = work * here.perWork + Double(tokens) * here.perToken + (opens ? here.taskSeconds : 0)
        load[node] += seconds
        room[node] = opens ? here.capacity - tokens : room[node] - tokens
        delay(here.left, seconds, family)
        delay(here.right, seconds, family)
        var at = node
        while at >= 0 {
            let here = family.nodes[at]
            height[at] = load[at] + (here.isLeaf ? 0 : max(height[here.left], height[here.right]))
            at = here.parent
        }
    }

    /// All of a subtree begins later.
    private mutating func delay(_ node: Int, _ seconds: Double, _ family: GroupFamily) {
        guard node >= 0 else { return }
        begin[node] += seconds
        delay(family.nodes[node].left, seconds, family)
        delay(family.nodes[node].right, seconds, family)
    }
}
