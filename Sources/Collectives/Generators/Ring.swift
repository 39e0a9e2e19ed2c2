// The generators: each appends one rank's steps, a pure function of its arguments. `index` is the position in the
// group; peers wrap round the ring. In-place but for the all-to-all: a rank's contribution lies in the buffer at the
// start and the result at the end.

extension Schedule {
    /// Ring reduce-scatter: W - 1 rounds, each rank sends (W - 1) / W of the buffer (optimal).
    ///
    /// Part p starts at position p + 1 and collects the others round the ring, ending at its owner p. Its
    /// sum is ((x[p+1] + x[p+2]) + ...) + x[p], positions modulo W. Parts that this rank does not own hold
    /// partial sums afterwards.
    mutating func ringReduceScatter(_ partition: Partition) {
        for step in 0..<(size - 1) {
            round(step, send: partition.ringPart(index - step - 1), to: index + 1,
                  receive: partition.ringPart(index - step - 2), from: index - 1, .reduce(reduction))
        }
    }

    /// Ring all-gather: position p's part travels once round the ring; W - 1 rounds, optimal bytes.
    mutating func ringAllGather(_ partition: Partition, firstRound: Int) {
        for step in 0..<(size - 1) {
            round(firstRound + step, send: partition.ringPart(index - step), to: index + 1,
                  receive: partition.ringPart(index - step - 1), from: index - 1, .replace)
        }
    }

    /// Ring all-reduce (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", 2009): the
    /// reduce-scatter, then the all-gather of what each rank has summed. 2 (W - 1) / W of the buffer per
    /// rank. The owner sums and the others copy its bits, so all ranks end with the same bits.
    mutating func ringAllReduce(_ partition: Partition) {
        ringReduceScatter(partition)
        ringAllGather(partition, firstRound: size - 1)
    }
}
