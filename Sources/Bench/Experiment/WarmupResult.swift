import Base

/// How steady a run was, read from its metrics.
public struct WarmupResult: Sendable {
    public let arm: WarmupExperiment.Arm
    public let seed: Int
    /// Bits a byte of held-out rows of full length, after the last step.
    public let finalBits: Double
    /// The largest loss over the least loss before it, and the steps at which it was over 1.2.
    public let largestLossRatio: Double
    public let stepsOver: Int
    /// The most in the steps of the first third of the tokens, of Adam's second moment: the largest root of an
    /// element, and the sum of all.
    public let earlyMaximum: Double
    public let earlyNorm: Double

    /// `log`: the lines of metrics.jsonl. A step whose loss is not finite has an infinite ratio.
    public init(arm: WarmupExperiment.Arm, seed: Int, log: [[String: Double]]) {
        self.arm = arm
        self.seed = seed
        finalBits = log.last?["val/bpb"] ?? .nan
        let isLost = log.contains { $0["loss_metrics/global_avg_loss"].map { !$0.isFinite } ?? false }
        let ratios = log.compactMap { $0["loss_metrics/loss_ratio"] }
        largestLossRatio = isLost ? .infinity : ratios.filter { !$0.isNaN }.max() ?? .nan
        stepsOver = ratios.count { !($0 <= 1.2) }
        let third = (log.last?["n_tokens_seen"] ?? 0) / 3
        let early = log.filter { ($0["n_tokens_seen"] ?? 0) <= third }
        earlyMaximum = early.compactMap { $0["optim/variance_max"] }.max() ?? .nan
        earlyNorm = early.compactMap { $0["optim/variance_norm"] }.max() ?? .nan
    }
}

/// The experiment's table, in Markdown: means over seeds, and half their spread where there are several. The last
/// column is the mean of the baseline's early variance maximum over the arm's.
public func warmupTable(_ results: [WarmupResult]) -> String {
    var lines = [
        "| Arm | bits/byte | largest loss ratio | steps over 1.2 | early variance max | early variance norm | "
            + "times lower max |",
        "|---|---|---|---|---|---|---|",
    ]
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
    let baseline = mean(results.filter { $0.arm == .baseline }.map(\.earlyMaximum))
    for arm in WarmupExperiment.Arm.allCases {
        let runs = results.filter { $0.arm == arm }
        guard !runs.isEmpty else { continue }
        func cell(_ values: [Double], _ places: Int) -> String { meanAndSpread(values, places, of: runs.count) }
        let cells = [
            arm.title, cell(runs.map(\.finalBits), 3), cell(runs.map(\.largestLossRatio), 2),
            cell(runs.map { Double($0.stepsOver) }, 1), cell(runs.map(\.earlyMaximum), 3),
            cell(runs.map(\.earlyNorm), 0), Units.fixed(baseline / mean(runs.map(\.earlyMaximum)), 2),
        ]
        lines.append("| " + cells.joined(separator: " | ") + " |")
    }
    return lines.joined(separator: "\n")
}
