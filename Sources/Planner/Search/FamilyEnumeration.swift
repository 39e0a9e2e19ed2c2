extension GroupFamily {
    /// All trees up to this many equal ranks: at 8 there are 23, up to exchanging equal ones.
    private static let mostForAllTrees = 8
    /// Likewise of ranks that differ: at 5 there are 105.
    private static let mostForAllUnequalTrees = 5

    /// The families that a search looks at, each once: trees that differ only in which of equal ranks is where count
    /// as one. For few ranks all binary trees; for more, those that a few rules of halving give, each all the way down,
    /// over ranks in order of their speed or of their links.
    static func candidates(_ problem: PlanProblem) -> [GroupFamily] {
        let rates = problem.rates
        let bySpeed = (0..<rates.count).sorted {
            (rates.speeds[$1], rates.links[$1], $0) < (rates.speeds[$0], rates.links[$0], $1)
        }
        let byLink = (0..<rates.count).sorted {
            (rates.links[$1], rates.speeds[$1], $0) < (rates.links[$0], rates.speeds[$0], $1)
        }
        if let degree = problem.degree {
            return [GroupFamily(blocks(of: degree, count: rates.count), problem, ranks: bySpeed)]
        }
        let kinds = kinds(rates, bySpeed), isEqual = kinds.allSatisfy { $0 == 0 }
        var trees: [(shape: Shape, ranks: [Int])]
        if isEqual, rates.count <= mostForAllTrees {
            trees = orderedTrees(rates.count).map { ($0, bySpeed) }
        } else if rates.count <= mostForAllUnequalTrees {
            trees = labelledTrees(bySpeed)
        } else {
            trees = (bySpeed == byLink ? [bySpeed] : [bySpeed, byLink]).flatMap { ranks in
                ruledTrees(ranks.map { kinds[$0] }).map { ($0, ranks) }
            }
        }
        var seen: Set<String> = []
        trees = trees.filter { tree in
            seen.insert(signature(tree.shape, tree.ranks.map { kinds[$0] }, at: 0)).inserted
        }
        return trees.map { GroupFamily($0.shape, problem, ranks: $0.ranks) }
    }

    /// A number for each rank; ranks of equal rates have the same, and the fastest have 0.
    private static func kinds(_ rates: RankRates, _ bySpeed: [Int]) -> [Int] {
        var kinds = [Int](repeating: 0, count: rates.count)
        for (a, b) in zip(bySpeed, bySpeed.dropFirst()) {
            kinds[b] = kinds[a] + (rates.speeds[a] == rates.speeds[b] && rates.links[a] == rates.links[b] ? 0 : 1)
        }
        return kinds
    }

    /// A tree's text that does not tell equal ranks, nor left from right.
    private static func signature(_ shape: Shape, _ classes: [Int], at place: Int) -> String {
        switch shape {
        case .leaf: return "\(classes[place])"
        case .node(let left, let right):
            let a = signature(left, classes, at: place), b = signature(right, classes, at: place + left.count)
            return a < b ? "(\(a) \(b))" : "(\(b) \(a))"
        }
    }

    private static func orderedTrees(_ count: Int) -> [Shape] {
        var trees: [[Shape]] = [[], [.leaf]]
        for n in stride(from: 2, through: count, by: 1) {
            trees.append((1..<n).flatMap { cut in
                trees[cut].flatMap { left in trees[n - cut].map { .node(left, $0) } }
            })
        }
        return trees[count]
    }

    /// All binary trees over these very ranks: the first is on the left, with each choice of the others.
    private static func labelledTrees(_ ranks: [Int]) -> [(shape: Shape, ranks: [Int])] {
        guard ranks.count > 1 else { return [(.leaf, ranks)] }
        let others = Array(ranks.dropFirst())
        var trees: [(shape: Shape, ranks: [Int])] = []
        // Not all others: the right side has at least one.
        for set in 0..<(1 << others.count) - 1 {
            let left = [ranks[0]] + others.indices.filter { set >> $0 & 1 == 1 }.map { others[$0] }
            let right = others.indices.filter { set >> $0 & 1 == 0 }.map { others[$0] }
            for a in labelledTrees(left) {
                for b in labelledTrees(right) { trees.append((.node(a.shape, b.shape), a.ranks + b.ranks)) }
            }
        }
        return trees
    }

    /// Trees that end at groups of `degree` ranks; what is below can have no tasks anyway.
    private static func blocks(of degree: Int, count: Int) -> Shape {
        split(count) { $0 > degree ? ($0 / degree + 1) / 2 * degree : ($0 + 1) / 2 }
    }

    private static func ruledTrees(_ classes: [Int]) -> [Shape] {
        let count = classes.count
        let powers: (Int) -> Int = { n in 1 << (Int.bitWidth - 1 - (n - 1).leadingZeroBitCount) }
        let rules: [(Int) -> Int] = [
            { ($0 + 1) / 2 },
            // Groups of powers of two first: Ulysses deals heads to them more often than to others.
            powers,
            // A third and two thirds: degrees 3, 6, 12, ...
            { n in n % 3 == 0 && n > 3 ? n / 3 * 2 : powers(n) },
        ]
        var shapes = rules.map { split(count, $0) }
        // Equal ranks by themselves, and these joined from the fastest down.
        let differing = Set(classes).sorted()
        if (2...16).contains(differing.count) {
            let runs = differing.map { number in classes.count { $0 == number } }
            for rule in rules.prefix(2) {
                let parts = runs.map { split($0, rule) }
                shapes.append(parts.dropFirst().reduce(parts[0]) { .node($0, $1) })
            }
        }
        return shapes
    }

    /// `rule` gives the left part of a range of more than one.
    private static func split(_ count: Int, _ rule: (Int) -> Int) -> Shape {
        guard count > 1 else { return .leaf }
        let left = rule(count)
        return .node(split(left, rule), split(count - left, rule))
    }
}
