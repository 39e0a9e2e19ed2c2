import Base
import Recipe
import Telemetry
import Trainer

/// What each part of the system is worth: the whole recipe, the whole without one part, and the plain trainer without
/// any, on the same model, texts, tokens and ranks. A run of its own each, in `folder`/ARM-seedN.
public struct EverythingExperiment {
    public var sources: [String]
    public var folder: String
    public var ranks = 4
    /// Tokens that each run trains on, rounded down to whole steps.
    public var tokens = 1_000_000
    public var arms = Arm.allCases
    public var seeds = [0]
    /// Further keys of the recipe, for all arms: `--section.key`, value, ...
    public var overrides: [String] = []

    public init(sources: [String], folder: String) {
        self.sources = sources
        self.folder = folder
    }

    /// A part of the system, and the keys that say it and its absence.
    public enum Part: String, CaseIterable, Sendable {
        case precision, moments, sharding, sequence, decomposition, curriculum, warmup

        var title: String {
            switch self {
            case .precision: "FP8 with Smooth-SwiGLU"
            case .moments: "moments in FP8"
            case .sharding: "ZeRO stage 2"
            case .sequence: "planned sequence parallelism"
            case .decomposition: "decomposition into buckets"
            case .curriculum: "grow-P2 curriculum"
            case .warmup: "length warm-up"
            }
        }

        fileprivate var present: [String] {
            switch self {
            case .precision: ["--precision.recipe", "fp8-paper"]
            case .moments: ["--optimizer.moments", "fp8"]
            case .sharding: ["--parallelism.zero", "2"]
            case .sequence: ["--parallelism.context_parallel_degree", "auto"]
            case .decomposition: ["--data.layout", "decompose", "--data.decomposition", "quota"]
            case .curriculum: ["--data.curriculum", "grow_p2"]
            case .warmup: ["--training.length_warmup", "window", "--training.length_warmup_start", "64"]
            }
        }

        fileprivate var absent: [String] {
            switch self {
            case .precision: ["--precision.recipe", "fp32"]
            case .moments: ["--optimizer.moments", "fp32"]
            case .sharding: ["--parallelism.zero", "0"]
            case .sequence: ["--parallelism.context_parallel_degree", "1"]
            case .decomposition: ["--data.layout", "concatenate"]
            case .curriculum: ["--data.curriculum", "uniform"]
            case .warmup: ["--training.length_warmup", "none"]
            }
        }
    }

    public enum Arm: Hashable, CaseIterable, Sendable {
        case all, without(Part), none

        public static var allCases: [Arm] { [.all] + Part.allCases.map { .without($0) } + [.none] }

        public var name: String {
            switch self {
            case .all: "all"
            case .without(let part): "no-\(part.rawValue)"
            case .none: "none"
            }
        }

        public var title: String {
            switch self {
            case .all: "everything"
            case .without(let part): "without \(part.title)"
            case .none: "nothing of it: fp32, whole states, concatenated rows"
            }
        }

        /// Buckets are what a curriculum chooses among, so it goes with them.
        func has(_ part: Part) -> Bool {
            switch self {
            case .all: true
            case .without(let other): other != part && !(other == .decomposition && part == .curriculum)
            case .none: false
            }
        }
    }

    /// A byte model of 0.9 M parameters, rows of up to 2,048 tokens, 8,192 tokens a step. A rank computes with 512
    /// tokens at once where sequences are shared, so the longest rows take four ranks and the next two.
    private static let model = """
        [model]
        dim = 128
        n_layers = 4
        n_heads = 4
        ffn_dim = 352
        [data]
        min_length = 128
        [training]
        seq_len = 2048
        local_batch_size = 1
        global_batch_size = 4
        threads = 1
        [optimizer]
        lr = 0.003
        [validation]
        layout = "best_fit"
        document_mask = "on"
        rows = 16
        full_at_end = true
        [checkpoint]
        keep_latest_k = 1
        [comm]
        transport = "tcp"

        """

    public func recipe(_ arm: Arm, seed: Int) throws(BadInput) -> ResolvedRecipe {
        var flags = ["--data.paths", sources.joined(separator: ",")]
        for part in Part.allCases { flags += arm.has(part) ? part.present : part.absent }
        if arm.has(.sequence) { flags += ["--training.max_tokens_per_task", "512"] }
        flags += overrides + ["--job.dump_folder", folder, "--job.name", "\(arm.name)-seed\(seed)",
                              "--debug.seed", "\(seed)"]
        let base = try experimentRecipe(Self.model, flags: flags).recipe
        let perStep = base.rowsPerStep(worldSize: ranks) * base.training.sequenceLength
        let steps = max(1, tokens / perStep)
        if arm.has(.warmup) { flags += ["--training.length_warmup_steps", "\(max(1, steps / 2))"] }
        return try experimentRecipe(Self.model, flags: flags + [
            "--training.steps", "\(steps)", "--lr_scheduler.warmup_steps", "\(steps / 10)",
            "--validation.interval", "\(max(1, steps / 8))", "--checkpoint.interval", "\(max(1, steps / 8))",
        ])
    }

    /// Trains what is not finished yet, seed after seed, and returns all results. `train` runs a recipe, written to the
    /// file it is given, on `ranks` ranks and returns false where it was stopped; `announce` hears which run begins.
    /// Returns nil where it was.
    public func run(train: (_ config: String, ResolvedRecipe) throws -> Bool,
                    announce: (String) -> Void) throws -> [EverythingResult]? {
        let runs = try seeds.flatMap { seed in
            try arms.map { (arm: $0, seed: seed, resolved: try recipe($0, seed: seed)) }
        }
        try requireRuns(runs.map(\.resolved), in: folder, overrides)
        var results: [EverythingResult] = []
        for run in runs {
            let recipe = run.resolved.recipe, path = "\(recipe.job.dumpFolder)/\(recipe.job.name)"
            var log = try MetricsLog.read("\(path)/metrics.jsonl")
            if log.count < recipe.training.steps {
                announce("run \(results.count + 1) of \(runs.count): \(run.arm.title), seed \(run.seed)")
                guard try train(path, run.resolved) else { return nil }
                log = try MetricsLog.read("\(path)/metrics.jsonl")
            }
            guard log.count >= recipe.training.steps else { return nil }
            results.append(try EverythingResult(arm: run.arm, seed: run.seed, ranks: ranks, log: log, run: path,
                                                sources: sources))
        }
        return results
    }
}
