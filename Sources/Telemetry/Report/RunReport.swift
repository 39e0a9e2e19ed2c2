import Base

/// One page about a run, from its folder alone: how loss and speed went, where the time went, what it was told and by
/// whom, and what the model writes now.
public struct RunReport {
    /// Something that the model has written: what it was given, and how it went on.
    public struct Sample: Sendable {
        let prompt: String
        let text: String

        public init(prompt: String, text: String) { (self.prompt, self.text) = (prompt, text) }
    }

    private let run: RunRecord
    private let samples: [Sample]
    /// What the samples are of.
    private let checkpoint: String?

    public init(_ run: RunRecord, samples: [Sample] = [], checkpoint: String? = nil) {
        (self.run, self.samples, self.checkpoint) = (run, samples, checkpoint)
    }

    public var html: String {
        var body = ["<h1>\(escaped(run.name))</h1>", "<p class=\"sub\">\(escaped(run.path))</p>", Page.tiles(tiles)]
        func section(_ title: String, _ charts: [Chart]) {
            let figures = charts.compactMap { $0.figure() }
            guard !figures.isEmpty else { return }
            body += ["<h2>\(title)</h2>", "<div class=\"charts\">"] + figures + ["</div>"]
        }
        section("Learning", learning)
        section("Speed", speed)
        if let lengths = LengthChart(run).figure() {
            body += ["<h2>Lengths</h2>", "<div class=\"charts\">", lengths]
                + [contextChart.figure()].compactMap { $0 } + ["</div>"]
        }
        section("Network and memory", machine)
        body += sampleSection + configSection
        return Page.html(title: "\(run.name): a run of skein", body: body)
    }

    private var tiles: [(name: String, value: String, note: String)] {
        let steps = run.lines.compactMap { $0["step"] }.max() ?? 0
        let planned = run.setting("training.steps").flatMap { Int($0) }
        var tiles = [("steps", Units.grouped(Int(steps)), planned.map { "of \(Units.grouped($0))" } ?? ""),
                     ("tokens", Units.count(run.last("n_tokens_seen") ?? 0), "trained on")]
        func add(_ name: String, _ value: Double?, _ digits: Int, _ note: String) {
            if let value { tiles.append((name, Units.fixed(value, digits), note)) }
        }
        add("loss", run.settled("loss_metrics/global_avg_loss"), 4, "nats/token, mean of the last tenth")
        add("validation", run.last("val/bpb"), 4, "bits/byte, the last")
        if let rate = run.median("throughput/total_tps") {
            tiles.append(("tokens/s", Units.count(rate), "the middle step, all ranks"))
        }
        add("MFU", run.median("mfu(%)"), 1, "% of the measured GEMM peak")
        tiles.append(("time", Units.duration(run.seconds), "in steps"))
        if let memory = run.series("memory/max_active(GiB)").map(\.y).max() {
            tiles.append(("memory", Units.bytes(Int(memory * 0x1p30)), "at most, rank 0"))
        }
        return tiles
    }

    private func line(_ name: String, _ tag: String, _ color: Int, hasDots: Bool = false) -> Chart.Series {
        Chart.Series(name: name, color: color, points: run.series(tag), hasDots: hasDots)
    }

    private var learning: [Chart] {
        [Chart(title: "Loss", unit: "nats/token", series: [
            line("training", "loss_metrics/global_avg_loss", 0),
            line("held out", "validation_metrics/loss", 1, hasDots: true)]),
         Chart(title: "Bits a byte", unit: "of text", series: [
            line("training", "train/bpb", 0), line("held out", "val/bpb", 1, hasDots: true)]),
         Chart(title: "Learning rate", unit: "", series: [line("rate", "lr", 2)], fromZero: true),
         Chart(title: "Gradient norm", unit: "before clipping", series: [line("norm", "grad_norm", 3)], fromZero: true)]
    }

    private var speed: [Chart] {
        [Chart(title: "Throughput", unit: "tokens/s", series: [
            line("all ranks", "throughput/total_tps", 0)]
            + (isParallel ? [line("a rank", "throughput(tps)", 5)] : []), fromZero: true),
         Chart(title: "Model FLOPs utilisation", unit: "% of the measured GEMM peak",
               series: [line("MFU", "mfu(%)", 2)], fromZero: true),
         Chart(title: "Step time", unit: "seconds", series: [line("step", "time_metrics/end_to_end(s)", 4)],
               fromZero: true)]
    }

    private var isParallel: Bool { run.lines.contains { $0["comm/wait(s)"] != nil } }

    private var contextChart: Chart {
        Chart(title: "Length that attention sees", unit: "tokens", series: [line("length", "data/length", 2)],
              isBinary: true)
    }

    private var machine: [Chart] {
        let exposed = run.series { line in
            guard let wait = line["comm/wait(s)"], let seconds = line["time_metrics/end_to_end(s)"], seconds > 0
            else { return nil }
            return 100 * wait / seconds
        }
        return [
            Chart(title: "Communication", unit: "%", series: [
                Chart.Series(name: "exposed: of the step's time, waited for", color: 1, points: exposed),
                line("hidden: of the bytes, come under computation", "comm/hidden(%)", 2)], fromZero: true),
            Chart(title: "Memory", unit: "GiB, the most that rank 0 held", series: [
                line("memory", "memory/max_active(GiB)", 3)], fromZero: true)]
    }

    private var sampleSection: [String] {
        guard !samples.isEmpty else { return [] }
        let of = checkpoint.map { "<p class=\"sub\">\(escaped($0))</p>" } ?? ""
        return ["<h2>What it writes</h2>", of] + samples.map {
            "<pre><b>\(escaped($0.prompt))</b>\(escaped($0.text))</pre>"
        }
    }

    /// What somebody has set, and behind a fold the defaults.
    private var configSection: [String] {
        let given = run.settings.filter { $0.origin != "default" }
        let standard = run.settings.filter { $0.origin == "default" }
        func table(_ settings: [RunRecord.Setting]) -> String {
            Page.table([["key", "value", "from"]] + settings.map { [$0.key, $0.value, $0.origin] }, numbers: 3,
                       kind: "config")
        }
        guard !run.settings.isEmpty else { return [] }
        return ["<h2>Config</h2>", table(given)] + (standard.isEmpty ? []
            : ["<details><summary>\(standard.count) defaults</summary>\(table(standard))</details>"])
    }
}

/// Which lengths of rows the steps read: a column for some neighbouring steps, in it a share for each length.
struct LengthChart {
    private let points: [Point]

    init(_ run: RunRecord) { points = run.series("data/bucket_len") }

    private static let columns = 60

    /// Nil where all rows were of one length.
    func figure() -> String? {
        let lengths = Set(points.map { Int($0.y) }).sorted()
        guard lengths.count > 1 else { return nil }
        let (left, right, top, bottom) = (58.0, 14.0, 12.0, 34.0), count = min(Self.columns, points.count)
        let width = (Chart.width - left - right) / Double(count), room = Chart.height - top - bottom
        var parts: [String] = []
        for column in 0..<count {
            let own = points[(column * points.count / count)..<((column + 1) * points.count / count)]
            var y = Chart.height - bottom
            for (index, length) in lengths.enumerated() {
                let height = room * Double(own.count { Int($0.y) == length }) / Double(max(own.count, 1))
                guard height > 0 else { continue }
                y -= height
                let x = Units.fixed(left + Double(column) * width, 1)
                parts.append("<rect class=\"bar c\(index % Page.colors)\" x=\"\(x)\" y=\"\(Units.fixed(y, 1))\""
                    + " width=\"\(Units.fixed(width + 0.3, 1))\""
                    + " height=\"\(Units.fixed(height, 1))\"/>")
            }
        }
        for (share, text) in [(0.0, "0"), (0.5, "50"), (1.0, "100")] {
            let y = Units.fixed(Chart.height - bottom - share * room + 4, 1)
            parts.append("<text x=\"\(left - 6)\" y=\"\(y)\" text-anchor=\"end\">\(text)</text>")
        }
        for (point, anchor, x) in [(points.first, "start", left), (points.last, "end", Chart.width - right)] {
            let step = Units.grouped(Int(point?.x ?? 0))
            let place = "x=\"\(x)\" y=\"\(Chart.height - bottom + 17)\""
            parts.append("<text \(place) text-anchor=\"\(anchor)\">step \(step)</text>")
        }
        let legend = lengths.enumerated().map { index, length in
            "<span><i class=\"c\(index % Page.colors)\"></i>\(length)</span>"
        }
        return "<figure><figcaption>Rows by length <small>% of the steps</small></figcaption>"
            + "<div class=\"legend\">\(legend.joined())</div><div class=\"plot\">"
            + "<svg viewBox=\"0 0 \(Int(Chart.width)) \(Int(Chart.height))\" role=\"img\" "
            + "aria-label=\"Rows by length\">\(parts.joined())</svg></div></figure>"
    }
}
