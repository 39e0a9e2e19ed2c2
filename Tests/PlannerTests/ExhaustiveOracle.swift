import Planner

/// The best plan of a small problem (up to 4 ranks), found by looking at all of them: every partition of the sequences
/// into tasks, every set of ranks for each task (whatever its degree, nested or not), and every global order of tasks.
///
/// Plans are built task by task. Two beginnings that have computed the same sequences differ only in when each rank is
/// free; one that is nowhere later than another one leads to plans at least as good, so the other is dropped. (Where
/// ranks are equal, times count in ascending order.) Dropped, too, is what cannot end before the best that is known:
/// the work that is left would not fit in before. Neither loses the optimum.
struct ExhaustiveOracle {
    private let problem: PlanProblem
    /// Of each rank; 0 where there is none.
    private let speeds: SIMD4<Double>
    private let areEqual: Bool
    /// Of each set of sequences: tokens, and seconds on one rank of speed 1.
    private var tokens: [Int]
    private var work: [Double]
    private var groups: [Group] = []

    private struct Group {
        let members: SIMDMask<SIMD4<Int64>>
        let speed: Double
        let link: Double
        let degree: Int
        let ways: [(mode: TaskMode, bytesPerToken: Double, curve: ExchangeCurve)]
    }

    init(_ problem: PlanProblem) {
        precondition(problem.rates.count <= 4)
        self.problem = problem
        let rates = problem.rates, count = problem.lengths.count
        areEqual = Set(rates.speeds).count == 1 && Set(rates.links).count == 1
        var speeds = SIMD4<Double>.zero
        for rank in 0..<rates.count { speeds[rank] = rates.speeds[rank] }
        self.speeds = speeds
        for set in 1..<(1 << rates.count) {
            let ranks = (0..<rates.count).filter { set >> $0 & 1 == 1 }
            var members = SIMDMask<SIMD4<Int64>>(repeating: false)
            for rank in ranks { members[rank] = true }
            let ways = problem.cost.ways(degree: ranks.count)
            guard ranks.count == 1 || !ways.isEmpty else { continue }
            groups.append(Group(members: members, speed: ranks.map { rates.speeds[$0] }.min()!,
                                link: ranks.map { rates.links[$0] }.min()!, degree: ranks.count, ways: ways))
        }
        tokens = Array(repeating: 0, count: 1 << count)
        work = Array(repeating: 0, count: 1 << count)
        for set in tokens.indices.dropFirst() {
            let first = set.trailingZeroBitCount, rest = set & (set - 1)
            tokens[set] = tokens[rest] + problem.lengths[first]
            work[set] = work[rest] + problem.cost.compute(problem.lengths[first])
        }
    }

    /// Seconds of a set as one task on a group, in the quicker of the modes; nil where it is no task.
    private func seconds(_ set: Int, _ group: Group) -> Double? {
        guard tokens[set] <= problem.tokenCap * group.degree else { return nil }
        let compute = problem.cost.taskSeconds / group.speed + work[set] / (Double(group.degree) * group.speed)
        if group.degree == 1 { return compute }
        let exchanges = group.ways.map { $0.curve($0.bytesPerToken * Double(tokens[set])) / group.link }
        return compute + exchanges.min()!
    }

    /// The least makespan, if it is below `known`; otherwise `known`.
    func optimum(below known: Double) -> Double {
        let all = tokens.count - 1, worth = speeds.sum()
        var best = known
        var fronts = [[SIMD4<Double>]](repeating: [], count: all + 1)
        fronts[0] = [.zero]
        for done in 0..<max(all, 0) where !fronts[done].isEmpty {
            let left = all & ~done
            var set = left
            while set > 0 {
                for group in groups {
                    guard let seconds = seconds(set, group) else { continue }
                    for free in fronts[done] {
                        let end = free.replacing(with: 0, where: .!group.members).max() + seconds
                        var next = free.replacing(with: end, where: group.members)
                        // What is left has to fit into the time until `best`.
                        guard end < best * (1 - 1e-9),
                              (next * speeds).sum() + work[left & ~set] < worth * best else { continue }
                        if done | set == all { best = min(best, next.max()); continue }
                        if areEqual { next = sorted(next) }
                        add(next, to: &fronts[done | set])
                    }
                }
                set = (set - 1) & left
            }
            fronts[done] = []
        }
        return best
    }

    /// Ranks that there are not stay last, at 0.
    private func sorted(_ times: SIMD4<Double>) -> SIMD4<Double> {
        var result = times
        for end in stride(from: problem.rates.count - 1, to: 0, by: -1) {
            for i in 0..<end where result[i] > result[i + 1] { (result[i], result[i + 1]) = (result[i + 1], result[i]) }
        }
        return result
    }

    private func add(_ free: SIMD4<Double>, to front: inout [SIMD4<Double>]) {
        if front.contains(where: { all($0 .<= free) }) { return }
        front.removeAll { all(free .<= $0) }
        front.append(free)
    }
}
