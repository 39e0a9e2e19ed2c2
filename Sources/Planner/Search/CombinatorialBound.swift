/// Seconds that no plan beats, whatever its groups, by counting alone: the least C at which every sequence has a degree
/// at which it alone takes no longer than C, and the cheapest such degrees together fit into C on all ranks.
///
/// Cheapest is what a degree takes of the ranks' worth: d ranks whose slowest has speed v are worth at least d v for
/// as long as the task takes, and all ranks together are worth the sum of their speeds.
///
/// Exchanges count by the line under their curve, at the speed and the link that the d-th best rank has: a group of d
/// has none better. A task's constant counts by the part of it that falls to a token of a full task.
struct CombinatorialBound {
    private struct Degree {
        let degree: Int
        /// Worth for each second of work is 1; for each token:
        let worthPerToken: Double
        /// Alone on ranks of the best kind.
        let perWork: Double
        let perToken: Double
        let constant: Double
        let capacity: Int
    }

    private let problem: PlanProblem
    /// From the cheapest.
    private let degrees: [Degree]
    private let worth: Double

    init(_ problem: PlanProblem) {
        self.problem = problem
        worth = problem.rates.speeds.reduce(0, +)
        let speeds = problem.rates.speeds.sorted(by: >), links = problem.rates.links.sorted(by: >)
        degrees = problem.degrees.map { degree in
            let d = Double(degree), capacity = problem.tokenCap * degree
            // A group of d ranks is no faster than the d-th fastest.
            let (speed, link) = (speeds[degree - 1], links[degree - 1])
            let lines = (problem.ways[degree] ?? []).map { way in
                let (latency, slope) = way.curve.minorant
                return (latency: latency / link, perToken: slope * way.bytesPerToken / link)
            }
            let latency = lines.map(\.latency).min() ?? 0, perToken = lines.map(\.perToken).min() ?? 0
            // d v T: the slower the group, the less its exchange is worth.
            let slowest = speeds[speeds.count - 1]
            let worthPerToken = d * slowest * (perToken + latency / Double(capacity))
                + d * problem.cost.taskSeconds / Double(capacity)
            return Degree(degree: degree, worthPerToken: worthPerToken, perWork: 1 / (d * speed), perToken: perToken,
                          constant: problem.cost.taskSeconds / speed + latency, capacity: capacity)
        }.sorted { ($0.worthPerToken, $0.degree) < ($1.worthPerToken, $1.degree) }
    }

    /// Whether counting cannot rule out a plan of `seconds`.
    private func allows(_ seconds: Double) -> Bool {
        var used = 0.0
        for item in problem.tokens.indices {
            let (tokens, work) = (problem.tokens[item], problem.work[item])
            // The cheapest come first.
            let quick = degrees.first { degree in
                tokens <= degree.capacity && work * degree.perWork + Double(tokens) * degree.perToken + degree.constant
                    <= seconds
            }
            guard let quick else { return false }
            used += work + Double(tokens) * quick.worthPerToken
            if used > worth * seconds { return false }
        }
        return true
    }

    /// The bound, to a millionth of itself, from below.
    var seconds: Double {
        var low = problem.work.reduce(0, +) / worth, high = low
        guard low > 0 else { return 0 }
        if allows(low) { return low }
        repeat {
            low = high
            high *= 2
        } while !allows(high)
        while high - low > 1e-6 * low {
            let middle = (low + high) / 2
            if allows(middle) { high = middle } else { low = middle }
        }
        return low
    }
}
