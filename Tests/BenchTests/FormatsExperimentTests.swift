import Base
import Bench
import Recipe
import Testing

struct FormatsExperimentTests {
    /// Arms differ in the operands' formats and in nothing else; names may be folders.
    @Test func armsDifferInFormatsAlone() throws {
        var arms = try FormatsExperiment.Arm.recipes("fp32,bf16,fp8-hybrid,fp8-block,mxfp8,fp8-paper")
        arms += Operand.allCases.map { FormatsExperiment.Arm($0, "E2M1 1x16 stochastic") }
        #expect(Set(arms.map(\.name)).count == 12)
        let experiment = FormatsExperiment(sources: ["a"], folder: "out", arms: arms)
        let first = try experiment.recipe(arms[0], seed: 3).recipe
        for arm in arms {
            var recipe = try experiment.recipe(arm, seed: 3).recipe
            #expect(recipe.job.name == "\(arm.name)-seed3" && (recipe.precision == first.precision) == (arm == arms[0]))
            recipe.job = first.job
            recipe.precision = first.precision
            #expect(recipe == first)
        }
        for (operand, arm) in zip(Operand.allCases, arms[6...]) {
            let setting = try #require(try experiment.recipe(arm, seed: 0).recipe.precision.setting())
            for other in Operand.allCases {
                #expect(setting.operands[other].format == (other == operand ? "E2M1" : "BF16"))
            }
        }
    }

    @Test(arguments: ["fp16", "custom", "FP32"]) func unknownRecipes(name: String) {
        let error = #expect(throws: BadInput.self) { try FormatsExperiment.Arm.recipes("fp32,\(name)") }
        #expect(error.map { "\($0)" }?.hasPrefix("--recipes has no \(name); there are fp32, bf16, ") == true)
    }

    /// The law at 5 M parameters and 10^9 tokens, scaled by channel, to the places that a reading of the paper's
    /// constants by hand gave; and its ratio of groupings, 13.1567 to 5.
    @Test(arguments: [(1, 2, 0.024), (2, 1, 0.022), (1, 3, 0.009), (3, 1, 0.0074), (2, 2, 0.0048), (4, 3, 0.0003)])
    func lawIsThePapers(exponent: Int, mantissa: Int, nats: Double) {
        let channel = FormatLaw(exponent: exponent, mantissa: mantissa, grouping: .channel)
        let gap = channel.gap(parameters: 5e6, tokens: 1e9)
        #expect(abs(gap / nats - 1) < 0.17, "\(gap)")
        let block = FormatLaw(exponent: exponent, mantissa: mantissa, grouping: .block)
        #expect(abs(gap / block.gap(parameters: 5e6, tokens: 1e9) - 13.1567 / 5) < 1e-12)
    }

    /// The law's arms quantise what they say, in formats without infinities, and nothing else.
    @Test func lawArmsQuantiseThreeOperandsThenSix() throws {
        let arms = FormatsExperiment.Arm.law
        #expect(arms.count == 21 && Set(arms.map(\.name)).count == 21 && arms[0].law == nil)
        let experiment = FormatsExperiment(sources: ["a"], folder: "out", arms: arms)
        for (index, arm) in arms.enumerated() {
            let setting = try #require(try experiment.recipe(arm, seed: 0).recipe.precision.setting())
            let rounded = Operand.allCases.filter { setting.operands[$0].format != "BF16" }
            let three: Set<Operand> = [.forwardWeight, .inputGradientWeight, .weightGradientInput]
            #expect(Set(rounded) == (index == 0 ? [] : index <= 10 ? three : Set(Operand.allCases)))
            #expect(!setting.roundsAttention && rounded.allSatisfy { setting.operands[$0].format.hasSuffix("-finite") })
        }
    }

    /// Predictions have a column of their own where there are any.
    @Test func theTableHasPredictions() {
        let arms = FormatsExperiment.Arm.law
        let log = [["validation_metrics/loss": 2.0, "throughput/total_tps": 50.0]]
        var coarse = FormatsResult(arm: arms[1], seed: 0, log: log)
        coarse.predicted = 0.0125
        let rows = formatsTable([FormatsResult(arm: arms[0], seed: 0, log: log), coarse]).split(separator: "\n")
        #expect(rows[0] == "| Operands | held-out nats | over the first arm | the law's | worst SQNR, dB | tokens/s |")
        #expect(rows[2] == "| BF16 | 2.0000 | 0.0000 |  |  | 50 |")
        #expect(rows[3] == "| three: E1M2, blocks of 32 | 2.0000 | 0.0000 | 0.0125 |  | 50 |")
    }

    @Test func formatsAreTheExperiments() {
        var experiment = FormatsExperiment(sources: ["a"], folder: "/nowhere", arms: [FormatsExperiment.Arm(.bf16)])
        experiment.overrides = ["--precision.recipe", "mxfp8"]
        #expect(throws: BadInput.self) { try experiment.run { _ in } }
    }

    /// Differences are those of the same seed: what a seed does to all arms falls out.
    @Test func theTablePairsSeeds() {
        func log(_ loss: Double, _ decibels: Double?) -> [[String: Double]] {
            let last = ["validation_metrics/loss": loss, "throughput/total_tps": 50]
            let look = decibels.map { ["precision/worst_sqnr(dB)": $0, "throughput/total_tps": 70] }
            return [["throughput/total_tps": 10]] + (look.map { [$0] } ?? []) + [last]
        }
        let (exact, coarse) = (FormatsExperiment.Arm(.fp32), FormatsExperiment.Arm(.mxfp8))
        let results = [
            FormatsResult(arm: exact, seed: 0, log: log(2, nil)),
            FormatsResult(arm: coarse, seed: 0, log: log(2.25, 28)),
            FormatsResult(arm: exact, seed: 1, log: log(3, nil)),
            FormatsResult(arm: coarse, seed: 1, log: log(3.25, 20)),
        ]
        let rows = formatsTable(results).split(separator: "\n")
        #expect(rows.count == 4)
        #expect(rows[2] == "| fp32 | 2.5000 ± 0.5000 | 0.0000 ± 0.0000 |  | 50 ± 0 |")
        #expect(rows[3] == "| mxfp8 | 2.7500 ± 0.5000 | 0.2500 ± 0.0000 | 24.0 ± 4.0 | 50 ± 0 |")
    }
}

struct OutlierExperimentTests {
    private func lines(_ change: (inout OutlierExperiment) -> Void = { _ in }) throws
        -> [OutlierExperiment.Scheme: OutlierExperiment.Line] {
        var experiment = OutlierExperiment()
        (experiment.tokens, experiment.dim, experiment.channels) = (256, 64, 172)
        change(&experiment)
        return Dictionary(uniqueKeysWithValues: try experiment.run().map { ($0.scheme, $0) })
    }

    /// The two failures of one scale for the tensor, and what bears both: the spike clips under a scale from before,
    /// and others vanish under one that knows it. A smoothed channel whose scale comes with it does neither.
    @Test func whatBearsASpike() throws {
        let found = try lines()
        func line(_ scheme: OutlierExperiment.Scheme) throws -> OutlierExperiment.Line { try #require(found[scheme]) }
        let (delayed, current, channel) = (try line(.delayed), try line(.current), try line(.channel))
        #expect(delayed.during.all < 5 && delayed.during.others > 20, "\(delayed)")
        #expect(delayed.after.flushed > 0.5 && delayed.after.others < 12, "\(delayed)")
        #expect(current.during.all > 25 && current.during.flushed > 0.5, "\(current)")
        #expect(channel.during.all > 25 && channel.during.others > 20 && channel.during.flushed < 0.1, "\(channel)")
        #expect(channel.after.all > 25 && channel.after.others > 20, "\(channel)")
        // A new factor under a scale from before clips what the spike adds.
        #expect(try line(.stale).during.all < channel.during.all - 10)
        #expect(try line(.staleToken).during.all < channel.during.all - 10)
        // A power of two for a whole row changes nothing that blocks along it do not undo.
        #expect(try line(.tokenBlocks).during.others == line(.blocks).during.others)
        #expect(try line(.channelBlocks).during.all > 25 && line(.channelBlocks).after.others > 20)
        for scheme in [OutlierExperiment.Scheme.rows, .blocks] {
            #expect(try line(scheme).during.all > 25 && line(scheme).during.flushed < 0.1, "\(scheme)")
        }
    }

    /// Rows at a right angle make no outlier: no scale clips anything.
    @Test func orthogonalRowsAreHarmless() throws {
        let found = try lines { $0.cosine = 0 }
        for line in found.values where line.scheme != .stale && line.scheme != .staleToken {
            #expect(line.during.all > 20, "\(line)")
        }
    }
}
