import Base

/// The production planner: families, greedy starts with a row of targets, local search on the best of them, and, while
/// a gap to the bound remains, the same again after small disturbances. Deterministic: no clock, and random numbers of
/// a counter.
struct FastSearch {
    let problem: PlanProblem
    private let families: [GroupFamily]
    /// Items times nodes: what looking once at everything costs.
    private let effort: Int
    /// What a start may end after, in parts of the bound: the nearest that has room for all is not known before.
    private let targets: [Double]
    /// Starts that local search goes on from.
    private let kept: Int
    private var starts: [NestedAssignment] = []

    /// A plan this near to the bound is left alone.
    static let goodEnough = 1.002
    /// What the search may cost, in items times nodes: how many targets, how many starts to go on from, how many
    /// changes of local search, and how many disturbances. Large batches need few of them, since many short sequences
    /// fill every gap.
    private static let targetBudget = 400_000
    private static let startBudget = 30_000
    private static let stepBudget = 400_000_000
    /// Local search takes more than in proportion, so the square counts.
    private static let disturbanceBudget = 2_000_000_000
    private static let mostRounds = 150

    init(_ problem: PlanProblem) {
        self.problem = problem
        families = GroupFamily.candidates(problem)
        effort = problem.tokens.count * (2 * problem.rates.count - 1)
        let count = max(4, min(40, Self.targetBudget / (effort * families.count)))
        // From just above the bound to 1.5 times of it, the first ones closer together.
        targets = (0..<count).map { 1.002 + 0.5 * pow(Double($0) / Double(count), 2) } + [1]
        kept = max(1, min(8, Self.startBudget / effort))
    }

    /// The end of the best start; infinite before the first.
    var makespan: Double { starts.first?.makespan ?? .infinity }

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

    /// `number`: of the family.
    private mutating func start(_ number: Int, _ bound: Double, prices: [Double]) {
        // A family in which the longest sequence alone takes longer than a whole plan elsewhere is out.
        guard critical(families[number]) < makespan else { return }
        for factor in targets {
            for stacks in [false, true] where makespan > bound * Self.goodEnough {
                keep(number, greedyHomes(families[number], problem, target: bound * factor, prices: prices,
                                         stacks: stacks))
            }
        }
    }

    private mutating func keep(_ number: Int, _ homes: [Int]) {
        guard !homes.contains(-1) else { return }
        var assignment = NestedAssignment(families[number], items: homes.count)
        assignment.fill(homes, problem)
        let place = starts.firstIndex { $0.makespan > assignment.makespan } ?? starts.count
        starts.insert(assignment, at: place)
        if starts.count > kept { starts.removeLast() }
    }

    /// Seconds of the longest sequence alone, on the group where it takes the least.
    private func critical(_ family: GroupFamily) -> Double {
        guard let tokens = problem.tokens.first, let work = problem.work.first else { return 0 }
        return family.nodes.filter { $0.isAllowed && tokens <= $0.capacity }.map {
            work * $0.perWork + Double(tokens) * $0.perToken
        }.min() ?? .infinity
    }

    /// The best that local search makes of the starts. `bound`: seconds that no plan beats.
    func best(bound: Double) -> NestedAssignment {
        let improvement = Improvement(problem: problem, enough: bound * Self.goodEnough)
        guard var best = starts.first else { preconditionFailure("sequences that fit have a start") }
        let limit = max(16, min(4 * problem.tokens.count + 64, Self.stepBudget / effort))
        improvement.improve(&best, limit: limit)
        for start in starts.dropFirst() where best.makespan > improvement.enough {
            var other = start
            improvement.improve(&other, limit: limit)
            if other.makespan < best.makespan { best = other }
        }
        disturb(&best, improvement, rounds: min(Self.mostRounds, Self.disturbanceBudget / effort / effort))
        return best
    }

    /// Some items, long ones more often, go to other groups at random, of about the degree that they had; then local
    /// search. What is no better is undone.
    private func disturb(_ best: inout NestedAssignment, _ improvement: Improvement, rounds: Int) {
        let count = problem.tokens.count, nodes = best.family.nodes
        for round in 0..<rounds where best.makespan > improvement.enough {
            let random = CounterRNG(seed: 0x5EED, stream: UInt64(round))
            var trial = best
            for draw in 0..<UInt64(1 + round % 4) {
                let item = Int(Double(count) * pow(random.uniform(at: 2 * draw), 2))
                let degree = nodes[trial.home[item]].degree
                let others = nodes.indices.filter { node in
                    nodes[node].isAllowed && problem.tokens[item] <= nodes[node].capacity && node != trial.home[item]
                        && (degree / 2...degree * 2).contains(nodes[node].degree)
                }
                guard !others.isEmpty else { continue }
                trial.take(item, problem)
                trial.put(item, on: others[random.integer(below: others.count, at: 2 * draw + 1)], problem)
            }
            improvement.improve(&trial, limit: 64)
            if trial.makespan < best.makespan { best = trial }
        }
    }
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
