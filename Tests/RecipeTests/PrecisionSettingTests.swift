import Base
import Recipe
import Testing

@Suite struct PrecisionSettingTests {
    private func setting(_ flags: [String]) throws -> PrecisionSetting? {
        try ResolvedRecipe.load(file: nil, flags: flags).recipe.precision.setting()
    }

    /// The table of docs/low-precision.md: formats, history, smoothing and attention of each recipe.
    @Test func recipes() throws {
        #expect(try setting([]) == nil)
        typealias Row = (recipe: String, forward: String, backward: String, gradient: String, history: Int,
                         smoothing: Recipe.Smoothing, attention: Bool)
        let rows: [Row] = [
            ("bf16", "BF16", "BF16", "BF16", 16, .none, true),
            ("fp8-hybrid", "E4M3", "E4M3", "E5M2", 16, .none, true),
            ("fp8-block", "E4M3", "E4M3", "E4M3", 16, .none, false),
            ("mxfp8", "E4M3", "E4M3", "E4M3", 16, .none, false),
            ("fp8-paper", "E4M3-ieee", "E5M2", "E5M2", 1, .channel, false),
        ]
        for row in rows {
            let found = try #require(try setting(["--precision.recipe", row.recipe]))
            let operands = found.operands
            #expect(operands.forwardInput.format == row.forward && operands.forwardWeight.format == row.forward)
            #expect(operands.inputGradientWeight.format == row.backward
                && operands.weightGradientInput.format == row.backward)
            for gradient in [operands.inputGradientOutput, operands.weightGradientOutput] {
                #expect(gradient.format == row.gradient && gradient.isStochastic == (row.recipe == "fp8-paper"))
            }
            #expect(found.history == row.history && found.smoothing == row.smoothing, "\(row.recipe)")
            #expect(found.roundsAttention == row.attention)
            #expect(found.hasDelayed == (row.recipe == "fp8-hybrid" || row.recipe == "fp8-paper"), "\(row.recipe)")
        }
        let block = try #require(try setting(["--precision.recipe", "fp8-block"])).operands
        #expect(block.weightGradientInput.scaling == .current(outer: 1, depth: 128))
        #expect(block.inputGradientWeight.scaling == .current(outer: 128, depth: 128))
        let changed = try #require(try setting(["--precision.recipe", "fp8-paper", "--precision.amax_history", "7",
                                                "--precision.smooth_swiglu", "token", "--precision.attention", "bf16"]))
        #expect(changed.history == 7 && changed.smoothing == .token && changed.roundsAttention)
    }

    /// What an operand's text means, in any order of its words.
    @Test func texts() throws {
        func read(_ text: String) throws -> OperandSetting { try OperandSetting(text, key: "k") }
        #expect(try read("E4M3").scaling == .none)
        #expect(try read("E5M2 stochastic delayed") == read("E5M2 delayed Stochastic"))
        #expect(try read("INT8 tensor").scaling == .current(outer: 0, depth: 0) && read("INT8 tensor").isWhole)
        #expect(try read("E3M4 free row").scaling == .current(outer: 1, depth: 0) && read("E3M4 free row").isFree)
        let micro = try read("mxfp6-e3m2-floor stochastic"), two = try read("NVFP4")
        #expect(micro.format == "E3M2" && micro.scaling == .current(outer: 1, depth: 32) && micro.rule == .floor)
        #expect(micro.isStochastic && two.format == "E2M1" && two.rule == .twoLevels)
        #expect(two.scaling == .current(outer: 1, depth: 16) && !two.isWhole)
        #expect(try read("MXFP8") == read("E4M3 1x32") && read("MXFP4-floor") == read("E2M1 floor 1x32"))
        #expect(try read("E2M1 3x50").scaling == .current(outer: 3, depth: 50) && !read("E2M1 3x50").isWhole)
    }

    /// One line that names the key and what to write.
    @Test(arguments: [
        ("", "is empty; write a format and how it is scaled"), ("E4M3 sometimes", "'sometimes' says nothing"),
        ("E4M3 0x4", "'0x4' says nothing"), ("E4M3 4x1", "'4x1' says nothing"), ("E4M3 1x2x3", "'1x2x3' says nothing"),
        ("E4M3 delayed row", "has two scalings; keep one"), ("E4M3 1x32 free", "free scales belong to a whole tensor"),
        ("E4M3 free", "free scales belong to a whole tensor"), ("E4M3 floor", "there is none; write 1x32"),
        ("E4M3 row free floor", "has free and floor scales"), ("NVFP4 row", "'row' beside NVFP4, whose scales are"),
        ("MXFP8 free", "'free' beside MXFP8"),
    ]) func refusals(text: String, want: String) {
        let line = refusal(flags: ["--precision.recipe", "custom", "--precision.forward_weight=\(text)"])
        #expect(line?.contains("precision.forward_weight") == true && line?.contains(want) == true, "\(line ?? "none")")
        // Nobody reads it elsewhere.
        #expect(refusal(flags: ["--precision.recipe", "mxfp8", "--precision.forward_weight=\(text)"]) == nil)
    }

    @Test(arguments: [
        (["--precision.recipe", "bf16", "--training.matmul", "openblas"], "has products of its own"),
        (["--precision.smooth_swiglu", "channel"], "quantises nothing"),
        (["--precision.recipe", "mxfp8", "--precision.smooth_swiglu", "token"], "precision.forward_input has many"),
        (["--precision.attention", "bf16"], "comes with linear layers in few bits"),
        (["--comm.gradients", "bf16", "--training.reproducible", "true"], "rounds what ranks send"),
    ]) func whatDoesNotFitTogether(flags: [String], want: String) {
        let line = refusal(flags: flags)
        #expect(line?.contains(want) == true, "\(line ?? "none")")
    }
}
