import Base

/// The production planner: families, greedy starts with a row of targets, local search on the best of them, and, while
/// a gap to the bound remains, the same again after small disturbances. Deterministic: no clock, and random numbers of
/// a counter.
struct FastSearch {
    let problem: PlanProblem
    private let families: [GroupFamily]
    private var starts: [Start] = []

    /// A plan this near to the bound is left alone.
    static let goodEnough = 1.002
    /// What a start may end after, in parts of the bound: the nearest that has room for all is not known before.
    private static let targets = [1.002, 1.01, 1.03, 1.1, 1.3, 1.0]
    /// Starts that local search goes on from.
    private static let kept = 3
    /// Beyond this many items times nodes local search goes on from the best start alone.
    private static let otherStarts = 30_000
    /// What disturbing may cost: items times nodes, over all rounds.
    private static let disturbance = 200_000
    private static let mostRounds = 300

    private struct Start {
        var assignment: NestedAssignment
        /// Which families' starts may replace each other does not matter; the number keeps ties in order.
        var family: Int
    }

    init(_ problem: PlanProblem) {
        self.problem = problem
        families = GroupFamily.candidates(problem)
    }

    /// The end of the best start; infinite before the first.
    var makespan: Double { starts.first?.assignment.makespan ?? .infinity }

    /// Starts in which a rank is worth its speed.
    mutating func start(bound: Double) {
        for (number, family) in families.enumerated() {
            let worth = family.nodes.map { node in
                family.ranks[node.members].reduce(0) { $0 + problem.rates.speeds[$1] }
            }
            start(number, bound, prices: worth)
        }
    }

    /// Starts from what a linear program says.
    mutating func start(guide: FractionalPlan) {
        for (number, family) in families.enumerated() where makespan > guide.bound * Self.goodEnough {
            if guide.hasPrices { start(number, guide.bound, prices: guide.prices(family)) }
            let confined = guide.confinement(family)
            keep(number, greedyHomes(family, problem, target: guide.bound, prices: guide.prices(family),
                                     confined: confined))
        }
    }

    private mutating func start(_ number: Int, _ bound: Double, prices: [Double]) {
        // A family in which the longest sequence alone takes longer than a whole plan elsewhere is out.
        guard critical(families[number]) < makespan else { return }
        for factor in Self.targets where makespan > bound * Self.goodEnough {
            keep(number, greedyHomes(families[number], problem, target: bound * factor, prices: prices))
        }
    }

    private mutating func keep(_ number: Int, _ homes: [Int]) {
        guard !homes.contains(-1) else { return }
        var assignment = NestedAssignment(families[number], items: homes.count)
        assignment.fill(homes, problem)
        let place = starts.firstIndex { $0.assignment.makespan > assignment.makespan } ?? starts.count
        starts.insert(Start(assignment: assignment, family: number), at: place)
        if starts.count > Self.kept { starts.removeLast() }
    }

    private func critical(_ family: GroupFamily) -> Double {
        guard let tokens = problem.tokens.first, let work = problem.work.first else { return 0 }
        return family.nodes.filter { $0.isAllowed && tokens <= $0.capacity }.map {
            work * $0.perWork + Double(tokens) * $0.perToken
        }.min() ?? .infinity
    }

    /// The best that local search makes of the starts. `bound`: seconds that no plan beats.
    func best(bound: Double) -> NestedAssignment {
        let improvement = Improvement(problem: problem, enough: bound * Self.goodEnough)
        guard var best = starts.first?.assignment else { preconditionFailure("sequences that fit have a start") }
        let limit = 4 * problem.tokens.count + 64
        improvement.improve(&best, limit: limit)
        let effort = problem.tokens.count * best.family.nodes.count
        for start in starts.dropFirst() where effort <= Self.otherStarts && best.makespan > improvement.enough {
            var other = start.assignment
            improvement.improve(&other, limit: limit)
            if other.makespan < best.makespan { best = other }
        }
        disturb(&best, improvement, rounds: min(Self.mostRounds, Self.disturbance / effort))
        return best
    }

    /// Some items are taken out and put back where they end first, then local search; what is no better is undone.
    private func disturb(_ best: inout NestedAssignment, _ improvement: Improvement, rounds: Int) {
        let count = problem.tokens.count
        for round in 0..<rounds where best.makespan > improvement.enough {
            let random = CounterRNG(seed: 0x5EED, stream: UInt64(round))
            var trial = best
            let taken = Set((0..<min(count, 2 + round % 4)).map { random.integer(below: count, at: UInt64($0)) })
            for item in taken.sorted() { trial.take(item, problem) }
            for (draw, item) in taken.sorted().enumerated() {
                let nodes = trial.family.nodes.indices.filter {
                    trial.family.nodes[$0].isAllowed && problem.tokens[item] <= trial.family.nodes[$0].capacity
                }
                trial.put(item, on: nodes[random.integer(below: nodes.count, at: UInt64(16 + draw))], problem)
            }
            improvement.improve(&trial, limit: 64)
            if trial.makespan < best.makespan { best = trial }
        }
    }
}
