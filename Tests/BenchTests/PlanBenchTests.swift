import Base
import Bench
import Testing

/// What other layouts take, as `bench plan` prints it.
@Suite struct PlanBenchTests {
    /// Every layout has a row in both networks with the regime, none beats ours by more than its gap to the bound, and
    /// a static degree loses most where the network is slow.
    @Test func oursIsTheShortest() throws {
        var setting = PlanBenchSetting()
        (setting.ranks, setting.sequences, setting.batches) = ([8], 96, 3)
        var lines: [BenchLine] = []
        try benchPlan(setting) { lines.append($0) }
        func number(_ line: BenchLine, _ name: String) throws -> Double {
            guard case .number(let value)? = line.fields.first(where: { $0.name == name })?.value else {
                throw BadInput("no \(name)")
            }
            return value
        }
        func text(_ line: BenchLine, _ name: String) -> String? {
            guard case .text(let value)? = line.fields.first(where: { $0.name == name })?.value else { return nil }
            return value
        }
        #expect(lines.count == 12)
        let unequal = "ours, half of the ranks at half speed"
        for line in lines.filter({ text($0, "layout") == unequal }) {
            // The bound is the better one of two, so never below counting's.
            #expect(try number(line, "bound_over_counting") >= 1)
            #expect(try number(line, "step_without_lp") > 0.97)
        }
        lines.removeAll { text($0, "layout") == unequal }
        #expect(lines.count == 10)
        let names = ["static best-fit", "static balanced", "homogeneous per batch", "flexsp", "ours"]
        for regime in ["throttled", "fast"] {
            let rows = lines.filter { text($0, "regime") == regime }
            #expect(rows.compactMap { text($0, "layout") } == names)
            let gap = try number(rows[4], "mean_gap")
            for row in rows {
                #expect(try number(row, "of_ours") >= 1 - gap - 1e-9)
                #expect(try number(row, "flops_per_dim_byte") > 0 && number(row, "seconds") > 0)
            }
        }
        #expect(try number(lines[0], "of_ours") > 1.2)
        #expect(try number(lines[0], "of_ours") > number(lines[5], "of_ours"))
    }

    @Test func lengthsAreDrawnFrom() throws {
        var setting = PlanBenchSetting()
        (setting.ranks, setting.sequences, setting.batches, setting.lengths) = ([2], 4, 1, [1_000])
        var lines: [BenchLine] = []
        try benchPlan(setting) { lines.append($0) }
        lines.removeAll { $0.fields.contains { $0.name == "step_without_lp" } }
        // Two equal sequences for each of two ranks: every balanced layout is that. Best-fit packs all four into the
        // memory of one rank.
        #expect(lines.count == 10)
        for (place, line) in lines.enumerated() {
            guard case .number(let ratio)? = line.fields.first(where: { $0.name == "of_ours" })?.value else { continue }
            if place % 5 == 0 { #expect(ratio > 1.5 && ratio < 2) } else { #expect(abs(ratio - 1) < 1e-9) }
        }
    }
}
