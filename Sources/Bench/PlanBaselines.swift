import Planner

/// What `bench plan` holds the planner against: how others lay a batch out, on the same modelled machines.
struct PlanBaselines {
    let problem: PlanProblem

    private var longestFirst: [Int] {
        problem.lengths.indices.sorted { (problem.lengths[$1], $0) < (problem.lengths[$0], $1) }
    }

    private func group(_ number: Int, of degree: Int) -> [Int] { Array(number * degree..<(number + 1) * degree) }

    /// The quicker mode of a degree.
    private func task(_ sequences: [Int], _ ranks: [Int]) -> PlannerTask {
        let modes = TaskMode.allCases.filter { problem.cost.permits($0, degree: ranks.count) }
        let tasks = modes.map { PlannerTask(sequences: sequences.sorted(), ranks: ranks, mode: $0) }
        guard let best = tasks.min(by: { problem.seconds(of: $0) < problem.seconds(of: $1) }) else {
            preconditionFailure("no task of \(ranks.count) ranks")
        }
        return best
    }

    /// One degree for every batch, sequences packed best-fit decreasing into tasks of all that a group holds, tasks
    /// dealt to the groups in turn: what trainers with a fixed sequence-parallel degree do.
    func staticBestFit(degree: Int) -> StepPlan {
        var packs: [(room: Int, sequences: [Int])] = []
        let capacity = problem.tokenCap * degree
        for sequence in longestFirst {
            let tokens = problem.lengths[sequence]
            let fitting = packs.indices.filter { packs[$0].room >= tokens }.min { packs[$0].room < packs[$1].room }
            let pack = fitting ?? packs.count
            if fitting == nil { packs.append((capacity, [])) }
            packs[pack].room -= tokens
            packs[pack].sequences.append(sequence)
        }
        let groups = problem.rates.count / degree
        return StepPlan(rankCount: problem.rates.count, tasks: packs.enumerated().map { place, pack in
            task(pack.sequences, group(place % groups, of: degree))
        })
    }

    /// Everything on rank 0, packed best-fit decreasing; nil where a sequence does not fit.
    func alone() -> StepPlan? {
        guard (problem.lengths.max() ?? 0) <= problem.tokenCap else { return nil }
        let packed = staticBestFit(degree: 1)
        return StepPlan(rankCount: problem.rates.count, tasks: packed.tasks.map { own in
            PlannerTask(sequences: own.sequences, ranks: [0], mode: .local)
        })
    }

    /// One degree for all, as the planner balances it.
    func balanced(degree: Int) -> StepPlan? {
        guard let same = try? PlanProblem(lengths: problem.lengths, rates: problem.rates, tokenCap: problem.tokenCap,
                                          cost: problem.cost, degree: degree) else { return nil }
        return Planner().plan(same).plan
    }

    /// The best one degree for this batch: FlexSP's "BatchAda".
    func homogeneous() -> StepPlan? {
        let count = problem.rates.count
        return (1...count).filter { count % $0 == 0 }.compactMap { balanced(degree: $0) }
            .min { $0.times(problem).makespan < $1.times(problem).makespan }
    }
}

/// FlexSP (2412.01523) as its paper and code have it: power-of-two groups that cover the ranks, another layout for each
/// micro-batch, micro-batches in lock-step, so that a step is the sum of their longest groups. Sequences are cut into
/// micro-batches in descending order with the most tokens of one as low as can be, for the least possible number of
/// them and three more. Its solver takes seconds for a step; here every layout is looked at instead, and sequences go
/// to its groups longest first.
struct FlexSP {
    let problem: PlanProblem

    /// A step in lock-step: its seconds, and its tasks with the micro-batch of each.
    struct Step {
        var seconds = 0.0
        var tasks: [PlannerTask] = []
        var microBatches: [Int] = []
    }

    /// Seconds of the step, in lock-step; nil: no number of micro-batches has room.
    func seconds() -> Double? { step()?.seconds }

    func step() -> Step? {
        let order = problem.lengths.indices.sorted { (problem.lengths[$1], $0) < (problem.lengths[$0], $1) }
        let layouts = Self.layouts(problem.rates.count)
        let least = (problem.lengths.reduce(0, +) - 1) / (problem.tokenCap * problem.rates.count) + 1
        var best: Step?, tried = 0, count = least
        // Packing may need more than the tokens say.
        while tried < 4, count <= order.count {
            let micro = chunks(order, count: count).map { chunk in
                layouts.compactMap { assigned(chunk, $0) }.min { $0.seconds < $1.seconds }
            }
            if !micro.contains(where: { $0 == nil }) {
                let step = joined(micro.compactMap { $0 })
                if step.seconds < best?.seconds ?? .infinity { best = step }
                tried += 1
            } else if best != nil {
                tried += 1
            }
            count += 1
        }
        return best
    }

    /// Micro-batches one after the other; their groups have neighbouring ranks, wider ones first.
    private func joined(_ micro: [Assigned]) -> Step {
        var step = Step()
        for (number, one) in micro.enumerated() {
            step.seconds += one.seconds
            var rank = 0
            for (degree, sequences) in zip(one.layout, one.sequences) {
                let ranks = Array(rank..<rank + degree), tokens = sequences.reduce(0) { $0 + problem.lengths[$1] }
                rank += degree
                guard !sequences.isEmpty else { continue }
                let ways = self.ways[degree] ?? []
                let mode = ways.min { $0.curve($0.bytesPerToken * Double(tokens))
                    < $1.curve($1.bytesPerToken * Double(tokens)) }?.mode ?? .local
                step.tasks.append(PlannerTask(sequences: sequences.sorted(), ranks: ranks, mode: mode))
                step.microBatches.append(number)
            }
        }
        return step
    }

    /// Multisets of powers of two with this sum, each descending.
    static func layouts(_ count: Int, most: Int = .max) -> [[Int]] {
        guard count > 0 else { return [[]] }
        var found: [[Int]] = [], degree = 1
        while degree <= min(count, most) {
            found += layouts(count - degree, most: degree).map { [degree] + $0 }
            degree *= 2
        }
        return found
    }

    /// Neighbours together, the most tokens of a chunk as few as possible: found by bisection.
    private func chunks(_ order: [Int], count: Int) -> [[Int]] {
        func cut(_ most: Int) -> [[Int]] {
            var chunks: [[Int]] = [[]], tokens = 0
            for sequence in order {
                if tokens + problem.lengths[sequence] > most, !chunks[chunks.count - 1].isEmpty {
                    chunks.append([])
                    tokens = 0
                }
                tokens += problem.lengths[sequence]
                chunks[chunks.count - 1].append(sequence)
            }
            return chunks
        }
        var low = order.first.map { problem.lengths[$0] } ?? 0, high = problem.lengths.reduce(0, +)
        while low < high {
            let middle = (low + high) / 2
            if cut(middle).count <= count { high = middle } else { low = middle + 1 }
        }
        return cut(high)
    }

    private struct Assigned {
        let seconds: Double
        let layout: [Int]
        let sequences: [[Int]]
    }

    /// A micro-batch on groups of these degrees, one task each; nil where a group has no room.
    private func assigned(_ chunk: [Int], _ layout: [Int]) -> Assigned? {
        guard layout.allSatisfy({ $0 == 1 || !(ways[$0] ?? []).isEmpty }) else { return nil }
        var tokens = [Int](repeating: 0, count: layout.count), work = [Double](repeating: 0, count: layout.count)
        var sequences = [[Int]](repeating: [], count: layout.count)
        for sequence in chunk {
            let length = problem.lengths[sequence], own = compute[sequence]
            var best = (end: Double.infinity, group: -1)
            for (group, degree) in layout.enumerated() where tokens[group] + length <= problem.tokenCap * degree {
                let end = self.seconds(tokens[group] + length, work[group] + own, degree)
                if end < best.end { best = (end, group) }
            }
            guard best.group >= 0 else { return nil }
            tokens[best.group] += length
            work[best.group] += own
            sequences[best.group].append(sequence)
        }
        let seconds = layout.indices.map { tokens[$0] == 0 ? 0 : self.seconds(tokens[$0], work[$0], layout[$0]) }.max()
        return Assigned(seconds: seconds ?? 0, layout: layout, sequences: sequences)
    }

    private func seconds(_ tokens: Int, _ work: Double, _ degree: Int) -> Double {
        let compute = problem.cost.taskSeconds + work / Double(degree)
        guard degree > 1 else { return compute }
        return compute + (ways[degree] ?? []).reduce(Double.infinity) {
            min($0, $1.curve($1.bytesPerToken * Double(tokens)))
        }
    }

    private let compute: [Double]
    private let ways: [Int: [(mode: TaskMode, bytesPerToken: Double, curve: ExchangeCurve)]]

    init(_ problem: PlanProblem) {
        self.problem = problem
        compute = problem.lengths.map { problem.cost.compute($0) }
        var ways: [Int: [(mode: TaskMode, bytesPerToken: Double, curve: ExchangeCurve)]] = [:]
        var degree = 2
        while degree <= problem.rates.count {
            ways[degree] = problem.cost.ways(degree: degree)
            degree *= 2
        }
        self.ways = ways
    }
}
