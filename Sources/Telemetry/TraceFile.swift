import Base

/// Traces of all ranks in one file, in the JSON that Chrome's tracing and Perfetto read (Google, "Trace Event
/// Format"): a process for each rank, a thread for each lane, complete events in microseconds of rank 0's clock.
public enum TraceFile {
    /// One rank's part of the file: a line about the rank, then a line for each event. `alignment` turns this rank's
    /// times into those of rank 0, by whose clock the file begins at `zero`.
    public static func part(_ trace: Trace, rank: Int, host: String, alignment: ClockAlignment,
                            zero: Int64) -> [UInt8] {
        let spans = trace.spans
        var text = "{\"rank\":\(rank),\"host\":\(jsonString(host)),\"spans\":\(spans.count),"
            + "\"spans_lost\":\(trace.lost),"
            + "\"clock_offset_us\":\(microseconds(alignment.offset.nanoseconds)),"
            + "\"clock_uncertainty_us\":\(microseconds(alignment.uncertainty))}"
        text += "\n" + metadata("process_name", rank, 0, "rank \(rank) (\(host))")
        for lane in Set(spans.map(\.lane)).union([0]).sorted() {
            text += "\n" + metadata("thread_name", rank, lane, name(ofLane: lane))
        }
        var bytes = Array(text.utf8)
        bytes.reserveCapacity(bytes.count + 160 * spans.count)
        for span in spans {
            bytes += "\n".utf8
            bytes += event(span, rank: rank, from: alignment.align(Int64(span.from)) - zero,
                           to: alignment.align(Int64(span.to)) - zero).utf8
        }
        return bytes
    }

    /// The whole file, from the parts of all ranks.
    public static func json(_ parts: [[UInt8]]) -> [UInt8] {
        var about: [String] = []
        var events: [UInt8] = []
        for part in parts {
            let lines = part.split(separator: UInt8(ascii: "\n"))
            about.append(String(decoding: lines.first ?? [], as: UTF8.self))
            for line in lines.dropFirst() {
                events += (events.isEmpty ? "" : ",\n").utf8
                events += line
            }
        }
        let head = "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"program\":\"skein\",\"ranks\":[\n"
            + about.joined(separator: ",\n") + "\n]},\"traceEvents\":[\n"
        return Array(head.utf8) + events + Array("\n]}\n".utf8)
    }

    private static func event(_ span: Trace.Span, rank: Int, from: Int64, to: Int64) -> String {
        let amount = switch span.kind {
        case .phase: "step"
        case .compute: "flops"
        case .communication, .wait: "bytes"
        }
        let arguments = span.amount == 0 ? "" : ",\"args\":{\"\(amount)\":\(span.amount)}"
        return "{\"name\":\"\(span.name)\",\"cat\":\"\(span.kind.rawValue)\",\"ph\":\"X\",\"pid\":\(rank),"
            + "\"tid\":\(span.lane),\"ts\":\(microseconds(from)),\"dur\":\(microseconds(to - from))\(arguments)}"
    }

    private static func metadata(_ kind: String, _ rank: Int, _ lane: Int, _ name: String) -> String {
        "{\"name\":\"\(kind)\",\"ph\":\"M\",\"pid\":\(rank),\"tid\":\(lane),\"args\":{\"name\":\(jsonString(name))}}"
    }

    private static func name(ofLane lane: Int) -> String {
        lane < Trace.networkLane ? "thread \(lane)" : "network \(lane - Trace.networkLane)"
    }

    /// The format's unit, with all digits of a nanosecond.
    private static func microseconds(_ nanoseconds: Int64) -> String {
        let digits = String(nanoseconds.magnitude % 1_000)
        return (nanoseconds < 0 ? "-" : "") + String(nanoseconds.magnitude / 1_000) + "."
            + String(repeating: "0", count: 3 - digits.count) + digits
    }
}
