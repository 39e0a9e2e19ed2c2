// The generators: each returns one rank's schedule as a pure function of its arguments. `index` is the
// position in the group; peers wrap round the ring. In-place throughout: a rank's contribution lies in the
// buffer at the start and the result at the end.

extension Schedule {
    /// Ring reduce-scatter: W - 1 rounds, each rank sends (W - 1) / W of the buffer (optimal).
    ///
    /// Part p starts at position p + 1 and collects the others round the ring, ending at its owner p. Its
    /// sum is ((x[p+1] + x[p+2]) + ...) + x[p], positions modulo W. Parts that this rank does not own hold
    /// partial sums afterwards.
    static func ringReduceScatter(_ partition: Partition, index: Int, segmentLimit: Int) -> Schedule {
        var schedule = Schedule(size: partition.parts, index: index, count: partition.count,
                                segmentLimit: segmentLimit)
        schedule.appendRingReduceScatter(partition)
        return schedule
    }

    /// Ring all-gather: position p's part travels once round the ring; W - 1 rounds, optimal bytes.
    static func ringAllGather(_ partition: Partition, index: Int, segmentLimit: Int) -> Schedule {
        var schedule = Schedule(size: partition.parts, index: index, count: partition.count,
                                segmentLimit: segmentLimit)
        schedule.appendRingAllGather(partition, firstRound: 0)
        return schedule
    }

    /// Ring all-reduce (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", 2009): the
    /// reduce-scatter, then the all-gather of what each rank has summed. 2 (W - 1) / W of the buffer per
    /// rank. The owner sums and the others copy its bits, so all ranks end with the same bits.
    static func ringAllReduce(_ partition: Partition, index: Int, segmentLimit: Int) -> Schedule {
        var schedule = ringReduceScatter(partition, index: index, segmentLimit: segmentLimit)
        schedule.appendRingAllGather(partition, firstRound: partition.parts - 1)
        return schedule
    }

    private mutating func appendRingReduceScatter(_ partition: Partition) {
        for step in 0..<(size - 1) {
            round(step, send: partition.ringPart(index - step - 1), to: index + 1,
                  receive: partition.ringPart(index - step - 2), from: index - 1, .add)
        }
    }

    private mutating func appendRingAllGather(_ partition: Partition, firstRound: Int) {
        for step in 0..<(size - 1) {
            round(firstRound + step, send: partition.ringPart(index - step), to: index + 1,
                  receive: partition.ringPart(index - step - 1), from: index - 1, .replace)
        }
    }

    /// Recursive doubling, for small buffers: log2 W rounds, the whole buffer in each.
    ///
    /// With P the largest power of two up to W, position i < W - P first adds x[i + P]; then positions whose
    /// numbers differ in bit 0 add each other, then bit 1, and so on; at the end the others are sent the
    /// result. a + b and b + a have the same bits, so all ranks hold the same balanced tree.
    static func recursiveDoubling(count: Int, size: Int, index: Int, segmentLimit: Int) -> Schedule {
        var schedule = Schedule(size: size, index: index, count: count, segmentLimit: segmentLimit)
        var power = 1
        while power * 2 <= size { power *= 2 }
        let all = 0..<count
        if index >= power {
            schedule.round(0, send: all, to: index - power)
        } else if index + power < size {
            schedule.round(0, receive: all, from: index + power, .add)
        }
        var round = 1
        var bit = 1
        while bit < power {
            if index < power {
                schedule.round(round, send: all, to: index ^ bit, receive: all, from: index ^ bit, .add)
            }
            round += 1
            bit *= 2
        }
        if index >= power {
            schedule.round(round, receive: all, from: index - power)
        } else if index + power < size {
            schedule.round(round, send: all, to: index + power)
        }
        return schedule
    }

    /// Direct reduce-scatter: every rank sends each part straight to its owner, which adds them in the
    /// order x[p] + x[p-1] + x[p-2] + ...; the first bytes need one hop. Staggered: in one round no two
    /// ranks send to the same owner.
    static func directReduceScatter(_ partition: Partition, index: Int, segmentLimit: Int) -> Schedule {
        var schedule = Schedule(size: partition.parts, index: index, count: partition.count,
                                segmentLimit: segmentLimit)
        for distance in 1..<max(1, partition.parts) {
            schedule.round(distance - 1, send: partition.ringPart(index + distance), to: index + distance,
                           receive: partition[index], from: index - distance, .add)
        }
        return schedule
    }

    /// Direct all-gather: every rank sends its own part to every other, staggered.
    static func directAllGather(_ partition: Partition, index: Int, segmentLimit: Int) -> Schedule {
        var schedule = Schedule(size: partition.parts, index: index, count: partition.count,
                                segmentLimit: segmentLimit)
        for distance in 1..<max(1, partition.parts) {
            schedule.round(distance - 1, send: partition[index], to: index + distance,
                           receive: partition.ringPart(index - distance), from: index - distance, .replace)
        }
        return schedule
    }

    /// Binomial-tree broadcast, for small buffers: in round k the 2^k ranks that have the data send it on.
    static func treeBroadcast(count: Int, root: Int, size: Int, index: Int, segmentLimit: Int) -> Schedule {
        var schedule = Schedule(size: size, index: index, count: count, segmentLimit: segmentLimit)
        let place = modulo(index - root, size)
        var round = 0
        var holders = 1
        while holders < size {
            if place < holders, place + holders < size {
                schedule.round(round, send: 0..<count, to: index + holders)
            } else if (holders..<(2 * holders)).contains(place) {
                schedule.round(round, receive: 0..<count, from: index - holders)
            }
            round += 1
            holders *= 2
        }
        return schedule
    }

    /// Chain broadcast, for large buffers: segments flow from the root through the ring, each forwarded as
    /// soon as it is there. A rank `place` hops from the root receives segment p in round p + place - 1 and
    /// sends it in round p + place, so all links are busy at once.
    static func chainBroadcast(count: Int, root: Int, size: Int, index: Int, segmentLimit: Int) -> Schedule {
        var schedule = Schedule(size: size, index: index, count: count, segmentLimit: segmentLimit)
        let cut = segments(of: 0..<count, atMost: segmentLimit)
        let place = modulo(index - root, size)
        for round in 0..<(cut.count + size) {
            let sends = place + 1 < size && cut.indices.contains(round - place)
            let receives = place > 0 && cut.indices.contains(round - place + 1)
            schedule.round(round, send: sends ? cut[round - place] : 0..<0, to: index + 1,
                           receive: receives ? cut[round - place + 1] : 0..<0, from: index - 1)
        }
        return schedule
    }
}
