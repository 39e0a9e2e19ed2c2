import Base
import Synchronization

/// Where a run's time goes: spans with a name, on lanes (threads, and whatever else a rank does one thing at a time
/// on), in the JSON that Chrome's tracing and Perfetto read.
///
/// Spans lie in a ring that is there from the start: recording takes a lock for some nanoseconds and no memory, and a
/// long run keeps its last spans. Any thread may record.
public final class Trace: Sendable {
    private struct Span {
        var name: StaticString
        var category: StaticString
        var lane: Int
        var from: UInt64
        var to: UInt64
    }

    private struct Ring {
        var spans: [Span]
        var count = 0
    }

    private let ring: Mutex<Ring>
    private let start = MonotonicClock.nanoseconds()
    public let capacity: Int

    public init(capacity: Int = 65_536) {
        precondition(capacity > 0, "a trace holds a span at least")
        self.capacity = capacity
        let empty = Span(name: "", category: "", lane: 0, from: 0, to: 0)
        ring = Mutex(Ring(spans: Array(repeating: empty, count: capacity)))
    }

    /// A span that is over. Times are `MonotonicClock`'s nanoseconds.
    public func record(_ name: StaticString, _ category: StaticString, lane: Int = 0, from: UInt64, to: UInt64) {
        ring.withLock { ring in
            ring.spans[ring.count % capacity] = Span(name: name, category: category, lane: lane, from: from, to: to)
            ring.count += 1
        }
    }

    /// The time of `body` as a span.
    public func span<Result>(_ name: StaticString, _ category: StaticString, lane: Int = 0,
                             _ body: () throws -> Result) rethrows -> Result {
        let from = MonotonicClock.nanoseconds()
        defer { record(name, category, lane: lane, from: from, to: MonotonicClock.nanoseconds()) }
        return try body()
    }

    /// The spans as one JSON object. `process` and `lanes` name the rank and its lanes; a lane without a name has its
    /// number. `clockOffset`: nanoseconds that this process's clock is behind the one that all ranks agree on.
    public func json(process: Int = 0, lanes: [String] = [], clockOffset: Int64 = 0) -> String {
        let spans = ring.withLock { ring in
            let kept = min(ring.count, capacity)
            return ((ring.count - kept)..<ring.count).map { ring.spans[$0 % capacity] }
        }
        var lines = [metadata("process_name", process, 0, "rank \(process)")]
        for (lane, name) in lanes.enumerated() { lines.append(metadata("thread_name", process, lane, name)) }
        for span in spans {
            let begin = Double(Int64(span.from) - Int64(start) + clockOffset) / 1000
            lines.append("{\"name\":\"\(span.name)\",\"cat\":\"\(span.category)\",\"ph\":\"X\",\"pid\":\(process),"
                + "\"tid\":\(span.lane),\"ts\":\(Units.fixed(begin, 3)),"
                + "\"dur\":\(Units.fixed(Double(span.to - span.from) / 1000, 3))}")
        }
        return "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n" + lines.joined(separator: ",\n") + "\n]}\n"
    }

    private func metadata(_ kind: String, _ process: Int, _ lane: Int, _ name: String) -> String {
        "{\"name\":\"\(kind)\",\"ph\":\"M\",\"pid\":\(process),\"tid\":\(lane),\"args\":{\"name\":\"\(name)\"}}"
    }
}
