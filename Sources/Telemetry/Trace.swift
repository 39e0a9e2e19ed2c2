import Base
import Synchronization

/// Where a rank's time goes: spans with a name, on lanes: one for each compute thread, and some for the network.
///
/// Spans lie in a ring that is there from the start: recording takes a lock for some nanoseconds and no memory, and
/// when the ring is full the oldest spans give way. Any thread may record.
public final class Trace: Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        /// A part of the loop, on thread 0; the others lie within it. Its amount is the step's number, or 0.
        case phase
        /// A stage of the model or the optimizer. Its amount is its floating-point operations; 0 where not counted.
        case compute
        /// A collective in flight. Its amount is the bytes of the buffer.
        case communication
        /// The thread could not go on. Its amount is the bytes that it waited for.
        case wait
    }

    public struct Span: Sendable {
        public var name: StaticString
        public var kind: Kind
        public var lane: Int
        /// `MonotonicClock`'s nanoseconds.
        public var from: UInt64
        public var to: UInt64
        public var amount: Int

        public init(_ name: StaticString, _ kind: Kind, lane: Int = 0, from: UInt64, to: UInt64, amount: Int = 0) {
            self.name = name
            self.kind = kind
            self.lane = lane
            self.from = from
            self.to = to
            self.amount = amount
        }
    }

    private struct Ring {
        var spans: [Span]
        var count = 0
    }

    /// Collectives overlap each other, so each that is in flight has a lane, from this one up.
    public static let networkLane = 10_000

    private let ring: Mutex<Ring>
    public let capacity: Int

    public init(capacity: Int = 65_536) {
        precondition(capacity > 0, "a trace holds a span at least")
        self.capacity = capacity
        ring = Mutex(Ring(spans: Array(repeating: Span("", .phase, from: 0, to: 0), count: capacity)))
    }

    /// Adds a span that is over.
    public func record(_ span: Span) {
        ring.withLock { ring in
            ring.spans[ring.count % capacity] = span
            ring.count += 1
        }
    }

    /// The time of `body` as a span on thread 0.
    public func span<Result>(_ name: StaticString, _ kind: Kind, amount: Int = 0,
                             _ body: () throws -> Result) rethrows -> Result {
        let from = MonotonicClock.nanoseconds()
        defer { record(Span(name, kind, from: from, to: MonotonicClock.nanoseconds(), amount: amount)) }
        return try body()
    }

    /// By lane, then by begin; a span comes before those within it.
    public var spans: [Span] {
        let kept = ring.withLock { ring in
            let kept = min(ring.count, capacity)
            return ((ring.count - kept)..<ring.count).map { ring.spans[$0 % capacity] }
        }
        // Spans are recorded when they end, so of two equal ones the outer is the later.
        return kept.enumerated().sorted { one, other in
            (one.element.lane, one.element.from, other.element.to, other.offset)
                < (other.element.lane, other.element.from, one.element.to, one.offset)
        }.map(\.element)
    }

    /// Spans that gave way.
    public var lost: Int { max(0, ring.withLock { $0.count } - capacity) }
}
