/// Local search: as long as it helps, an item leaves the path of the rank that is done last, for another group or in
/// exchange for another item there. A change is made only when all ranks that it delays are then done before the last
/// one was, so that the list of ends, sorted from the last, falls with each change and the search ends.
struct Improvement {
    let problem: PlanProblem
    /// An end at which there is nothing left to gain.
    let enough: Double
    /// Least part of the makespan that counts as better: rounding must not keep the search busy.
    private static let least = 1e-9
    /// Candidates that are tried exactly after the estimate has ranked them.
    private static let tries = 6

    private struct Change {
        var item: Int
        var node: Int
        /// The item that comes back; -1: none.
        var partner = -1
        /// When the ranks that it concerns are done, as far as sums of estimates tell.
        var end: Double
    }

    /// The most promising changes of one step.
    private struct Shortlist {
        /// When all have to be done.
        let bar: Double
        var changes: [Change] = []

        mutating func note(_ change: Change) {
            let isFull = changes.count == Improvement.tries
            guard change.end < bar, !isFull || change.end < changes[changes.count - 1].end else { return }
            if isFull { changes.removeLast() }
            changes.insert(change, at: changes.firstIndex { $0.end > change.end } ?? changes.count)
        }
    }

    /// Makes at most `limit` changes.
    func improve(_ state: inout NestedAssignment, limit: Int) {
        for _ in 0..<limit {
            guard state.makespan > enough, step(&state) else { return }
        }
    }

    private func step(_ state: inout NestedAssignment) -> Bool {
        var list = Shortlist(bar: state.makespan * (1 - Self.least))
        let begins = self.begins(state)
        for node in lastPath(state) {
            for item in state.items[node] {
                listMoves(of: item, from: node, state, begins, &list)
                listExchanges(of: item, from: node, state, begins, &list)
            }
        }
        for change in list.changes where make(change, &state, list.bar) { return true }
        return false
    }

    /// The nodes above the rank that is done last, itself among them.
    private func lastPath(_ state: NestedAssignment) -> [Int] {
        var path = [0]
        while !state.family.nodes[path[path.count - 1]].isLeaf {
            let here = state.family.nodes[path[path.count - 1]]
            path.append(state.height[here.left] >= state.height[here.right] ? here.left : here.right)
        }
        return path
    }

    private func begins(_ state: NestedAssignment) -> [Double] {
        var begins = [Double](repeating: 0, count: state.load.count)
        for node in begins.indices.dropFirst() {
            let parent = state.family.nodes[node].parent
            begins[node] = begins[parent] + state.load[parent]
        }
        return begins
    }

    private func estimate(_ item: Int, _ node: GroupFamily.Node) -> Double {
        problem.work[item] * node.perWork + Double(problem.tokens[item]) * node.perToken
    }

    /// To any other node that has time for it.
    private func listMoves(of item: Int, from node: Int, _ state: NestedAssignment, _ begins: [Double],
                           _ list: inout Shortlist) {
        let nodes = state.family.nodes, own = estimate(item, nodes[node])
        for other in nodes.indices where other != node {
            let there = nodes[other]
            guard there.isAllowed, problem.tokens[item] <= there.capacity else { continue }
            let seconds = estimate(item, there) + (state.items[other].isEmpty ? there.taskSeconds : 0)
            if begins[other] + seconds > list.bar { continue }
            // An empty group would open a task; a group left empty saves one.
            let saved = own + (state.items[node].count == 1 ? nodes[node].taskSeconds : 0)
            let end = self.end(of: other, adding: seconds, to: node, removing: saved, state, begins)
            list.note(Change(item: item, node: other, end: end))
        }
    }

    private func listExchanges(of item: Int, from node: Int, _ state: NestedAssignment, _ begins: [Double],
                               _ list: inout Shortlist) {
        let nodes = state.family.nodes, here = nodes[node], own = estimate(item, here), tokens = problem.tokens[item]
        for other in nodes.indices where other != node && !state.items[other].isEmpty {
            let there = nodes[other]
            guard there.isAllowed, tokens <= there.capacity else { continue }
            let added = estimate(item, there), areNested = here.members.overlaps(there.members)
            // Apart, a partner has to be shorter, but not by more than the other side has time for. The longest come
            // first, so the rest is shorter still.
            let least = areNested ? -Double.infinity : added - (list.bar - begins[other] - state.height[other])
            for partner in state.items[other] where areNested || problem.tokens[partner] < tokens {
                let gone = estimate(partner, there)
                if gone < least { break }
                guard problem.tokens[partner] != tokens, problem.tokens[partner] <= here.capacity else { continue }
                let end = self.end(of: other, adding: added - gone, to: node, removing: own - estimate(partner, here),
                                   state, begins)
                list.note(Change(item: item, node: other, partner: partner, end: end))
            }
        }
    }

    /// When the last rank of both groups is done after `other` gets longer by `added` and `node` shorter by `removed`.
    private func end(of other: Int, adding added: Double, to node: Int, removing removed: Double,
                     _ state: NestedAssignment, _ begins: [Double]) -> Double {
        let nodes = state.family.nodes, here = nodes[node], there = nodes[other]
        if here.members.overlaps(there.members) {
            let (outer, inner) = here.contains(there) ? (node, other) : (other, node)
            let (change, below) = outer == node ? (-removed, added) : (added, -removed)
            var height = state.height[inner] + below, at = inner
            while at != outer {
                let parent = nodes[at].parent
                let sibling = nodes[parent].left == at ? nodes[parent].right : nodes[parent].left
                height = max(height, state.height[sibling]) + state.load[parent]
                at = parent
            }
            return begins[outer] + height + change
        }
        return max(begins[node] + state.height[node] - removed, begins[other] + state.height[other] + added)
    }

    /// Makes a change if the ranks that it concerns are really done before `bar`; otherwise leaves all as it was.
    private func make(_ change: Change, _ state: inout NestedAssignment, _ bar: Double) -> Bool {
        let node = state.home[change.item]
        state.take(change.item, problem)
        if change.partner >= 0 {
            state.take(change.partner, problem)
            state.put(change.partner, on: node, problem)
        }
        state.put(change.item, on: change.node, problem)
        let end = [node, change.node].map { state.begin($0) + state.height[$0] }.max() ?? 0
        if end < bar { return true }
        state.take(change.item, problem)
        if change.partner >= 0 {
            state.take(change.partner, problem)
            state.put(change.partner, on: change.node, problem)
        }
        state.put(change.item, on: node, problem)
        return false
    }
}
