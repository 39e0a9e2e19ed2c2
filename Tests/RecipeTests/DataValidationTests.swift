import Recipe
import Testing

@Suite struct DataValidationTests {
    private static let decompose = "--data.layout decompose --training.seq_len 256"
    private static let warmup = "--training.length_warmup window --training.length_warmup_steps 10"
    private static let discrete = "--training.length_warmup reshape --training.length_warmup_growth discrete"
    private static let free = "\(decompose) --data.curriculum free"
    private static let quota = "\(decompose) --data.decomposition quota"
    private static let lengths = "\(discrete) --training.length_warmup_lengths"

    private func words(_ flags: String) -> [String] { flags.split(separator: " ").map(String.init) }

    private static let misfits: [(flags: String, start: String)] = [
        ("\(decompose) --training.seq_len 300",
         "--training.seq_len: training.seq_len = 300 is no power of two, which data.layout = decompose needs; make it"),
        ("\(decompose) --data.min_length 48",
         "--data.min_length: data.min_length = 48 is no power of two, which data.layout = decompose needs; make it"),
        ("\(decompose) --data.min_length 512",
         "--data.min_length: data.min_length = 512 is more than training.seq_len = 256; lower it"),
        ("\(decompose) --training.seq_len 8192 --data.min_length 4",
         "--data.min_length: data.min_length = 4 makes 12 buckets up to training.seq_len = 8192, the most are 11"),
        ("\(free)", "data.odds has 0 numbers, and there are 4 buckets: 32, 64, 128, 256; give one number for each"),
        ("\(free) --data.odds 1,2,3", "--data.odds: data.odds has 3 numbers, and there are 4 buckets"),
        ("\(free) --data.odds 0,0,0,0", "--data.odds: data.odds are all 0; at least one must be more"),
        ("\(quota) --data.mixture 1,2,3,4,5", "--data.mixture: data.mixture has 5 numbers, and there are 4 buckets"),
        ("\(quota) --data.mixture -1,2",
         "--data.mixture: data.mixture must be numbers from 0.0 to 1e+30, found the numbers -1.0, 2.0"),
        ("\(decompose) \(warmup) --training.length_warmup truncate",
         "--training.length_warmup: training.length_warmup = truncate throws tokens away"),
        ("\(warmup) --training.length_warmup_steps 0",
         "--training.length_warmup_steps: training.length_warmup_steps must be from 1 to 10000000"),
        ("\(warmup) --training.length_warmup_start 257",
         "--training.length_warmup_start: training.length_warmup_start = 257 is more than training.seq_len = 256"),
        ("\(warmup) --training.length_warmup reshape --training.seq_len 1009",
         "--training.length_warmup: training.length_warmup = reshape cuts rows evenly, and training.seq_len = 1009 has "
            + "no divisor near training.length_warmup_start = 8; make it 1016"),
        ("\(discrete)",
         "--training.length_warmup: training.length_warmup_lengths must end with training.seq_len = 256"),
        ("\(lengths) 8,256",
         "--training.length_warmup: training.length_warmup_ends has 0 numbers for 2 lengths; give the step"),
        ("\(lengths) 8.5,256",
         "--training.length_warmup_lengths: training.length_warmup_lengths must be whole numbers"),
        ("\(lengths) 64,32,256",
         "--training.length_warmup_lengths: training.length_warmup_lengths must grow from number to number"),
        ("\(lengths) 8,64,256 --training.length_warmup_ends 9,9",
         "--training.length_warmup_ends: training.length_warmup_ends must grow from number to number"),
    ]

    @Test(arguments: misfits) func whatDoesNotFitTogether(flags: String, start: String) {
        let line = refusal(flags: words(flags))
        #expect(line?.hasPrefix(start) == true, "\(line ?? "accepted")")
    }

    /// What is switched off is not looked at.
    @Test(arguments: [
        "\(decompose)", "\(warmup)", "\(quota)", "\(free) --data.odds 0,1,0,0.5", "\(quota) --data.mixture 1,0,0,9",
        "\(warmup) --training.length_warmup reshape --training.seq_len 700", "\(decompose) \(warmup)",
        "\(decompose) --data.min_length 256", "\(lengths) 256",
        "\(decompose) --training.seq_len 8192 --data.min_length 8",
        "\(lengths) 8,64,256 --training.length_warmup_ends 9,20",
        "--data.odds 1 --data.curriculum free", "--data.min_length 33",
        "\(warmup) --training.length_warmup_start 300 --training.length_warmup none",
    ]) func whatFits(flags: String) {
        #expect(refusal(flags: words(flags)) == nil)
    }

    @Test func buckets() throws {
        func lengths(_ flags: String) throws -> [Int] {
            try ResolvedRecipe.load(file: nil, flags: words(flags)).recipe.bucketLengths
        }
        #expect(try lengths("") == [256])
        #expect(try lengths(Self.decompose) == [32, 64, 128, 256])
        #expect(try lengths("\(Self.decompose) --data.min_length 256") == [256])
    }

    /// Rows are counted in 32 bits; a run that could pass them is refused before it starts.
    @Test func moreRowsThanCanBeCounted() throws {
        func line(_ flags: String) throws -> String? {
            let recipe = try ResolvedRecipe.load(file: nil, flags: words(flags)).recipe
            do {
                try recipe.requireRows(worldSize: 1)
                return nil
            } catch { return error.description }
        }
        #expect(try line("--training.steps 500000000") == nil)
        #expect(try line("--training.steps 600000000")?.hasPrefix("training.steps = 600000000 could take ") == true)
        #expect(try line("\(Self.decompose) --training.steps 60000000") == nil)
        #expect(try line("\(Self.decompose) --training.steps 80000000")?.contains("rows of 32 tokens") == true)
    }

    /// Where every step takes as many tokens the rate by tokens is the rate by steps, bit for bit; where early steps
    /// take fewer, it falls later.
    @Test(arguments: Recipe.Decay.allCases, [0, 1, 7]) func ratesByTokens(decay: Recipe.Decay, warmup: Int) {
        var recipe = Recipe()
        recipe.training.steps = 90
        recipe.schedule.warmupSteps = warmup
        recipe.schedule.decay = decay
        for step in 0..<95 {
            let plain = recipe.learningRate(at: step)
            for tokens in [3, 256, 12_345_678] {
                #expect(recipe.learningRate(at: step) { $0 * tokens } == plain)
            }
            let growing = recipe.learningRate(at: step) { $0 * $0 }
            #expect(growing >= plain && (decay == .none || step <= warmup || step >= 89 || growing > plain))
        }
    }
}
