/// The linear program that is solved for every batch: which part of each length bucket is computed at which degree by
/// which class of ranks, if sequences could be cut at will. Its optimum bounds every plan from below, its columns are
/// where an integer plan starts from, and its dual values say what a second of each class of ranks is worth.
///
/// Columns. y[q, b, c] in 0...1: the part of the work of bucket q that groups of a degree in bracket b do whose slowest
/// rank is of class c (classes ascend in speed, so all of the group are of c or above). m[b, c] >= 0: tasks of these
/// groups, each counted as often as it has ranks. C: the end of the step, minimised.
///
/// Rows.
///   bucket q      sum over b, c of y = 1
///   memory b, c   tokens of y <= tokenCap m[b, c]
///   ranks c       seconds x ranks of all groups within classes c and above <= C x their number, and
///   slowest c     seconds of all groups whose slowest is of c <= C x ranks of c: each has at least one of them
///   width b       seconds of all groups of bracket b or wider <= C x how many of them there can be side by side
///   longest q     seconds of a bucket's shortest member, weighted by y <= C: no sequence is computed in two places
///                 at once (for the longest sequence, a bucket of its own, that is the critical path)
///
/// Of y only those columns are there in which the shortest member alone ends before `ceiling`, the end of a plan that
/// is known: a better plan uses no other. So the optimum bounds what is better than that plan, and where there is
/// none, that plan is the best.
///
/// It is a relaxation throughout: a bracket is as cheap as its cheapest degree and as quick as its widest, a bucket has
/// the fewest tokens for its work that any member has, and exchanges count by the line under their curve.
struct FractionalPlan {
    static let bucketCount = 16

    /// No plan ends before.
    let bound: Double
    private let problem: PlanProblem
    private let classes: RankClasses
    private let brackets: [Bracket]
    private let buckets: [Range<Int>]
    /// parts[q][b][c]
    private let parts: [[[Double]]]
    /// What a second of one rank, and of one group's slowest, is worth in a group whose slowest rank is of a class.
    private let rankPrices: [Double]
    private let slowestPrices: [Double]

    /// `floor`: seconds that are known to be a bound already. `ceiling`: the end of a plan.
    init?(_ problem: PlanProblem, floor: Double, ceiling: Double) {
        let classes = RankClasses(problem.rates), brackets = Bracket.all(problem)
        let buckets = [0..<1] + lengthBuckets(Array(problem.tokens.dropFirst()), count: Self.bucketCount - 1).map {
            ($0.lowerBound + 1)..<($0.upperBound + 1)
        }
        var build = FractionalProgram(problem, classes, brackets, buckets, floor: floor, ceiling: ceiling)
        build.fill()
        guard let solution = build.program.relaxed() else { return nil }
        self.problem = problem
        self.classes = classes
        self.brackets = brackets
        self.buckets = buckets
        bound = max(floor, min(ceiling, solution.objective * (1 - 1e-9)))
        parts = build.columns.map { $0.map { $0.map { $0 < 0 ? 0 : solution.columns[$0] } } }
        // A row that limits has a dual value of at most 0.
        let ranks = build.rankRows.map { max(0, -solution.prices[$0]) }
        rankPrices = ranks.indices.map { ranks[0...$0].reduce(0, +) }
        slowestPrices = build.slowestRows.map { max(0, -solution.prices[$0]) }
    }

    /// Whether ranks differ in what they are worth.
    var hasPrices: Bool { classes.count > 1 }

    /// Of each node of a family: its ranks' price by the class of the slowest.
    func prices(_ family: GroupFamily) -> [Double] {
        family.nodes.map { node in
            let slowest = self.slowest(family, node)
            // Where the critical path alone decides, ranks are worth nothing; then the narrower group is taken.
            return (rankPrices[slowest] + 1e-6) * Double(node.degree) + slowestPrices[slowest]
        }
    }

    private func slowest(_ family: GroupFamily, _ node: GroupFamily.Node) -> Int {
        family.ranks[node.members].map { classes.ofRank[$0] }.min() ?? 0
    }

    /// Which nodes an item may go to so that each bucket is shared out as in `parts`: the longest of a bucket to the
    /// widest groups of the slowest class, by their work.
    func confinement(_ family: GroupFamily) -> (_ item: Int, _ node: Int) -> Bool {
        var place = [(bracket: Int, class: Int)](repeating: (0, 0), count: problem.tokens.count)
        for (q, bucket) in buckets.enumerated() {
            var quotas: [(bracket: Int, class: Int, work: Double)] = []
            let work = bucket.reduce(0) { $0 + problem.work[$1] }
            for b in brackets.indices.reversed() {
                for c in 0..<classes.count where parts[q][b][c] > 1e-9 {
                    quotas.append((b, c, parts[q][b][c] * work))
                }
            }
            var at = 0
            for item in bucket where !quotas.isEmpty {
                // The quota that the middle of the item falls into.
                while at + 1 < quotas.count, quotas[at].work < problem.work[item] / 2 {
                    quotas[at + 1].work += quotas[at].work
                    at += 1
                }
                quotas[at].work -= problem.work[item]
                place[item] = (quotas[at].bracket, quotas[at].class)
            }
        }
        let classOfNode = family.nodes.map { slowest(family, $0) }
        return { item, node in
            let (bracket, number) = place[item]
            return classOfNode[node] == number && brackets[bracket].degrees.contains(family.nodes[node].degree)
        }
    }
}

/// Neighbouring degrees that the program takes for one.
struct Bracket {
    let degrees: ClosedRange<Int>
    /// Of the line under the exchanges' curves: least for one rank's link of 1.
    let latency: Double
    /// Least seconds x ranks, and least seconds, for each token.
    let areaPerToken: Double
    let secondsPerToken: Double

    /// Up to 8 ranks each degree by itself, then two brackets for each doubling. Only degrees that there are tasks of.
    static func all(_ problem: PlanProblem) -> [Bracket] {
        var brackets: [Bracket] = [], low = 1
        let count = problem.rates.count
        while low <= count {
            let half = (1 << (Int.bitWidth - 1 - low.leadingZeroBitCount)) / 2
            let high = min(count, low < 8 ? low : low + half - 1)
            let degrees = (low...high).filter { problem.ways[$0] != nil }
            low = high + 1
            guard let first = degrees.first, let last = degrees.last else { continue }
            let lines = degrees.flatMap { degree in
                (problem.ways[degree] ?? []).map { way in
                    let (latency, slope) = way.curve.minorant
                    return (degree: Double(degree), latency: latency, perToken: slope * way.bytesPerToken)
                }
            }
            let isLocal = first == 1
            brackets.append(Bracket(degrees: first...last, latency: isLocal ? 0 : lines.map(\.latency).min() ?? 0,
                                    areaPerToken: isLocal ? 0 : lines.map { $0.degree * $0.perToken }.min() ?? 0,
                                    secondsPerToken: isLocal ? 0 : lines.map(\.perToken).min() ?? 0))
        }
        return brackets
    }
}
