import Model
import Telemetry

extension PrecisionHealth {
    /// For the log: of each operand its largest magnitude, the shares that were clipped and that became zero, and the
    /// signal over what was lost; of each block how alike SwiGLU's branches are; and the worst signal of all.
    var report: PrecisionReport {
        var entries: [PrecisionReport.Entry] = []
        var worst = Double.infinity
        for operand in operands {
            let tag = "precision/\(operand.name)/", health = operand.health, count = Double(max(health.elements, 1))
            entries.append(.init(tag + "amax", Double(health.amax)))
            entries.append(.init(tag + "saturated(%)", 100 * Double(health.saturated) / count))
            entries.append(.init(tag + "flushed(%)", 100 * Double(health.flushed) / count))
            entries.append(.init(tag + "sqnr(dB)", health.sqnr))
            if health.notFinite > 0 { entries.append(.init(tag + "not_finite", Double(health.notFinite))) }
            worst = min(worst, health.sqnr)
        }
        for branch in branches {
            let tag = "precision/layers.\(branch.layer).swiglu/"
            entries.append(.init(tag + "cosine", branch.cosine))
            entries.append(.init(tag + "channel", Double(branch.channel)))
            entries.append(.init(tag + "longest_cosine", branch.longestCosine))
            entries.append(.init(tag + "longest_ratio", branch.longestRatio))
        }
        entries.append(.init("precision/worst_sqnr(dB)", worst))
        return PrecisionReport(entries)
    }
}
