import Base

/// What a run of the optimizers' experiment came to, read from its metrics.
public struct OptimizerResult: Sendable {
    public let arm: OptimizersExperiment.Arm
    public let rate: String
    public let seed: Int
    /// Bits a byte of held-out rows after the last step.
    public let finalBits: Double
    /// The largest loss over the least loss before it: over 1.2 is what 2108.06084 calls unstable.
    public let largestLossRatio: Double
    /// Tokens seen and bits a byte, at each validation.
    public let curve: [(tokens: Double, bits: Double)]
    /// The median step's.
    public let tokensPerSecond: Double

    /// `log`: the lines of metrics.jsonl. A step whose loss is not finite has an infinite ratio.
    public init(arm: OptimizersExperiment.Arm, rate: String, seed: Int, log: [[String: Double]]) {
        self.arm = arm
        self.rate = rate
        self.seed = seed
        finalBits = log.last?["val/bpb"] ?? .nan
        let isLost = log.contains { $0["loss_metrics/global_avg_loss"].map { !$0.isFinite } ?? false }
        let ratios = log.compactMap { $0["loss_metrics/loss_ratio"] }
        largestLossRatio = isLost ? .infinity : ratios.filter { !$0.isNaN }.max() ?? .nan
        curve = log.compactMap { line in
            guard let bits = line["val/bpb"], let tokens = line["n_tokens_seen"] else { return nil }
            return (tokens, bits)
        }
        let speeds = log.compactMap { $0["throughput(tps)"] }.sorted()
        tokensPerSecond = speeds.isEmpty ? .nan : speeds[speeds.count / 2]
    }

    /// Tokens until held-out rows take no more than `bits` a byte, on straight lines between validations; nil if never.
    public func tokens(to bits: Double) -> Double? {
        var last: (tokens: Double, bits: Double)?
        for point in curve {
            if point.bits <= bits {
                guard let last, last.bits > point.bits else { return point.tokens }
                let part = (last.bits - bits) / (last.bits - point.bits)
                return last.tokens + part * (point.tokens - last.tokens)
            }
            last = point
        }
        return nil
    }
}

/// The experiment's table, in Markdown: of each arm its best rate, over all seeds that ran with it, as means and half
/// their spread; the loss ratio is the largest of any seed. Then all rates of the first seed.
public func optimizersTable(_ results: [OptimizerResult]) -> String {
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
    func best(_ arm: OptimizersExperiment.Arm) -> [OptimizerResult] {
        let rate = bestRate(results, arm)
        return results.filter { $0.arm == arm && $0.rate == rate }
    }
    let arms = OptimizersExperiment.Arm.allCases.filter { arm in results.contains { $0.arm == arm } }
    let target = mean(best(.adamw).map(\.finalBits))
    var lines = [
        "| Arm | rate | bits/byte | largest loss ratio | tokens to AdamW's end | tokens/s |",
        "|---|---|---|---|---|---|",
    ]
    for arm in arms {
        let runs = best(arm)
        let cells = [
            arm.title, runs[0].rate, meanAndSpread(runs.map(\.finalBits), 3, of: runs.count),
            Units.fixed(runs.map(\.largestLossRatio).max() ?? .nan, 2),
            target.isNaN ? "" : meanAndSpread(runs.compactMap { $0.tokens(to: target) }, 0, of: runs.count),
            Units.fixed(mean(runs.map(\.tokensPerSecond)), 0),
        ]
        lines.append("| " + cells.joined(separator: " | ") + " |")
    }
    lines += ["", "| Arm | rate | bits/byte | largest loss ratio |", "|---|---|---|---|"]
    for result in results where result.seed == 0 {
        lines.append("| \(result.arm.title) | \(result.rate) | \(Units.fixed(result.finalBits, 3)) | "
            + "\(Units.fixed(result.largestLossRatio, 2)) |")
    }
    return lines.joined(separator: "\n")
}
