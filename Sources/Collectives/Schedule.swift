/// What a received range does to the elements that are already there.
public enum Combine: Sendable, Equatable {
    case replace
    case reduce(Reduction)
}

/// One message as one of its two ends sees it, or a deed of this rank alone. Both ends of a message name the same
/// round and segment.
public struct Step: Sendable, Equatable {
    public enum Deed: Sendable, Equatable {
        case send
        case receive(Combine)
        /// Copies as many elements of the source, from here on, to the range.
        case copy(from: Int)
        /// Rounds the range to what others will receive of it.
        case narrow
        /// Waits for the caller, who writes the range.
        case prepare
    }

    public var deed: Deed
    /// Position in the group of the other end; this rank's own where there is none.
    public var peer: Int
    /// Whether `range` is of the source, which nothing writes, or of the buffer.
    public var isOfSource: Bool
    public var range: Range<Int>
    /// The round, and within it the segment of a range that was cut for pipelining.
    public var round: Int
    public var segment: Int

    package var isMessage: Bool {
        switch deed {
        case .send, .receive: true
        case .copy, .narrow, .prepare: false
        }
    }
}

/// A collective from one rank's point of view, as data: what to send, what to receive, in which order.
///
/// The meaning of the list is its sequential execution. The executor may reorder steps as far as no
/// element sees the difference (`Program` derives those dependencies from the ranges). So that this can
/// never deadlock, whatever little the network buffers, every generator keeps these rules, which the tests
/// check for all world sizes together with "each contribution arrives exactly once":
/// 1. steps are sorted by (round, segment), and the two ends of a message agree on both;
/// 2. the messages between two ranks have the same order at both ends;
/// 3. in one (round, segment) a rank has at most one receive, and a replacing receive does not overlap a
///    send of the same (round, segment).
/// Then the earliest unfinished (round, segment) of all ranks can always proceed: its sends need only earlier
/// receives, and its receives are the first that their ranks still miss, so their memory is posted.
public struct Schedule: Sendable, Equatable, CustomStringConvertible {
    public let size: Int
    public let index: Int
    public let count: Int
    public internal(set) var steps: [Step] = []

    /// A range longer than this is cut, so that one segment is reduced or forwarded while the next arrives.
    let segmentLimit: Int
    let reduction: Reduction
    /// Whether elements are rounded on their way.
    let isNarrow: Bool

    init(size: Int, index: Int, count: Int, segmentLimit: Int, reduction: Reduction, isNarrow: Bool) {
        precondition(segmentLimit > 0, "a segment holds at least one element")
        self.size = size
        self.index = index
        self.count = count
        self.segmentLimit = segmentLimit
        self.reduction = reduction
        self.isNarrow = isNarrow
    }

    /// Adds one round: send `outgoing` to one peer while receiving `incoming` from another. An empty range
    /// is no message, at either end.
    mutating func round(
        _ round: Int, send outgoing: Range<Int> = 0..<0, ofSource: Bool = false, to: Int = 0,
        receive incoming: Range<Int> = 0..<0, from: Int = 0, _ combine: Combine = .replace
    ) {
        self.round(round, sends: [outgoing], ofSource: ofSource, to: to, receives: [incoming], from: from, combine)
    }

    /// The same for several ranges; both ends have them in one order.
    mutating func round(
        _ round: Int, sends outgoing: [Range<Int>], ofSource: Bool = false, to: Int,
        receives incoming: [Range<Int>], from: Int, _ combine: Combine
    ) {
        let sends = outgoing.flatMap { segments(of: $0, atMost: segmentLimit) }
        let receives = incoming.flatMap { segments(of: $0, atMost: segmentLimit) }
        for segment in 0..<max(sends.count, receives.count) {
            if segment < sends.count {
                steps.append(Step(deed: .send, peer: modulo(to, size), isOfSource: ofSource, range: sends[segment],
                                  round: round, segment: segment))
            }
            if segment < receives.count {
                steps.append(Step(deed: .receive(combine), peer: modulo(from, size), isOfSource: false,
                                  range: receives[segment], round: round, segment: segment))
            }
        }
    }

    /// Adds a deed of this rank alone, before the messages of the round.
    mutating func alone(_ deed: Step.Deed, _ range: Range<Int>, round: Int) {
        guard !range.isEmpty else { return }
        steps.append(Step(deed: deed, peer: index, isOfSource: false, range: range, round: round, segment: 0))
    }

    public var description: String {
        var text = "position \(index) of \(size), \(count) elements, \(steps.count) steps\n"
        for step in steps {
            let range = "\(step.range.lowerBound)..<\(step.range.upperBound)"
            let deed = switch step.deed {
            case .send: "send \(step.isOfSource ? "source " : "")\(range) -> \(step.peer)"
            case .receive(.replace): "receive \(range) <- \(step.peer)"
            case .receive(.reduce(.sum)): "add \(range) <- \(step.peer)"
            case .receive(.reduce(.maximum)): "maximum \(range) <- \(step.peer)"
            case .copy(let from): "copy \(range) from source \(from)"
            case .narrow: "round \(range)"
            case .prepare: "prepare \(range)"
            }
            text += "  round \(step.round).\(step.segment): \(deed)\n"
        }
        return text
    }
}

/// Cuts a range into the fewest segments of at most `limit` elements, of nearly equal length. An empty range
/// has no segments.
func segments(of range: Range<Int>, atMost limit: Int) -> [Range<Int>] {
    guard !range.isEmpty else { return [] }
    let cut = Partition(evenly: range.count, over: (range.count + limit - 1) / limit)
    return (0..<cut.parts).map {
        (range.lowerBound + cut[$0].lowerBound)..<(range.lowerBound + cut[$0].upperBound)
    }
}
