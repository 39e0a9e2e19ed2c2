import Base

extension Communicator {
    /// How far this rank's `clock` is ahead of that of the world's first rank; all ranks call it at once. The ends of
    /// a round travel with the beginnings of the next.
    public func clockOffset(rounds: Int = 24, clock: () -> Int64) throws(CollectiveFault) -> ClockOffset {
        precondition(rounds > 0, "an offset needs a round")
        guard worldSize > 1 else { return .none }
        var measured: [ClockOffset.Round] = []
        var lastBegin: Int64 = 0, lastEnd: Int64 = 0, otherBegin: Int64 = 0
        for round in 0...rounds {
            let begin = clock()
            let row = try exchange([Double(begin), Double(lastEnd)])[0]
            let end = clock()
            if round > 0 {
                measured.append(ClockOffset.Round(ownBegin: lastBegin, ownEnd: lastEnd, otherBegin: otherBegin,
                                                  otherEnd: Int64(row[1])))
            }
            (lastBegin, lastEnd, otherBegin) = (begin, end, Int64(row[0]))
        }
        return rank == 0 ? .none : ClockOffset(measured)
    }
}
