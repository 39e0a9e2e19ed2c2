/// What branch-and-cut found.
package struct ExactOutcome: Sendable, Equatable {
    /// Whether it closed: no plan over the same family ends before `bound`.
    package var isProven: Bool
    package var bound: Double

    package init(isProven: Bool, bound: Double) { (self.isProven, self.bound) = (isProven, bound) }
}

/// The integer program behind the fast search, as its oracle: the best plan over one nested family.
///
/// Columns. x[l, g]: how many sequences of length l group g computes. n[g]: its tasks. C: the end, minimised.
/// Rows. Every sequence is computed; tokens of g <= n[g] times what a task of g holds; the seconds of all groups above
/// a rank, its own included, <= C; n[g] >= 1 where g computes anything. Where the two halves of a group are alike, the
/// left one computes at least as many tokens: otherwise each plan would be searched once for every exchange of equal
/// ranks.
///
/// FlexSP (2412.01523, section 4.1) has virtual groups of one micro-batch and sums the maxima of several; here the
/// whole step is one program, and its objective is what the plan's simulation says. Two things make it a bound from
/// below where they matter: exchanges count by the line under their curve, and tasks by their tokens, which may not
/// pack.
struct ExactProgram {
    private let problem: PlanProblem
    private let start: NestedAssignment
    private let lengths: [(tokens: Int, work: Double, items: [Int])]
    private var program = LinearProgram()
    /// Of [l][g]; -1 where a sequence does not fit.
    private var counts: [[Int]]
    private var tasks: [Int] = []
    private let end: Int
    private let floor: Double

    /// `floor`: seconds that no plan beats.
    init(_ problem: PlanProblem, _ start: NestedAssignment, floor: Double) {
        self.floor = floor
        self.problem = problem
        self.start = start
        var groups: [(tokens: Int, work: Double, items: [Int])] = []
        for item in problem.tokens.indices {
            if groups.last?.tokens == problem.tokens[item] {
                groups[groups.count - 1].items.append(item)
            } else {
                groups.append((problem.tokens[item], problem.work[item], [item]))
            }
        }
        lengths = groups
        counts = Array(repeating: Array(repeating: -1, count: start.family.nodes.count), count: groups.count)
        end = program.addColumn(min(floor, start.makespan)...start.makespan, objective: 1)
        addColumns()
        addPaths()
        addSymmetry()
    }

    private mutating func addColumns() {
        for (g, node) in start.family.nodes.enumerated() {
            tasks.append(program.addColumn(0...(node.isAllowed ? Double(problem.tokens.count) : 0), isWhole: true))
            let room = program.addRow(-Double.infinity...0, [(tasks[g], -Double(node.capacity))])
            for (l, length) in lengths.enumerated() where node.isAllowed && length.tokens <= node.capacity {
                let column = program.addColumn(0...Double(length.items.count), isWhole: true)
                counts[l][g] = column
                program.add(Double(length.tokens), of: column, to: room)
                if length.items.count == 1 {
                    _ = program.addRow(-Double.infinity...0, [(column, 1), (tasks[g], -1)])
                }
            }
        }
        for (l, length) in lengths.enumerated() {
            let all = Double(length.items.count)
            _ = program.addRow(all...all, counts[l].filter { $0 >= 0 }.map { ($0, 1) })
        }
    }

    private func seconds(of node: Int) -> [(column: Int, value: Double)] {
        let here = start.family.nodes[node]
        return lengths.indices.filter { counts[$0][node] >= 0 }.map { l in
            (counts[l][node], lengths[l].work * here.perWork + Double(lengths[l].tokens) * here.perToken)
        } + [(tasks[node], here.taskSeconds)]
    }

    private mutating func addPaths() {
        for leaf in start.family.leaves {
            var sum = [(column: end, value: -1.0)], at = leaf
            while at >= 0 {
                sum += seconds(of: at)
                at = start.family.nodes[at].parent
            }
            _ = program.addRow(-Double.infinity...0, sum)
        }
    }

    private mutating func addSymmetry() {
        let nodes = start.family.nodes
        for node in nodes where !node.isLeaf && areAlike(node.left, node.right) {
            let sides = [(node.left, 1.0), (node.right, -1.0)].flatMap { top, sign in
                nodes.indices.filter { nodes[top].contains(nodes[$0]) }.flatMap { inner in
                    lengths.indices.filter { counts[$0][inner] >= 0 }.map {
                        (column: counts[$0][inner], value: sign * Double(lengths[$0].tokens))
                    }
                }
            }
            _ = program.addRow(0...Double.infinity, sides)
        }
    }

    /// Whether two subtrees are the same but for which ranks they have.
    private func areAlike(_ a: Int, _ b: Int) -> Bool {
        let (left, right) = (start.family.nodes[a], start.family.nodes[b])
        guard left.degree == right.degree, left.speed == right.speed, left.link == right.link,
              left.isLeaf == right.isLeaf else { return false }
        return left.isLeaf || areAlike(left.left, right.left) && areAlike(left.right, right.right)
    }

    /// Beyond this many columns a single node may take minutes, and nothing would be proven anyway.
    private static let mostColumns = 2_000

    /// At most `nodes` nodes of branch-and-cut. The assignment is nil where none was found, or the program is too large
    /// to begin.
    func solve(nodes: Int) -> (ExactOutcome, NestedAssignment?) {
        guard program.columnCount <= Self.mostColumns,
              let solution = program.solved(nodes: nodes, start: startColumns()) else {
            return (ExactOutcome(isProven: false, bound: floor), nil)
        }
        var homes = [Int](repeating: 0, count: problem.tokens.count)
        for (l, length) in lengths.enumerated() {
            var items = length.items[...]
            for node in start.family.nodes.indices where counts[l][node] >= 0 {
                for _ in 0..<Int(solution.columns[counts[l][node]].rounded()) {
                    guard let item = items.popFirst() else { break }
                    homes[item] = node
                }
            }
        }
        var found = NestedAssignment(start.family, items: homes.count)
        found.fill(homes, problem)
        return (ExactOutcome(isProven: solution.isProven, bound: solution.bound), found)
    }

    /// The start's columns, with equal halves exchanged so that the left one has more tokens.
    private func startColumns() -> [Double] {
        let nodes = start.family.nodes
        var image = Array(nodes.indices)
        func tokens(_ top: Int) -> Int {
            nodes.indices.filter { nodes[top].contains(nodes[$0]) }.reduce(0) { sum, node in
                sum + start.items[node].reduce(0) { $0 + problem.tokens[$1] }
            }
        }
        // Where `from` is computed by the start, `to` computes it in the program.
        func map(_ from: Int, to: Int) {
            image[from] = to
            guard !nodes[from].isLeaf else { return }
            var halves = (nodes[from].left, nodes[from].right)
            if areAlike(halves.0, halves.1), tokens(halves.0) < tokens(halves.1) { swap(&halves.0, &halves.1) }
            map(halves.0, to: nodes[to].left)
            map(halves.1, to: nodes[to].right)
        }
        map(0, to: 0)
        var columns = [Double](repeating: 0, count: program.columnCount)
        columns[end] = start.makespan
        for node in nodes.indices {
            columns[tasks[image[node]]] = Double(pack(start.items[node], capacity: nodes[node].capacity, problem).count)
            for (l, length) in lengths.enumerated() where counts[l][image[node]] >= 0 {
                columns[counts[l][image[node]]] = Double(length.items.count { start.home[$0] == node })
            }
        }
        return columns
    }
}
