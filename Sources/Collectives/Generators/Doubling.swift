// Algorithms by bits of the position: log2 W rounds in place of W - 1. The sums of all of them follow one tree:
// partners of bit 0 meet first (x0 + x1, x2 + x3, ...), then those of bit 1, and so on. a + b and b + a have the same
// bits, so it does not matter which of two partners adds.

extension Schedule {
    /// The largest power of two up to the group's size.
    private var power: Int {
        var power = 1
        while power * 2 <= size { power *= 2 }
        return power
    }

    /// Where W is no power of two, with P the largest one below: the position P + i gives its contribution to i before
    /// `body`, and is sent the result after it. `body` is given the first round that is free and returns the next.
    private mutating func folded(_ body: (inout Schedule, _ firstRound: Int) -> Int) {
        let all = 0..<count, power = power
        if index >= power {
            round(0, send: all, to: index - power)
        } else if index + power < size {
            round(0, receive: all, from: index + power, .reduce(reduction))
        }
        var rounds = 0
        if index < power {
            rounds = body(&self, 1)
        } else {
            // As many rounds as the others make.
            var other = Schedule(size: size, index: 0, count: count, segmentLimit: segmentLimit,
                                 reduction: reduction, isNarrow: isNarrow)
            rounds = body(&other, 1)
        }
        if index >= power {
            round(rounds, receive: all, from: index - power)
        } else if index + power < size {
            round(rounds, send: all, to: index + power)
        }
    }

    /// Recursive doubling, for small buffers: log2 W rounds, the whole buffer in each.
    mutating func recursiveDoubling() {
        let power = power
        folded { schedule, first in
            var next = first, bit = 1
            let all = 0..<schedule.count
            while bit < power {
                schedule.round(next, send: all, to: schedule.index ^ bit, receive: all,
                               from: schedule.index ^ bit, .reduce(schedule.reduction))
                next += 1
                bit *= 2
            }
            return next
        }
    }

    /// Halving and doubling (Rabenseifner; Thakur et al., "Optimization of collective communication operations in
    /// MPICH", 2005): 2 log2 W rounds, 2 (W - 1) / W of the buffer per rank. In each round a rank keeps one half of
    /// what it holds, sends the other to its partner, and adds what the partner sends; then the halves come back.
    mutating func halvingDoubling() {
        let power = power
        folded { schedule, first in
            var next = first, bit = 1
            var held = [0..<schedule.count]
            while bit < power {
                let range = held[held.count - 1]
                let middle = range.lowerBound + range.count / 2
                let low = range.lowerBound..<middle, high = middle..<range.upperBound
                let keepsHigh = schedule.index & bit != 0
                held.append(keepsHigh ? high : low)
                schedule.round(next, send: keepsHigh ? low : high, to: schedule.index ^ bit,
                               receive: keepsHigh ? high : low, from: schedule.index ^ bit,
                               .reduce(schedule.reduction))
                next += 1
                bit *= 2
            }
            while bit > 1 {
                bit /= 2
                let own = held.removeLast(), whole = held[held.count - 1]
                let other = schedule.index & bit == 0
                    ? own.upperBound..<whole.upperBound : whole.lowerBound..<own.lowerBound
                schedule.round(next, send: own, to: schedule.index ^ bit, receive: other,
                               from: schedule.index ^ bit)
                next += 1
            }
            return next
        }
    }

    /// Reduce-scatter by halving, W a power of two: in the round of bit b a rank sends its partner the parts of all
    /// those owners whose bit b is the partner's, of the parts that it still holds.
    mutating func halvingReduceScatter(_ partition: Partition) {
        var bit = 1, next = 0
        while bit < size {
            let partner = index ^ bit, below = bit - 1
            func parts(like position: Int) -> [Range<Int>] {
                (0..<size).filter { $0 & (below | bit) == position & (below | bit) }.map { partition[$0] }
            }
            round(next, sends: parts(like: partner), to: partner, receives: parts(like: index), from: partner,
                  .reduce(reduction))
            next += 1
            bit *= 2
        }
    }

    /// All-gather by doubling, W a power of two: the halving backwards.
    mutating func doublingAllGather(_ partition: Partition, firstRound: Int) {
        var bit = size / 2, next = firstRound
        while bit >= 1 {
            let partner = index ^ bit, below = bit - 1
            func parts(like position: Int) -> [Range<Int>] {
                (0..<size).filter { $0 & (below | bit) == position & (below | bit) }.map { partition[$0] }
            }
            round(next, sends: parts(like: index), to: partner, receives: parts(like: partner), from: partner, .replace)
            next += 1
            bit /= 2
        }
    }

    /// A barrier: a token of each rank reaches all others in ceil(log2 W) rounds (Bruck et al., 1997). Before the round
    /// of distance d the first d bytes are there; they go to position index + d while as many come from index - d.
    mutating func tokens() {
        var distance = 1, next = 0
        while distance < size {
            round(next, send: 0..<distance, to: index + distance, receive: distance..<(2 * distance),
                  from: index - distance)
            next += 1
            distance *= 2
        }
    }

    /// Bytes of memory that a barrier of `size` ranks takes.
    static func tokenBytes(_ size: Int) -> Int {
        var bytes = 1
        while bytes < size { bytes *= 2 }
        return bytes
    }
}
