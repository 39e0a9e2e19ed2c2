/// How far one clock is ahead of another, and how well that is known.
///
/// Both sides note the time, send it, and note the time again when the other's has come. Whatever the network did, a
/// message comes after it was sent: the other's first time was before our second, and ours before the other's second.
/// So each round puts two bounds on the offset, as far apart as the message took there and back; the best of several
/// rounds hold for all (Cristian's algorithm, "Probabilistic clock synchronization", 1989, kept as an interval).
public struct ClockOffset: Sendable, Equatable {
    public struct Round: Sendable {
        public var ownBegin, ownEnd, otherBegin, otherEnd: Int64

        /// Nanoseconds, each side's by its own clock.
        public init(ownBegin: Int64, ownEnd: Int64, otherBegin: Int64, otherEnd: Int64) {
            self.ownBegin = ownBegin
            self.ownEnd = ownEnd
            self.otherBegin = otherBegin
            self.otherEnd = otherEnd
        }
    }

    /// Nanoseconds to take off this clock's time to get the other's.
    public var nanoseconds: Int64
    /// The true offset is no further from it than this, in nanoseconds.
    public var uncertainty: Int64

    public static let none = ClockOffset(nanoseconds: 0, uncertainty: 0)

    public init(nanoseconds: Int64, uncertainty: Int64) {
        self.nanoseconds = nanoseconds
        self.uncertainty = uncertainty
    }

    /// At least one round, all within a time in which the clocks keep step.
    public init(_ rounds: [Round]) {
        guard let low = rounds.map({ $0.ownBegin - $0.otherEnd }).max(),
              let high = rounds.map({ $0.ownEnd - $0.otherBegin }).min()
        else { preconditionFailure("an offset needs a round") }
        nanoseconds = low + (high - low) / 2
        uncertainty = abs(high - low) / 2 + 1
    }
}

/// One clock's times as another's, over a stretch in which they may drift apart: exact at both ends, a line between.
public struct ClockAlignment: Sendable {
    private let begin: (time: Int64, offset: ClockOffset)
    private let end: (time: Int64, offset: ClockOffset)

    /// The offsets as measured at two times of this clock.
    public init(at begin: Int64, _ first: ClockOffset, at end: Int64, _ last: ClockOffset) {
        self.begin = (begin, first)
        self.end = (end, last)
    }

    /// At the stretch's end.
    public var offset: ClockOffset { end.offset }
    public var uncertainty: Int64 { max(begin.offset.uncertainty, end.offset.uncertainty) }

    /// `time` of this clock as the other shows it. The same order as before, whatever the offsets.
    public func align(_ time: Int64) -> Int64 {
        let span = Double(max(end.time - begin.time, 1))
        let change = Double(end.offset.nanoseconds - begin.offset.nanoseconds)
        let part = min(max(Double(time - begin.time) / span, 0), 1)
        return time - begin.offset.nanoseconds - Int64((part * change).rounded())
    }
}
