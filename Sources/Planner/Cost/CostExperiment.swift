import Base

/// Which tasks are measured for a cost model, and the model that comes of their times.
///
/// Tasks come in *rounds*: all ranks begin at the same moment, and each is in one task of a round, since ranks of one
/// machine slow each other down in training, too.
package struct CostExperiment: Sendable {
    package struct Task: Sendable, Equatable {
        package var lengths: [Int]
        package var ranks: [Int]
        package var mode: TaskMode

        package init(lengths: [Int], ranks: [Int], mode: TaskMode) {
            (self.lengths, self.ranks, self.mode) = (lengths, ranks, mode)
        }

        var tokens: Int { lengths.reduce(0, +) }
    }

    /// Ranks, what one of them holds in a task, and the longest sequence.
    package let ranks: Int
    package let cap: Int
    package let longest: Int
    package let shape: CostShape
    /// Lengths by a factor of the root of 2, else of 2: where a task takes long, fewer have to do.
    package let isDense: Bool

    package init(ranks: Int, cap: Int, longest: Int, shape: CostShape, isDense: Bool = true) {
        (self.ranks, self.cap, self.longest, self.shape, self.isDense) = (ranks, cap, longest, shape, isDense)
    }

    /// The largest task of a rank alone: it makes memory warm, and says how long measuring will take.
    package var largest: [Task] { alone(Self.cut(cap, longest)) }

    package var rounds: [[Task]] { localRounds + sharedRounds }

    /// Tokens of all rounds on one rank, in units of `cap`: about how many of the largest tasks they take.
    package var extent: Double { rounds.reduce(0) { $0 + extent($1) } }

    /// Of one round.
    package func extent(_ round: [Task]) -> Double {
        round.map { Double($0.tokens) / Double($0.ranks.count * cap) }.max() ?? 0
    }

    /// Single sequences of all lengths, and several of one length at a time: a task's own cost is known only beside
    /// that of each of its sequences.
    private var localRounds: [[Task]] {
        let most = min(cap, longest), first = min(16, most)
        var lengths: [Int] = [], x = Double(most)
        while Int(x) > first {
            lengths.append(Int(x))
            x /= isDense ? 2.0.squareRoot() : 2
        }
        let single = Set(lengths + [first, max(1, first / 2), max(1, first / 4)]).sorted().map { [$0] }
        let several = stride(from: 3, through: isDense ? 11 : 9, by: 2).map { 1 << $0 }.filter { 2 * $0 <= cap }
            .flatMap { length in
                (isDense ? [4, 1] : [1]).map { part in
                    Array(repeating: min(length, longest), count: max(2, cap / min(length, longest) / part))
                }
            }
        return (single + several).map { alone($0) }
    }

    /// Every degree that is a power of two, and all ranks together, each in both modes where they are possible: as
    /// much as the ranks hold, a quarter, and so on.
    private var sharedRounds: [[Task]] {
        var rounds: [[Task]] = []
        for degree in degrees {
            for mode in [TaskMode.ulysses, .ring] where permits(mode, degree) {
                for part in isDense ? [1, 2, 4, 8, 16, 64] : [1, 4, 16] {
                    let tokens = max(degree * min(cap, 8), degree * cap / part)
                    rounds.append(grouped(Self.cut(tokens, longest), degree, mode))
                }
            }
        }
        return rounds
    }

    package var degrees: [Int] {
        Set((1...12).map { 1 << $0 }.filter { $0 <= ranks } + [ranks]).filter { $0 > 1 }.sorted()
    }

    package func permits(_ mode: TaskMode, _ degree: Int) -> Bool {
        CostModel.permits(mode, degree: degree, heads: shape.heads, keyHeads: shape.keyHeads)
    }

    private func alone(_ lengths: [Int]) -> [Task] {
        (0..<ranks).map { Task(lengths: lengths, ranks: [$0], mode: .local) }
    }

    /// Neighbours together; ranks that are left over compute their part alone, so that none rests.
    package func grouped(_ lengths: [Int], _ degree: Int, _ mode: TaskMode) -> [Task] {
        let groups = ranks / degree
        let own = (0..<groups).map { group in
            Task(lengths: lengths, ranks: Array(group * degree..<(group + 1) * degree), mode: mode)
        }
        let rest = max(1, lengths.reduce(0, +) / degree)
        return own + (groups * degree..<ranks).map { rank in
            Task(lengths: Self.cut(rest, longest), ranks: [rank], mode: .local)
        }
    }

    /// Sequences of up to `longest` tokens that are so many together.
    private static func cut(_ tokens: Int, _ longest: Int) -> [Int] {
        let whole = Array(repeating: longest, count: tokens / longest)
        return tokens % longest == 0 ? whole : whole + [tokens % longest]
    }

    /// The model that these times give: `seconds[round][rank]`, of `rounds`. `links`: of each rank, relative to the
    /// best one. A shared task's exchange is what it takes beyond its computation: for what goes under the computation
    /// nobody waits.
    package func fitted(_ seconds: [[Double]], links: [Double]) throws(BadInput) -> FrozenCost {
        let rounds = rounds
        var measurements = CostMeasurements(compute: [], exchange: [])
        for (round, times) in zip(rounds, seconds) {
            for task in round where task.mode == .local && Set(task.lengths).count == 1 && round.count == ranks {
                measurements.compute.append(.init(rank: task.ranks[0], length: task.lengths[0],
                                                  count: task.lengths.count, seconds: times[task.ranks[0]]))
            }
        }
        let (alone, rates) = try CostModel.fitted(to: measurements, ranks: ranks, shape: shape)
        let speeds = RankRates.levelled(rates.speeds, tolerance: 0.05)
        for (round, times) in zip(rounds, seconds) {
            for task in round where task.mode != .local {
                let compute = alone.seconds(task.lengths, degree: task.ranks.count)
                    / (task.ranks.map { speeds[$0] }.min() ?? 1)
                let took = task.ranks.map { times[$0] }.max() ?? 0
                let link = task.ranks.map { links[$0] }.min() ?? 1
                measurements.exchange.append(.init(
                    mode: task.mode, slowest: 0, degree: task.ranks.count,
                    bytes: shape.bytes(task.mode, tokens: task.tokens, degree: task.ranks.count),
                    seconds: max(1e-9, took - compute) * link))
            }
        }
        let (model, _) = try CostModel.fitted(to: measurements, ranks: ranks, shape: shape)
        return FrozenCost(model: model, rates: RankRates(speeds: speeds, links: links))
    }
}

extension CostShape {
    /// What each rank sends for so many tokens.
    func bytes(_ mode: TaskMode, tokens: Int, degree: Int) -> Double {
        let d = Double(degree), part = Double(tokens) * (d - 1) / d
        return mode == .ulysses ? ulyssesBytesPerToken * part / d : ringBytesPerToken * part
    }
}

extension CostModel {
    /// Seconds of computation of a task on ranks of speed 1.
    func seconds(_ lengths: [Int], degree: Int) -> Double {
        taskSeconds + lengths.reduce(0) { $0 + compute($1) } / Double(degree)
    }
}
