/// What a received range does to the elements that are already there.
public enum Combine: Sendable, Equatable {
    case replace
    case add
}

/// One message as one of its two ends sees it. Both ends name the same element range, round and segment.
public struct Step: Sendable, Equatable {
    public enum Direction: Sendable, Equatable {
        case send
        case receive(Combine)
    }

    public var direction: Direction
    /// Position in the group of the other end.
    public var peer: Int
    /// Elements of the collective's buffer.
    public var range: Range<Int>
    /// The round, and within it the segment of a range that was cut for pipelining.
    public var round: Int
    public var segment: Int
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
    public private(set) var steps: [Step] = []

    /// A range longer than this is cut, so that one segment is reduced or forwarded while the next arrives.
    let segmentLimit: Int

    init(size: Int, index: Int, count: Int, segmentLimit: Int) {
        precondition(segmentLimit > 0, "a segment holds at least one element")
        self.size = size
        self.index = index
        self.count = count
        self.segmentLimit = segmentLimit
    }

    /// Adds one round: send `outgoing` to one peer while receiving `incoming` from another. An empty range
    /// is no message, at either end.
    mutating func round(
        _ round: Int, send outgoing: Range<Int> = 0..<0, to: Int = 0,
        receive incoming: Range<Int> = 0..<0, from: Int = 0, _ combine: Combine = .replace
    ) {
        let sends = segments(of: outgoing, atMost: segmentLimit)
        let receives = segments(of: incoming, atMost: segmentLimit)
        for segment in 0..<max(sends.count, receives.count) {
            if segment < sends.count {
                steps.append(Step(direction: .send, peer: modulo(to, size), range: sends[segment],
                                  round: round, segment: segment))
            }
            if segment < receives.count {
                steps.append(Step(direction: .receive(combine), peer: modulo(from, size),
                                  range: receives[segment], round: round, segment: segment))
            }
        }
    }

    public var description: String {
        var text = "position \(index) of \(size), \(count) elements, \(steps.count) steps\n"
        for step in steps {
            let place = "  round \(step.round).\(step.segment): "
            let range = "\(step.range.lowerBound)..<\(step.range.upperBound)"
            switch step.direction {
            case .send: text += place + "send \(range) -> \(step.peer)\n"
            case .receive(.replace): text += place + "receive \(range) <- \(step.peer)\n"
            case .receive(.add): text += place + "add \(range) <- \(step.peer)\n"
            }
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
