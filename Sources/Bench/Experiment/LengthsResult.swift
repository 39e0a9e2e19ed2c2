import Base

/// What a run of an experiment came to, read from its metrics.
public struct LengthsResult: Sendable {
    public let arm: LengthsExperiment.Arm
    public let seed: Int
    /// Bits a byte over all held-out documents, after the last step.
    public let finalBits: Double
    /// Seconds of all steps; validation and checkpoints are left out.
    public let seconds: Double
    public let tokens: Double
    public let largestLossRatio: Double
    /// Validations on the way, on fewer rows: seconds of training before them, and bits a byte.
    public let curve: [(step: Int, seconds: Double, bits: Double)]

    /// `log`: the lines of metrics.jsonl.
    public init(arm: LengthsExperiment.Arm, seed: Int, log: [[String: Double]]) {
        self.arm = arm
        self.seed = seed
        var (seconds, curve): (Double, [(step: Int, seconds: Double, bits: Double)]) = (0, [])
        for line in log {
            seconds += line["time_metrics/end_to_end(s)"] ?? 0
            if let bits = line["val/bpb"] { curve.append((Int(line["step"] ?? 0), seconds, bits)) }
        }
        finalBits = curve.last?.bits ?? .nan
        self.seconds = seconds
        // The last validation is on all rows and cannot be compared with those before it.
        self.curve = Array(curve.dropLast())
        tokens = log.last?["n_tokens_seen"] ?? 0
        largestLossRatio = log.compactMap { $0["loss_metrics/loss_ratio"] }.max() ?? .nan
    }

    /// Seconds of training until the curve first falls to `bits`, between two validations in proportion; nil where
    /// it never does.
    public func seconds(to bits: Double) -> Double? {
        var before: (seconds: Double, bits: Double)?
        for point in curve {
            if point.bits <= bits {
                guard let before, before.bits > point.bits else { return point.seconds }
                return before.seconds
                    + (point.seconds - before.seconds) * (before.bits - bits) / (before.bits - point.bits)
            }
            before = (point.seconds, point.bits)
        }
        return nil
    }
}

/// The experiment's table, in Markdown: means over seeds, and the spread (largest less smallest) where there are
/// several. Times are to the value that concat-and-chunk of the same seed has at its last validation on the way.
public func lengthsTable(_ results: [LengthsResult]) -> String {
    var lines = [
        "| Arm | bits/byte | tokens/s | seconds | to concat's value, s | times faster | largest loss ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in LengthsExperiment.Arm.allCases {
        let runs = results.filter { $0.arm == arm }
        guard !runs.isEmpty else { continue }
        func cell(_ values: [Double], _ places: Int) -> String {
            meanAndSpread(values, places, of: runs.count)
        }
        let reached: [(own: Double, concat: Double)] = runs.compactMap { run in
            guard let concat = results.first(where: { $0.arm == .concat && $0.seed == run.seed }),
                  let goal = concat.curve.last, let own = run.seconds(to: goal.bits) else { return nil }
            return (own, goal.seconds)
        }
        let cells = [
            arm.title, cell(runs.map(\.finalBits), 3), cell(runs.map { $0.tokens / $0.seconds }, 0),
            cell(runs.map(\.seconds), 0), cell(reached.map(\.own), 0), cell(reached.map { $0.concat / $0.own }, 2),
            cell(runs.map(\.largestLossRatio), 3),
        ]
        lines.append("| " + cells.joined(separator: " | ") + " |")
    }
    return lines.joined(separator: "\n")
}
