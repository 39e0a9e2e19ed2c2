import Base
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// `metrics.jsonl`: one JSON object a line, under torchtitan's tags, one line a step.
///
/// Numbers are written with as many digits as bring the same number back. What is not finite is the string
/// "nan", "inf" or "-inf", since JSON has no number for it. What is unknown is left out.
///
/// torchtitan counts throughput and arithmetic per device; so do `throughput(tps)` and `tflops` here, per
/// rank. `throughput/total_tps` is over all ranks. `mfu(%)` is against the measured GEMM peak.
public final class MetricsLog {
    public let path: String
    /// The first line that could not be written, for the caller to mention. Training goes on without it.
    public private(set) var problem: String?
    private let descriptor: Int32
    /// The end of the last whole line.
    private var end: Int
    private var line: [UInt8] = []
    /// The step of the last line; 0 where there is none.
    public private(set) var lastStep = 0

    /// Opens the log of a new run (`step` 0), or of one that goes on after `step`: the lines of later steps
    /// are cut off, because those steps will come again, as is a last line that a crash has left torn.
    public init(_ path: String, resumingAfter step: Int = 0) throws(TelemetryError) {
        descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw TelemetryError("open", path, errno) }
        self.path = path
        end = 0
        guard let bytes = MetricsLog.readAll(descriptor) else { throw TelemetryError("read", path, errno) }
        end = MetricsLog.end(of: bytes, after: step)
        lastStep = bytes[..<end].split(separator: UInt8(ascii: "\n")).last.flatMap { MetricsLog.step(of: $0) } ?? 0
        guard end == bytes.count || ftruncate(descriptor, end) == 0 else {
            throw TelemetryError("cut", path, errno)
        }
    }

    deinit { _ = close(descriptor) }

    /// One step, with what the validation after it said.
    public func append(_ report: StepReport, validation: ValidationReport? = nil) {
        begin(report.step)
        for metric in report.metrics { add(metric) }
        for metric in validation?.metrics ?? [] { add(metric) }
        finish()
    }

    /// A validation without a step, for example before the first.
    public func append(_ validation: ValidationReport) {
        begin(validation.step)
        for metric in validation.metrics { add(metric) }
        finish()
    }

    /// A line of other fields than metrics: `json` is a whole object, without the step.
    public func append(step: Int, json: String) {
        begin(step)
        line.append(contentsOf: ",".utf8)
        line.append(contentsOf: json.utf8.dropFirst().dropLast())
        finish()
    }

    /// Makes the lines so far durable. A checkpoint's moment is a good one: its steps will not come again.
    public func sync() {
        if fsync(descriptor) != 0 { fail("sync") }
    }

    private func begin(_ step: Int) {
        lastStep = step
        line.removeAll(keepingCapacity: true)
        line.append(contentsOf: "{\"step\":".utf8)
        line.append(contentsOf: "\(step)".utf8)
    }

    private func add(_ metric: Metric) {
        let value = metric.value
        add(metric.tag, text: metric.isCount ? "\(Int(value))" : value.isFinite ? "\(value)" : "\"\(value)\"")
    }

    /// Tags are plain ASCII of ours, so nothing needs escaping.
    private func add(_ tag: String, text: String) {
        line.append(contentsOf: ",\"".utf8)
        line.append(contentsOf: tag.utf8)
        line.append(contentsOf: "\":".utf8)
        line.append(contentsOf: text.utf8)
    }

    /// Writes the line at `end`. If that fails half-way the file is cut back to whole lines.
    private func finish() {
        line.append(contentsOf: "}\n".utf8)
        var done = 0
        while done < line.count {
            let count = unsafe line.withUnsafeBytes { bytes in
                unsafe pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, end + done)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                fail("write")
                _ = ftruncate(descriptor, end)
                return
            }
            done += count
        }
        end += done
    }

    private func fail(_ operation: String) {
        if problem == nil { problem = TelemetryError(operation, path, errno).description }
    }

    static func readAll(_ descriptor: Int32) -> [UInt8]? {
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { return nil }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size)), done = 0
        while done < bytes.count {
            let count = unsafe bytes.withUnsafeMutableBytes { bytes in
                unsafe pread(descriptor, bytes.baseAddress! + done, bytes.count - done, done)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return nil }
            done += count
        }
        return bytes
    }

    /// Where the first line begins that is later than `step` or not ours. Steps only grow, so all that
    /// follows is later too.
    private static func end(of bytes: [UInt8], after step: Int) -> Int {
        var start = 0
        while let newline = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) {
            guard let found = self.step(of: bytes[start..<newline]), found <= step else { break }
            start = newline + 1
        }
        return start
    }

    /// The number in `{"step":N,...}`.
    private static func step(of line: ArraySlice<UInt8>) -> Int? {
        let opening = Array("{\"step\":".utf8)
        guard line.starts(with: opening), line.last == UInt8(ascii: "}") else { return nil }
        let digits = line.dropFirst(opening.count).prefix { UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }
        return Int(String(decoding: digits, as: UTF8.self))
    }
}

/// A log that cannot be kept.
public struct TelemetryError: Fault, Equatable {
    public let description: String
    public var kind: FaultKind { .running }

    init(_ operation: String, _ path: String, _ code: Int32) {
        description = "cannot \(operation) \(path): \(errorText(code))"
    }
}
