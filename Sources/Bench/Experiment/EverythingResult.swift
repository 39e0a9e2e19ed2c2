import Base
import Corpus
import Tensor
import Trainer

/// What a run of the experiment came to: from its metrics, and from what its last checkpoint makes of held-out texts.
public struct EverythingResult: Sendable {
    public let arm: EverythingExperiment.Arm
    public let seed: Int
    public let tokensPerSecond: Double
    /// Sent by a rank in a step, on average.
    public let sentPerStep: Double
    /// The largest rank's.
    public let peakBytes: Double
    /// Bits a byte over all held-out rows, after the last step.
    public let bits: Double
    /// Seconds of training before each validation on the way, and bits a byte there.
    public let curve: [(seconds: Double, bits: Double)]
    /// Bits a byte of held-out documents by their length; nil where there is none so long.
    public let bands: [Double?]
    /// Of the steps, how many computed sequences on so many ranks at once.
    public let degrees: [Int: Double]

    /// Documents of fewer bytes than each of these, and all others.
    static let bandLimits = [1_024, 4_096]

    /// `log`: the lines of metrics.jsonl. `run`: the run's folder.
    init(arm: EverythingExperiment.Arm, seed: Int, ranks: Int, log: [[String: Double]], run: String,
         sources: [String]) throws {
        self.arm = arm
        self.seed = seed
        func values(_ tag: String) -> [Double] { log.compactMap { $0[tag] } }
        var (seconds, curve): (Double, [(seconds: Double, bits: Double)]) = (0, [])
        for line in log {
            seconds += line["time_metrics/end_to_end(s)"] ?? 0
            if let bits = line["val/bpb"] { curve.append((seconds, bits)) }
        }
        bits = curve.last?.bits ?? .nan
        // The last validation is on all rows and cannot be compared with those before it.
        self.curve = Array(curve.dropLast())
        tokensPerSecond = (log.last?["n_tokens_seen"] ?? 0) / max(seconds, 1e-9)
        sentPerStep = values("comm/sent(B)").reduce(0, +) / Double(max(log.count, 1))
        peakBytes = 0x1p30 * (values("memory/max_active(GiB)").max() ?? .nan)
        bands = try heldOutBits(run: run, sources: sources)
        var degrees: [Int: Double] = [:]
        for degree in values("parallel/cp_degree") { degrees[Int(degree.rounded()), default: 0] += 1 }
        self.degrees = degrees.mapValues { $0 / Double(max(log.count, 1)) }
    }

    /// Bits a byte after so many seconds of training, between two validations in proportion; nil beyond the last one.
    func bits(after seconds: Double) -> Double? {
        guard let next = curve.firstIndex(where: { $0.seconds >= seconds }) else { return nil }
        guard next > 0 else { return curve[next].bits }
        let (before, after) = (curve[next - 1], curve[next])
        return before.bits
            + (after.bits - before.bits) * (seconds - before.seconds) / (after.seconds - before.seconds)
    }
}

/// Bits a byte of the documents that `run` held out, by their length.
private func heldOutBits(run: String, sources: [String]) throws -> [Double?] {
    let model = try LoadedModel(path: run), pool = Pool(threads: Machine.cores())
    defer { pool.close() }
    let texts = try readTexts(sources, part: .valid, separator: model.recipe.data.separator)
    let limits = [0] + EverythingResult.bandLimits + [Int.max]
    return try zip(limits, limits.dropFirst()).map { low, high in
        // Some of each will do: their sum of bytes is what a mean's error depends on.
        var (chosen, bytes): ([[UInt8]], Int) = ([], 0)
        for text in texts where (low..<high).contains(text.count) && bytes < 200_000 {
            chosen.append(text)
            bytes += text.count
        }
        guard !chosen.isEmpty else { return nil }
        let window = model.recipe.training.sequenceLength
        return try model.evaluate(texts: chosen, window: window, stride: window, pool: pool).all.bitsPerByte
    }
}

/// The experiment's table, in Markdown: means over seeds, and half of the spread. Equal time is that at which the
/// fastest arm of the same seed made its last validation on the way.
public func everythingTable(_ results: [EverythingResult]) -> String {
    var lines = [
        "| Arm | tokens/s | sent a step, MB | peak of a rank, MB | bits/byte | at equal time "
            + "| below 1 KiB | 1 to 4 KiB | above | degree 1, 2, 4 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in EverythingExperiment.Arm.allCases {
        let runs = results.filter { $0.arm == arm }
        guard !runs.isEmpty else { continue }
        func cell(_ values: [Double], _ places: Int) -> String { meanAndSpread(values, places, of: runs.count) }
        let equal = runs.compactMap { run in
            let others = results.filter { $0.seed == run.seed }.compactMap { $0.curve.last?.seconds }
            return others.min().flatMap { run.bits(after: $0) }
        }
        let bands = (0...EverythingResult.bandLimits.count).map { band in cell(runs.compactMap { $0.bands[band] }, 3) }
        let shares = [1, 2, 4].map { degree in
            Units.fixed(100 * runs.reduce(0) { $0 + ($1.degrees[degree] ?? 0) } / Double(runs.count), 0)
        }
        let cells = [arm.title, cell(runs.map(\.tokensPerSecond), 0), cell(runs.map { $0.sentPerStep / 1e6 }, 2),
                     cell(runs.map { $0.peakBytes / 1e6 }, 0), cell(runs.map(\.bits), 3), cell(equal, 3)]
            + bands + [shares.joined(separator: ", ") + " %"]
        lines.append("| " + cells.joined(separator: " | ") + " |")
    }
    return lines.joined(separator: "\n")
}
