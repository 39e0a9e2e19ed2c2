/// A *nested family* of groups of ranks: any two are apart or one holds the other. As a binary tree: the root is all
/// ranks, each node is split into two, leaves are single ranks.
///
/// What it is good for: when tasks of wider groups come first, all ranks of a group are free at the same moment,
/// because whatever they did before, they did together. So nobody ever waits for a partner, and the end of a rank is
/// just the sum of the tasks on its path from the root. And a family holds many *layouts* (multisets of group degrees
/// that cover the ranks, FlexSP's unit): the balanced tree over 8 ranks holds 8, 4+4, 4+2+2, 4+2+1+1, ... all at once,
/// and a plan may use different ones of them one after the other.
struct GroupFamily: Sendable {
    struct Node: Sendable {
        /// Places in `ranks`.
        let members: Range<Int>
        let parent: Int
        /// The two halves; -1 at a leaf.
        var left = -1
        var right = -1
        /// Whether there can be tasks of this group.
        let isAllowed: Bool
        let speed: Double
        let link: Double
        /// Tokens that fit in one task.
        let capacity: Int
        /// What a task takes whatever is in it.
        let taskSeconds: Double
        /// Seconds for each second of work on one rank of speed 1, and for each token: the curve's least steep line.
        let perWork: Double
        let perToken: Double
        /// The same with a full task's share of `taskSeconds`.
        let perTokenFull: Double

        var degree: Int { members.count }
        var isLeaf: Bool { left < 0 }

        func contains(_ other: Node) -> Bool {
            members.lowerBound <= other.members.lowerBound && other.members.upperBound <= members.upperBound
        }
    }

    /// How a tree is split: the place of the cut in a range of more than one place.
    indirect enum Shape: Sendable {
        case leaf
        case node(Shape, Shape)

        var count: Int {
            switch self {
            case .leaf: 1
            case .node(let left, let right): left.count + right.count
            }
        }
    }

    /// Ranks from the fastest to the slowest, so that neighbours are alike.
    let ranks: [Int]
    /// Parents before their children, wider groups before narrower ones.
    let nodes: [Node]
    /// The leaf of each place in `ranks`.
    let leaves: [Int]

    init(_ shape: Shape, _ problem: PlanProblem, ranks: [Int]) {
        precondition(shape.count == ranks.count, "a tree over other ranks")
        self.ranks = ranks
        var pending = [(shape: shape, members: 0..<ranks.count, parent: -1)]
        var nodes: [Node] = [], leaves = [Int](repeating: 0, count: ranks.count)
        // The widest group next; equal ones from the left.
        var next = 0
        while next < pending.count {
            let (shape, members, parent) = pending[next]
            let place = nodes.count
            nodes.append(Self.node(members, parent: parent, problem, ranks))
            if parent >= 0 {
                if nodes[parent].left < 0 { nodes[parent].left = place } else { nodes[parent].right = place }
            }
            switch shape {
            case .leaf: leaves[members.lowerBound] = place
            case .node(let left, let right):
                let cut = members.lowerBound + left.count
                for half in [(left, members.lowerBound..<cut, place), (right, cut..<members.upperBound, place)] {
                    // Behind those at least as wide; most often the end.
                    var at = pending.count
                    while at > next + 1, pending[at - 1].members.count < half.1.count { at -= 1 }
                    pending.insert(half, at: at)
                }
            }
            next += 1
        }
        self.nodes = nodes
        self.leaves = leaves
    }

    private static func node(_ members: Range<Int>, parent: Int, _ problem: PlanProblem, _ ranks: [Int]) -> Node {
        let degree = members.count, d = Double(degree)
        let speed = ranks[members].map { problem.rates.speeds[$0] }.min() ?? 1
        let link = ranks[members].map { problem.rates.links[$0] }.min() ?? 1
        let ways = problem.ways[degree]
        let capacity = problem.tokenCap * degree
        // The way that is quickest for a full task stands for all in estimates.
        let lines = (ways ?? []).map { way in
            let (latency, slope) = way.curve.minorant
            return (latency: latency / link, perToken: slope * way.bytesPerToken / link)
        }
        func full(_ line: (latency: Double, perToken: Double)) -> Double {
            line.latency + line.perToken * Double(capacity)
        }
        let line = lines.min { full($0) < full($1) } ?? (0, 0)
        let taskSeconds = problem.cost.taskSeconds / speed + line.latency
        return Node(members: members, parent: parent, isAllowed: ways != nil, speed: speed, link: link,
                    capacity: capacity, taskSeconds: taskSeconds, perWork: 1 / (d * speed), perToken: line.perToken,
                    perTokenFull: line.perToken + taskSeconds / Double(capacity))
    }
}
