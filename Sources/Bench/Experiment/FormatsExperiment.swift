import Base
import Recipe
import Trainer

/// What number formats cost a model in the making: the same small model trained on the same rows from the same weights,
/// once for each recipe of the linear layers' operands. A run of its own each, in `folder`/ARM-seedN.
public struct FormatsExperiment {
    public var sources: [String]
    public var folder: String
    public var seeds = [0]
    public var arms: [Arm]
    /// Further keys of the recipe, for all arms: `--section.key`, value, ...
    public var overrides: [String] = []

    public init(sources: [String], folder: String, arms: [Arm]) {
        self.sources = sources
        self.folder = folder
        self.arms = arms
    }

    /// A recipe by its name, or one of the six operands rounded alone, the others in bf16 (2501.02423 asks operand by
    /// operand).
    public struct Arm: Sendable, Equatable {
        /// Names its runs.
        public let name: String
        public let title: String
        public let flags: [String]
        /// What its format is predicted to cost.
        public let law: FormatLaw?

        init(name: String, title: String, flags: [String], law: FormatLaw?) {
            (self.name, self.title, self.flags, self.law) = (name, title, flags, law)
        }

        public init(_ recipe: Recipe.PrecisionRecipe) {
            name = recipe.rawValue
            title = recipe.rawValue
            flags = ["--precision.recipe", recipe.rawValue]
            law = nil
        }

        /// `setting`: of the operand, as the key's value.
        public init(_ operand: Operand, _ setting: String) {
            name = ([operand.rawValue] + setting.split(separator: " ").map(String.init)).joined(separator: "-")
            title = "\(operand.rawValue) = \(setting)"
            flags = ["--precision.recipe", "custom", "--precision.\(operand.rawValue)", setting]
            law = nil
        }

        /// Recipes by their names, with commas.
        public static func recipes(_ text: String) throws(BadInput) -> [Arm] {
            var arms: [Arm] = []
            for name in text.split(separator: ",") {
                guard let recipe = Recipe.PrecisionRecipe(rawValue: String(name)), recipe != .custom else {
                    let all = Recipe.PrecisionRecipe.allCases.filter { $0 != .custom }.map(\.rawValue)
                    throw BadInput("--recipes has no \(name); there are \(all.joined(separator: ", "))")
                }
                arms.append(Arm(recipe))
            }
            return arms
        }
    }

    /// A byte model of width 128 and 3 layers, 2,048 tokens a step.
    private static let model = """
        [model]
        dim = 128
        n_layers = 3
        n_heads = 2
        ffn_dim = 352
        [training]
        steps = 300
        seq_len = 256
        local_batch_size = 8
        threads = 1
        [optimizer]
        lr = 0.003
        [lr_scheduler]
        warmup_steps = 30
        [validation]
        rows = 128
        [metrics]
        log_freq = 50
        [checkpoint]
        interval = 100
        keep_latest_k = 1

        """

    public func recipe(_ arm: Arm, seed: Int) throws(BadInput) -> ResolvedRecipe {
        try experimentRecipe(Self.model, flags: ["--data.paths", sources.joined(separator: ",")] + arm.flags + overrides
            + ["--job.dump_folder", folder, "--job.name", "\(arm.name)-seed\(seed)", "--debug.seed", "\(seed)"])
    }

    /// Trains what is not finished yet, seed after seed, and returns all results. `announce` hears which run begins.
    /// Returns nil where Ctrl-C ended it.
    public func run(announce: (String) -> Void) throws -> [FormatsResult]? {
        guard !overrides.contains(where: { $0.hasPrefix("--precision.") && !$0.hasPrefix("--precision.smooth_swiglu")
            && !$0.hasPrefix("--precision.amax_history") }) else {
            throw BadInput("the experiment chooses formats; leave the keys of precision out, and name arms by "
                + "--recipes and --operands")
        }
        let runs = try seeds.flatMap { seed in
            try arms.map { arm in (arm: arm, seed: seed, resolved: try recipe(arm, seed: seed)) }
        }
        try requireRuns(runs.map(\.resolved), in: folder, overrides)
        var results: [FormatsResult] = []
        for run in runs {
            let log = try finishedLog(run.resolved) {
                announce("run \(results.count + 1) of \(runs.count): \(run.arm.title), seed \(run.seed)")
            }
            guard let log else { return nil }
            var result = FormatsResult(arm: run.arm, seed: run.seed, log: log)
            result.predicted = try run.arm.law.map { try predicted($0, run.resolved.recipe) }
            results.append(result)
        }
        return results
    }

    /// Of a run's parameters and tokens.
    private func predicted(_ law: FormatLaw, _ recipe: Recipe) throws -> Double {
        let vocabulary = try recipe.vocabulary(ofTokens: openTokenizer(recipe).vocabularySize)
        let table = ParameterTable(recipe.model, vocabulary: vocabulary)
        let tokens = recipe.training.steps * recipe.rowsPerStep(worldSize: 1) * recipe.training.sequenceLength
        return law.gap(parameters: Double(table.parameterCount), tokens: Double(tokens))
    }
}

/// What a run came to, read from its metrics.
public struct FormatsResult: Sendable {
    public let arm: FormatsExperiment.Arm
    public let seed: Int
    /// Held-out loss in nats a token after the last step, and the worst signal over what quantising lost that any look
    /// at the operands found.
    public let loss: Double
    public let worstDecibels: Double
    public let tokensPerSecond: Double
    /// What a law says the arm costs over the first one, in nats.
    public var predicted: Double?

    public init(arm: FormatsExperiment.Arm, seed: Int, log: [[String: Double]]) {
        self.arm = arm
        self.seed = seed
        loss = log.last?["validation_metrics/loss"] ?? .nan
        worstDecibels = log.compactMap { $0["precision/worst_sqnr(dB)"] }.min() ?? .infinity
        let rates = log.compactMap { $0["throughput/total_tps"] }.sorted()
        tokensPerSecond = rates.isEmpty ? .nan : rates[rates.count / 2]
    }
}

/// The experiment's table, in Markdown: means over seeds, and half their spread where there are several. Differences
/// are those from the first arm under the same seed, so that what a seed does to all arms falls out. Predictions have a
/// column where there are any.
public func formatsTable(_ results: [FormatsResult]) -> String {
    let isPredicted = results.contains { $0.predicted != nil }
    var columns = ["Operands", "held-out nats", "over the first arm", "worst SQNR, dB", "tokens/s"]
    if isPredicted { columns.insert("the law's", at: 3) }
    var lines = ["| " + columns.joined(separator: " | ") + " |", "|" + columns.map { _ in "---|" }.joined()]
    var arms: [FormatsExperiment.Arm] = []
    for result in results where !arms.contains(result.arm) { arms.append(result.arm) }
    for arm in arms {
        let runs = results.filter { $0.arm == arm }
        func cell(_ values: [Double], _ places: Int) -> String { meanAndSpread(values, places, of: runs.count) }
        let differences = runs.compactMap { run in
            results.first { $0.arm == arms[0] && $0.seed == run.seed }.map { run.loss - $0.loss }
        }
        let decibels = runs.map(\.worstDecibels).filter(\.isFinite)
        var cells = [arm.title, cell(runs.map(\.loss), 4), cell(differences, 4),
                     decibels.isEmpty ? "" : cell(decibels, 1), cell(runs.map(\.tokensPerSecond), 0)]
        if isPredicted { cells.insert(runs[0].predicted.map { Units.fixed($0, 4) } ?? "", at: 3) }
        lines.append("| " + cells.joined(separator: " | ") + " |")
    }
    return lines.joined(separator: "\n")
}
