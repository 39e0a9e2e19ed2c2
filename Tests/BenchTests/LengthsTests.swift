import Bench
import Recipe
import Testing

struct LengthsTests {
    private func log(bits: [Double], seconds: Double) -> [[String: Double]] {
        bits.enumerated().map { index, bits in
            ["step": Double(index + 1), "time_metrics/end_to_end(s)": seconds, "val/bpb": bits,
             "n_tokens_seen": Double(100 * (index + 1)), "loss_metrics/loss_ratio": 1 + Double(index) / 10]
        }
    }

    @Test func secondsToAValueAreInterpolated() {
        let result = LengthsResult(arm: .concat, seed: 0, log: log(bits: [5, 4, 2, 9], seconds: 3))
        #expect(result.finalBits == 9 && result.seconds == 12 && result.tokens == 400)
        #expect(abs(result.largestLossRatio - 1.3) < 1e-12)
        #expect(result.curve.map(\.bits) == [5, 4, 2])
        #expect(result.seconds(to: 6) == 3 && result.seconds(to: 5) == 3)
        #expect(result.seconds(to: 4.5) == 4.5 && result.seconds(to: 2) == 9)
        #expect(result.seconds(to: 1.9) == nil)
    }

    /// An arm twice as fast a step, which is where concat ends after two thirds of its own steps.
    @Test func theTableComparesTimesToConcat() {
        let concat = LengthsResult(arm: .concat, seed: 0, log: log(bits: [5, 4, 3, 3], seconds: 2))
        let other = LengthsResult(arm: .uniform, seed: 0, log: log(bits: [4, 3, 2, 2.5], seconds: 1))
        let never = LengthsResult(arm: .window, seed: 0, log: log(bits: [9, 8, 7, 7], seconds: 1))
        let rows = lengthsTable([concat, other, never]).split(separator: "\n")
        #expect(rows.count == 5)
        #expect(rows[2] == "| concat-and-chunk | 3.000 | 50 | 8 | 6 | 1.00 | 1.300 |")
        #expect(rows[3] == "| decomposition, uniform | 2.500 | 100 | 4 | 2 | 3.00 | 1.300 |")
        #expect(rows[4] == "| decomposition, window warm-up | 7.000 | 100 | 4 | never | never | 1.300 |")
    }

    @Test func recipesOfArmsDifferOnlyInTheirRows() throws {
        let experiment = LengthsExperiment(sources: ["a", "b"], folder: "out")
        var seen: [String] = []
        for arm in LengthsExperiment.Arm.allCases {
            let recipe = try experiment.recipe(arm, seed: 1, epoch: 19_300_000).recipe
            #expect(recipe.training.steps == 244 && recipe.job.name == "\(arm.rawValue)-seed1")
            #expect(recipe.data.paths == ["a", "b"] && recipe.debug.seed == 1)
            if arm == .growP2 { #expect(recipe.data.cycles == 5) }
            if arm == .growP2Cycles { #expect(recipe.data.cycles == 39) }
            seen.append("\(recipe.data)\(recipe.training.lengthWarmup)")
            let concat = try experiment.recipe(.concat, seed: 1, epoch: 1).recipe
            #expect(recipe.withoutRows.toml == concat.withoutRows.toml)
        }
        #expect(Set(seen).count == seen.count)
    }
}

extension Recipe {
    fileprivate var withoutRows: Recipe {
        var recipe = self
        recipe.data = Recipe().data
        recipe.training.lengthWarmup = Recipe().training.lengthWarmup
        recipe.job = Recipe().job
        return recipe
    }
}
