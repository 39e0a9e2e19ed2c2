import Base

/// Several runs side by side: for a terminal and as a page.
public struct RunComparison {
    private let runs: [RunRecord]

    public init(_ runs: [RunRecord]) { self.runs = runs }

    /// A row for each run, under a head: names and numbers as people read them; "-" where a run has none.
    public var rows: [[String]] {
        func text(_ value: Double?, _ digits: Int) -> String { value.map { Units.fixed($0, digits) } ?? "-" }
        let head = ["run", "steps", "tokens", "loss", "val loss", "val bits/byte", "tokens/s", "MFU %", "time"]
        return [head] + runs.map { run in
            [run.name, Units.grouped(Int(run.lines.compactMap { $0["step"] }.max() ?? 0)),
             run.last("n_tokens_seen").map(Units.count) ?? "-", text(run.settled("loss_metrics/global_avg_loss"), 4),
             text(run.last("validation_metrics/loss"), 4), text(run.last("val/bpb"), 4),
             run.median("throughput/total_tps").map(Units.count) ?? "-", text(run.median("mfu(%)"), 1),
             Units.duration(run.seconds)]
        }
    }

    /// The keys on which the runs' configs differ, their own names and folders aside.
    public var differences: [[String]] {
        let keys = runs.flatMap { $0.settings.map(\.key) }
        var seen: Set<String> = [], rows = [["key"] + runs.map(\.name)]
        for key in keys where seen.insert(key).inserted && !key.hasPrefix("job.") {
            let values = runs.map { run in run.settings.first { $0.key == key }?.value ?? "-" }
            if Set(values).count > 1 { rows.append([key] + values) }
        }
        return rows.count == 1 ? [] : rows
    }

    public var html: String {
        let paths = escaped(runs.map(\.path).joined(separator: ", "))
        var body = ["<h1>\(runs.count) runs</h1>", "<p class=\"sub\">\(paths)</p>", Page.table(rows, numbers: 1)]
        let charts = [
            chart("Loss", "nats/token", "loss_metrics/global_avg_loss"),
            chart("Loss by tokens", "nats/token", "loss_metrics/global_avg_loss", by: "n_tokens_seen"),
            chart("Held-out bits a byte", "of text", "val/bpb", hasDots: true),
            chart("Throughput", "tokens/s, all ranks", "throughput/total_tps", fromZero: true),
            chart("Model FLOPs utilisation", "% of the measured GEMM peak", "mfu(%)", fromZero: true),
            chart("Gradient norm", "before clipping", "grad_norm", fromZero: true),
            chart("Communication hidden", "% of the bytes", "comm/hidden(%)", fromZero: true),
            chart("Memory", "GiB, the most that rank 0 held", "memory/max_active(GiB)", fromZero: true),
        ].compactMap { $0.figure() }
        body += ["<h2>Side by side</h2>", "<div class=\"charts\">"] + charts + ["</div>"]
        if !differences.isEmpty {
            body += ["<h2>What differs in their configs</h2>", Page.table(differences, numbers: .max, kind: "config")]
        }
        return Page.html(title: runs.map(\.name).joined(separator: ", ") + ": runs of skein", body: body)
    }

    private func chart(_ title: String, _ unit: String, _ tag: String, by x: String = "step", hasDots: Bool = false,
                       fromZero: Bool = false) -> Chart {
        let series = runs.enumerated().map { index, run in
            Chart.Series(name: run.name, color: index % Page.colors, points: run.series(tag, by: x), hasDots: hasDots)
        }
        return Chart(title: title, unit: unit, xTitle: x == "step" ? "step" : "tokens", series: series,
                     fromZero: fromZero)
    }
}
