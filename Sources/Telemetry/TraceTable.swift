import Base

/// Where the traced steps' time went on thread 0, stage by stage, beside what the arithmetic would take at the GEMM
/// peak: the difference is what a stage loses.
public struct TraceTable: Sendable {
    public struct Row: Sendable, Equatable {
        public var name: String
        public var kind: Trace.Kind
        /// Of a step. A stage's includes its wait for other threads; a phase's is what no stage or wait covers.
        public var seconds: Double
        public var flops: Double
    }

    /// The longest first.
    public let rows: [Row]
    public let steps: ClosedRange<Int>?
    public let stepSeconds: Double
    /// The part of a step in which thread 0 waited for other threads of the rank.
    public let joinSeconds: Double
    private let peak: Double

    /// `peak`: the measured GEMM GFLOP/s of all threads.
    public init(_ trace: Trace, peak: Double) {
        let spans = trace.spans.filter { $0.lane == 0 }
        let steps = spans.filter { $0.kind == .phase && $0.amount > 0 }
        let count = Double(max(steps.count, 1))
        var tally = Tally()
        for step in steps {
            tally.add(spans.filter { $0.from >= step.from && $0.to <= step.to })
        }
        self.peak = peak
        self.steps = steps.first.flatMap { first in steps.last.map { first.amount...$0.amount } }
        stepSeconds = steps.reduce(0) { $0 + Double($1.to - $1.from) } / count * 1e-9
        joinSeconds = tally.join / count * 1e-9
        rows = tally.rows.values.map {
            Row(name: $0.name, kind: $0.kind, seconds: $0.seconds / count * 1e-9, flops: $0.flops / count)
        }.sorted { ($1.seconds, $0.name) < ($0.seconds, $1.name) }
    }

    /// Seconds of a step in one kind of span.
    public func seconds(_ kind: Trace.Kind) -> Double {
        rows.reduce(0) { $0 + ($1.kind == kind ? $1.seconds : 0) }
    }

    /// Nanoseconds by name, of spans that follow each other or lie in each other.
    private struct Tally {
        var rows: [String: Row] = [:]
        var join = 0.0
        private var open: [Trace.Span] = []

        mutating func add(_ spans: [Trace.Span]) {
            open = []
            for span in spans {
                while let last = open.last, last.to <= span.from { open.removeLast() }
                let length = Double(span.to - span.from)
                if open.last?.kind == .compute {
                    // A stage's own wait for its workers: told beside the table, and part of the stage in it.
                    join += length
                } else {
                    if let outer = open.last { count(outer, -length, flops: 0) }
                    count(span, length, flops: span.kind == .compute ? Double(span.amount) : 0)
                }
                open.append(span)
            }
        }

        private mutating func count(_ span: Trace.Span, _ length: Double, flops: Double) {
            let name = switch span.kind {
            case .wait: "wait for \(span.name)"
            case .phase: "\(span.name), the rest"
            default: "\(span.name)"
            }
            rows[name, default: Row(name: name, kind: span.kind, seconds: 0, flops: 0)].seconds += length
            rows[name]?.flops += flops
        }
    }

    public var text: String {
        guard let steps, stepSeconds > 0 else { return "no step was traced" }
        let small = rows.filter { $0.seconds < 0.002 * stepSeconds }
        var shown = rows.filter { $0.seconds >= 0.002 * stepSeconds }
        shown.append(Row(name: "\(small.count) others", kind: .phase,
                         seconds: small.reduce(0) { $0 + $1.seconds }, flops: small.reduce(0) { $0 + $1.flops }))
        shown.append(Row(name: "step", kind: .phase, seconds: stepSeconds, flops: rows.reduce(0) { $0 + $1.flops }))
        let title = "steps \(steps.lowerBound) to \(steps.upperBound)"
        let lines = [line([title, "ms", "share", "GFLOP/s", "of peak", "ms lost"])] + shown.map(cells).map(line)
        let join = joinSeconds < 0.002 * stepSeconds ? "" : "; in these stages, thread 0 waited "
            + "\(Units.fixed(1e3 * joinSeconds, 1)) ms for others"
        return lines.joined(separator: "\n") + "\nms a step on thread 0; lost against a GEMM peak of "
            + "\(Units.fixed(peak, 0)) GFLOP/s\(join)"
    }

    private func cells(_ row: Row) -> [String] {
        let rate = row.flops / max(row.seconds, 1e-12) / 1e9
        let hasRate = row.flops > 0
        return [row.name, Units.fixed(1e3 * row.seconds, 1), Units.fixed(100 * row.seconds / stepSeconds, 1) + " %",
                hasRate ? Units.fixed(rate, 1) : "", hasRate ? Units.fixed(100 * rate / peak, 0) + " %" : "",
                Units.fixed(1e3 * (row.seconds - row.flops / peak / 1e9), 1)]
    }

    private func line(_ cells: [String]) -> String {
        let first = cells[0] + String(repeating: " ", count: max(1, 32 - cells[0].count))
        return first + cells.dropFirst().map { padded($0, 9) }.joined()
    }
}
