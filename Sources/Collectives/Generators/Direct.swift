// Algorithms in which every message goes straight from its first owner to its last: one hop, W - 1 messages.
// Staggered: in one round no two ranks send to the same one.

extension Schedule {
    /// Direct reduce-scatter: every rank sends each part straight to its owner, which adds them in the
    /// order x[p] + x[p-1] + x[p-2] + ...; the first bytes need one hop.
    mutating func directReduceScatter(_ partition: Partition) {
        for distance in 1..<max(1, size) {
            round(distance - 1, send: partition.ringPart(index + distance), to: index + distance,
                  receive: partition[index], from: index - distance, .reduce(reduction))
        }
    }

    /// Direct all-gather: every rank sends its own part to every other.
    mutating func directAllGather(_ partition: Partition, firstRound: Int) {
        for distance in 1..<max(1, size) {
            round(firstRound + distance - 1, send: partition[index], to: index + distance,
                  receive: partition.ringPart(index - distance), from: index - distance, .replace)
        }
    }

    /// Both: two hops, and the owner's sum of each part.
    mutating func directAllReduce(_ partition: Partition) {
        directReduceScatter(partition)
        let next = max(0, size - 1)
        if isNarrow { alone(.narrow, partition[index], round: next) }
        directAllGather(partition, firstRound: next)
    }

    /// What an all-gather does to a rank's own part before it travels: the caller makes it, a segment at a time, or it
    /// is rounded to what the others will get.
    mutating func prepare(_ own: Range<Int>, byCaller: Bool) {
        for segment in segments(of: own, atMost: segmentLimit) {
            if byCaller { alone(.prepare, segment, round: 0) }
            if isNarrow { alone(.narrow, segment, round: 0) }
        }
    }

    /// All-to-all: part q of this rank's source becomes part `index` of q's buffer. The lengths of both are this rank's
    /// own; what it sends to q must be as long as what q expects from it.
    mutating func pairwiseAllToAll(_ outgoing: Partition, _ incoming: Partition) {
        precondition(outgoing[index].count == incoming[index].count, "what a rank keeps has one length")
        alone(.copy(from: outgoing[index].lowerBound), incoming[index], round: 0)
        for distance in 1..<max(1, size) {
            round(distance, send: outgoing.ringPart(index + distance), ofSource: true, to: index + distance,
                  receive: incoming.ringPart(index - distance), from: index - distance, .replace)
        }
    }

    /// Every part goes to the root. The others' buffers are their part alone.
    mutating func gather(_ partition: Partition, root: Int) { rooted(partition, root: root, toRoot: true) }

    /// Every part comes from the root.
    mutating func scatter(_ partition: Partition, root: Int) { rooted(partition, root: root, toRoot: false) }

    private mutating func rooted(_ partition: Partition, root: Int, toRoot: Bool) {
        for distance in 1..<max(1, size) {
            let position = modulo(root + distance, size)
            guard index == root || index == position else { continue }
            let peer = index == root ? position : root
            let range = index == root ? partition[position] : 0..<partition[index].count
            if (index == root) == toRoot {
                round(distance - 1, receive: range, from: peer)
            } else {
                round(distance - 1, send: range, to: peer)
            }
        }
    }

    /// One buffer from the root to the other of two.
    mutating func transfer(root: Int) {
        precondition(size == 2, "a transfer has two ends")
        if index == root { round(0, send: 0..<count, to: 1 - root) } else { round(0, receive: 0..<count, from: root) }
    }
}
