import Base
import Corpus
import Recipe
import Trainer

/// What short and long rows are worth: the same model trained on equally many tokens of the same texts, cut into rows
/// in several ways, and judged on whole held-out documents (2405.13226, 2503.15450).
///
/// Every arm is a run of its own in `folder`, named ARM-seedN, with checkpoints: interrupted, the experiment goes on
/// where it was, and what is finished is only read. Nothing is kept but what `skein train` keeps.
public struct LengthsExperiment {
    public var sources: [String]
    public var folder: String
    /// Inputs that each arm trains on, rounded down to whole steps.
    public var tokens = 4_000_000
    public var seeds = [0]
    public var arms = Arm.allCases
    /// Further keys of the recipe, for all arms: `--section.key`, value, ...
    public var overrides: [String] = []

    public init(sources: [String], folder: String) {
        self.sources = sources
        self.folder = folder
    }

    /// One way to make rows.
    public enum Arm: String, CaseIterable, Sendable {
        case concat
        case concatMask = "concat-mask"
        case bestFit = "best-fit"
        case uniform = "dd-uniform"
        case growP2 = "dd-grow-p2-1"
        case growP2Cycles = "dd-grow-p2-8"
        case window = "dd-window"

        public var title: String {
            switch self {
            case .concat: "concat-and-chunk"
            case .concatMask: "concat, document mask"
            case .bestFit: "best-fit, document mask"
            case .uniform: "decomposition, uniform"
            case .growP2: "decomposition, grow-P2, 1 cycle"
            case .growP2Cycles: "decomposition, grow-P2, 8 cycles"
            case .window: "decomposition, window warm-up"
            }
        }
    }

    /// A byte model of width 128 and 4 layers, rows of up to 8,192 tokens, 16,384 tokens a step.
    private static let model = """
        [model]
        dim = 128
        n_layers = 4
        n_heads = 2
        ffn_dim = 384
        rope_theta = 100000
        [training]
        seq_len = 8192
        local_batch_size = 1
        global_batch_size = 2
        threads = 1
        [optimizer]
        lr = 0.003
        weight_decay = 0.033
        [validation]
        layout = "best_fit"
        document_mask = "on"
        rows = 16
        interval = 20
        full_at_end = true
        [checkpoint]
        interval = 20
        keep_latest_k = 1

        """

    /// The recipe of a run. `epoch`: the training tokens of the sources, from which a curriculum's cycles within the
    /// run become cycles within an epoch.
    public func recipe(_ arm: Arm, seed: Int, epoch: Int) throws(BadInput) -> ResolvedRecipe {
        let base = try experimentRecipe(Self.model, flags: overrides).recipe
        let perStep = base.rowsPerStep(worldSize: 1) * base.training.sequenceLength
        let steps = tokens / perStep
        guard steps > 0 else {
            throw BadInput("--tokens \(tokens) is less than one step of \(perStep) tokens; raise it, or lower "
                + "--training.global_batch_size")
        }
        func cycles(_ count: Int) -> [String] {
            ["--data.cycles", "\(max(1, (count * epoch + tokens / 2) / tokens))"]
        }
        let decompose = ["--data.layout", "decompose", "--data.decomposition", "quota"]
        let own: [String] = switch arm {
        case .concat: ["--data.layout", "concatenate", "--data.document_mask", "false"]
        case .concatMask: ["--data.layout", "concatenate"]
        case .bestFit: ["--data.layout", "best_fit"]
        case .uniform: decompose
        case .growP2: decompose + ["--data.curriculum", "grow_p2"] + cycles(1)
        case .growP2Cycles: decompose + ["--data.curriculum", "grow_p2"] + cycles(8)
        // SkyLadder grows its windows over the first 64 % of the tokens.
        case .window:
            decompose + ["--training.length_warmup", "window", "--training.length_warmup_steps",
                         "\(max(1, steps * 16 / 25))", "--training.length_warmup_start", "32"]
        }
        let run = ["--data.paths", sources.joined(separator: ","), "--training.steps", "\(steps)",
                   "--lr_scheduler.warmup_steps", "\(steps / 12)", "--metrics.log_freq", "20",
                   "--job.dump_folder", folder, "--job.name", "\(arm.rawValue)-seed\(seed)", "--debug.seed", "\(seed)"]
        return try experimentRecipe(Self.model, flags: run + own + overrides)
    }

    /// Trains what is not finished yet, seed after seed, and returns all results. `announce` hears which run begins.
    /// Returns nil where Ctrl-C ended it. Throws `BadInput` before the first run begins where one of them could not.
    public func run(announce: (String) -> Void) throws -> [LengthsResult]? {
        let epoch = try openCorpus(try recipe(.concat, seed: seeds[0], epoch: tokens).recipe).trainTokenCount
        let runs = try seeds.flatMap { seed in
            try arms.map { arm in (arm: arm, seed: seed, resolved: try recipe(arm, seed: seed, epoch: epoch)) }
        }
        try requireRuns(runs.map(\.resolved), in: folder, overrides)
        var results: [LengthsResult] = []
        for run in runs {
            let log = try finishedLog(run.resolved) {
                announce("run \(results.count + 1) of \(runs.count): \(run.arm.title), seed \(run.seed)")
            }
            guard let log else { return nil }
            results.append(LengthsResult(arm: run.arm, seed: run.seed, log: log))
        }
        return results
    }
}
