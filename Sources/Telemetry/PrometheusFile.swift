import Base
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A run's numbers in Prometheus' text format, in a file that the node exporter's textfile collector reads:
/// `NAME.prom`, replaced in one step, so that no half of it is ever read. The step is a value and no label, since each
/// value of a label is a time series of its own.
public struct PrometheusFile {
    /// What first went wrong. Training goes on without the file.
    public private(set) var problem: String?
    private let path: String
    private let run: String
    private var latest: StepReport?
    private var validation: ValidationReport?
    private var (skipped, checkpoints) = (0, 0)
    private var lastWrite = -Double.infinity
    /// Steps that took at most so many seconds, of all so far.
    private var counts = [Int](repeating: 0, count: Self.bounds.count)
    private var (steps, seconds) = (0, 0.0)

    private static let bounds = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100]
    /// Seconds between two files: collectors come by every quarter of a minute or so.
    private static let interval = 1.0

    public init(_ path: String, run: String) {
        self.path = path
        self.run = run
    }

    /// `now`: seconds on any clock that does not go back.
    public mutating func add(_ report: StepReport, updated: Bool, validation: ValidationReport?,
                             now: Double = MonotonicClock.seconds()) {
        latest = report
        self.validation = validation ?? self.validation
        if !updated { skipped += 1 }
        steps += 1
        seconds += report.seconds
        for (index, bound) in Self.bounds.enumerated() where report.seconds <= bound { counts[index] += 1 }
        if now - lastWrite >= Self.interval {
            lastWrite = now
            write()
        }
    }

    public mutating func addCheckpoint() { checkpoints += 1 }

    /// Leaves the last step's numbers.
    public mutating func finish() { write() }

    private mutating func write() {
        guard let latest else { return }
        let temporary = path + ".tmp"
        let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { return fail("open", temporary) }
        let isWhole = writeAll(Array(text(latest, now: wallSeconds()).utf8), to: descriptor)
        close(descriptor)
        guard isWhole else { return fail("write", temporary) }
        if unsafe rename(temporary, path) != 0 { fail("replace", path) }
    }

    private mutating func fail(_ operation: String, _ path: String) {
        if problem == nil { problem = TelemetryError(operation, path, errno).description }
    }

    /// now: seconds since 1970.
    package func text(_ report: StepReport, now: Double) -> String {
        let label = "{run=\"\(run)\"}"
        var lines: [String] = []
        func add(_ name: String, _ kind: String, _ help: String, _ value: Double?) {
            guard let value else { return }
            lines += ["# HELP skein_\(name) \(help)", "# TYPE skein_\(name) \(kind)",
                      "skein_\(name)\(label) \(number(value))"]
        }
        add("step", "gauge", "Optimizer steps done.", Double(report.step))
        add("steps_planned", "gauge", "Optimizer steps of the whole run.", Double(report.totalSteps))
        add("training_loss", "gauge", "Mean loss of the last step, in nats a token.", report.loss)
        add("training_bpb", "gauge", "The same in bits a byte of text.", report.bitsPerByte)
        add("validation_loss", "gauge", "Held-out loss, in nats a token.", validation?.loss)
        add("validation_bpb", "gauge", "The same in bits a byte of text.", validation?.bitsPerByte)
        add("grad_norm", "gauge", "Norm of the gradient before clipping.", report.gradientNorm)
        add("learning_rate", "gauge", "Learning rate of the last step.", report.learningRate)
        add("tokens_total", "counter", "Tokens trained on.", Double(report.tokens))
        add("tokens_per_second", "gauge", "Tokens a second over all ranks.", report.tokensPerSecond)
        add("mfu_ratio", "gauge", "Arithmetic over the measured GEMM peak.", report.mfu)
        add("ranks", "gauge", "Ranks of the job.", Double(report.ranks))
        add("comm_wait_seconds", "gauge", "Seconds of the last step that rank 0 waited for the network.",
            report.ranks > 1 ? report.waitSeconds : nil)
        add("comm_hidden_ratio", "gauge", "Share of received bytes that came under computation.", report.hiddenShare)
        add("memory_max_bytes", "gauge", "The most memory that rank 0 ever held.", report.memoryBytes.map(Double.init))
        add("skipped_steps_total", "counter", "Steps without an update: loss or gradient not finite.", Double(skipped))
        add("checkpoints_total", "counter", "Checkpoints saved.", Double(checkpoints))
        add("eta_seconds", "gauge", "Seconds to the last step.", report.eta)
        add("last_update_timestamp_seconds", "gauge", "When this was written.", now)
        let name = "skein_step_duration_seconds"
        lines += ["# HELP \(name) Wall time of the steps.", "# TYPE \(name) histogram"]
        for (bound, count) in zip(Self.bounds, counts) {
            lines.append("\(name)_bucket{run=\"\(run)\",le=\"\(number(bound))\"} \(count)")
        }
        lines += ["\(name)_bucket{run=\"\(run)\",le=\"+Inf\"} \(steps)", "\(name)_sum\(label) \(number(seconds))",
                  "\(name)_count\(label) \(steps)"]
        return lines.joined(separator: "\n") + "\n"
    }

    private func number(_ value: Double) -> String {
        if value.isFinite { return value == value.rounded() && value.magnitude < 1e15 ? "\(Int(value))" : "\(value)" }
        return value.isNaN ? "NaN" : value < 0 ? "-Inf" : "+Inf"
    }
}
