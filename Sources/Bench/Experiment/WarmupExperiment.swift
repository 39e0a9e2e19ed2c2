import Base
import Recipe
import Trainer

/// What a sequence-length warm-up does for a learning rate that is too high: the same small model trained twice on
/// equally many inputs of the same texts, with rows of full length from the first step on, and with rows that grow
/// (2108.06084). A run of its own each, in `folder`/ARM-seedN.
public struct WarmupExperiment {
    public var sources: [String]
    public var folder: String
    public var seeds = [0]
    /// Further keys of the recipe, for both arms: `--section.key`, value, ...
    public var overrides: [String] = []

    public init(sources: [String], folder: String) {
        self.sources = sources
        self.folder = folder
    }

    public enum Arm: String, CaseIterable, Sendable {
        case baseline, warmup

        public var title: String {
            switch self {
            case .baseline: "full length from the first step"
            case .warmup: "length warm-up"
            }
        }
    }

    /// A byte model of width 128 and 3 layers, 2,048 tokens a step, without clipping. The rate rises so fast, and the
    /// momentum is so long, that steps of full length overshoot as soon as the letters' frequencies are learnt: all
    /// their tokens push the same way. Rows that are cut into short ones keep all tokens, and learn those frequencies
    /// without overshooting; `--training.length_warmup truncate`, the paper's own way, throws the rest of a row away.
    private static let model = """
        [model]
        dim = 128
        n_layers = 3
        n_heads = 2
        ffn_dim = 352
        [data]
        document_mask = false
        [training]
        steps = 70
        seq_len = 512
        local_batch_size = 4
        threads = 1
        max_norm = 0
        length_warmup = "reshape"
        length_warmup_steps = 60
        [optimizer]
        lr = 0.006
        beta1 = 0.95
        [lr_scheduler]
        warmup_steps = 20
        [validation]
        rows = 64
        [metrics]
        log_freq = 20
        [checkpoint]
        interval = 50
        keep_latest_k = 1

        """

    /// The recipe of a run. `training.steps` are the baseline's; the other arm makes as many steps as take no more
    /// inputs than those.
    public func recipe(_ arm: Arm, seed: Int) throws(BadInput) -> ResolvedRecipe {
        let flags = ["--data.paths", sources.joined(separator: ",")] + overrides
            + ["--job.dump_folder", folder, "--job.name", "\(arm.rawValue)-seed\(seed)", "--debug.seed", "\(seed)"]
        switch arm {
        case .baseline: return try experimentRecipe(Self.model, flags: flags + ["--training.length_warmup", "none"])
        case .warmup:
            let recipe = try experimentRecipe(Self.model, flags: flags).recipe
            guard recipe.training.lengthWarmup.method != .none else {
                throw BadInput("training.length_warmup is none, and then there is nothing to compare; remove the flag")
            }
            return try experimentRecipe(Self.model, flags: flags + ["--training.steps", "\(steps(recipe))"])
        }
    }

    /// Steps of a warm-up that take no more inputs than `training.steps` of full length.
    private func steps(_ recipe: Recipe) -> Int {
        var longer = recipe
        longer.training.steps += recipe.training.lengthWarmup.steps
        let schedule = StepSchedule(longer, worldSize: 1), most = recipe.training.steps * recipe.training.sequenceLength
        return (recipe.training.steps...longer.training.steps).last { schedule.inputsOfARow($0) <= most }
            ?? recipe.training.steps
    }

    /// Trains what is not finished yet, seed after seed, and returns all results. `announce` hears which run begins.
    /// Returns nil where Ctrl-C ended it.
    public func run(announce: (String) -> Void) throws -> [WarmupResult]? {
        let runs = try seeds.flatMap { seed in
            try Arm.allCases.map { arm in (arm: arm, seed: seed, resolved: try recipe(arm, seed: seed)) }
        }
        try requireRuns(runs.map(\.resolved), in: folder, overrides)
        var results: [WarmupResult] = []
        for run in runs {
            let log = try finishedLog(run.resolved) {
                announce("run \(results.count + 1) of \(runs.count): \(run.arm.title), seed \(run.seed)")
            }
            guard let log else { return nil }
            results.append(WarmupResult(arm: run.arm, seed: run.seed, log: log))
        }
        return results
    }
}
