import Base
import Recipe
import Trainer

/// Optimizers on the same small model, texts and tokens: each at four rates on one seed, then its best rate on three
/// more. A run of its own each, in `folder`/ARM-RATE-seedN.
///
/// It asks what their papers claim: whether LAMB stays stable at eight times AdamW's batch (1904.00962), and how many
/// tokens Muon (2409.20325) and SOAP (2409.11321) take to the loss that AdamW ends with.
public struct OptimizersExperiment {
    public var sources: [String]
    public var folder: String
    /// Tokens that each run trains on.
    public var tokens = 2_000_000
    public var arms = Arm.allCases
    /// Seeds besides the first, 0, on which rates are chosen.
    public var seeds = [1, 2, 3]
    /// Further keys of the recipe, for all arms: `--section.key`, value, ...
    public var overrides: [String] = []

    public init(sources: [String], folder: String) {
        self.sources = sources
        self.folder = folder
    }

    public enum Arm: String, CaseIterable, Sendable {
        case adamw, adamw8, lamb, lamb8, muon, soap

        public var title: String {
            switch self {
            case .adamw: "AdamW"
            case .adamw8: "AdamW, 8 times the batch"
            case .lamb: "LAMB"
            case .lamb8: "LAMB, 8 times the batch"
            case .muon: "Muon"
            case .soap: "SOAP"
            }
        }

        var optimizer: Recipe.OptimizerName {
            switch self {
            case .adamw, .adamw8: .adamw
            case .lamb, .lamb8: .lamb
            case .muon: .muon
            case .soap: .soap
            }
        }

        /// Rows of a step over AdamW's.
        var batch: Int { self == .adamw8 || self == .lamb8 ? 8 : 1 }

        /// A factor of two apart, around what small models take; Muon and SOAP move weights as far as AdamW does.
        var rates: [String] {
            switch self {
            case .adamw, .muon, .soap: ["1e-3", "2e-3", "4e-3", "8e-3"]
            case .adamw8: ["2e-3", "4e-3", "8e-3", "1.6e-2"]
            case .lamb: ["4e-3", "8e-3", "1.6e-2", "3.2e-2"]
            case .lamb8: ["8e-3", "1.6e-2", "3.2e-2", "6.4e-2"]
            }
        }
    }

    private static let rows = 8
    /// Parts of a run after which held-out rows are judged.
    private static let validations = 20

    /// A byte model of 0.9 M parameters; 2,048 tokens a step.
    private static let model = """
        [model]
        dim = 128
        n_layers = 4
        n_heads = 4
        ffn_dim = 352
        [training]
        seq_len = 256
        local_batch_size = \(rows)
        [validation]
        rows = 64
        [metrics]
        log_freq = 20
        [checkpoint]
        interval = 50
        keep_latest_k = 1

        """

    public func recipe(_ arm: Arm, rate: String, seed: Int) throws(BadInput) -> ResolvedRecipe {
        let common = ["--data.paths", sources.joined(separator: ",")] + overrides
            + ["--job.dump_folder", folder, "--job.name", "\(arm.rawValue)-\(rate)-seed\(seed)",
               "--debug.seed", "\(seed)", "--optimizer.name", arm.optimizer.rawValue, "--optimizer.lr", rate,
               "--training.global_batch_size", "\(Self.rows * arm.batch)"]
        let row = try experimentRecipe(Self.model, flags: common).recipe.training.sequenceLength
        let steps = max(1, tokens / (row * Self.rows * arm.batch))
        return try experimentRecipe(Self.model, flags: common + [
            "--training.steps", "\(steps)", "--lr_scheduler.warmup_steps", "\(steps / 10)",
            "--validation.interval", "\(max(1, steps / Self.validations))",
        ])
    }

    /// Trains what is not finished yet, arm after arm, and returns all results. `announce` hears which run begins.
    /// Returns nil where Ctrl-C ended it.
    public func run(announce: (String) -> Void) throws -> [OptimizerResult]? {
        let first = try arms.flatMap { arm in
            try arm.rates.map { (arm: arm, rate: $0, resolved: try recipe(arm, rate: $0, seed: 0)) }
        }
        try requireRuns(first.map(\.resolved), in: folder, overrides)
        let count = first.count + arms.count * seeds.count
        var results: [OptimizerResult] = []
        func add(_ arm: Arm, _ rate: String, _ seed: Int) throws -> Bool {
            let log = try finishedLog(try recipe(arm, rate: rate, seed: seed)) {
                announce("run \(results.count + 1) of \(count): \(arm.title), rate \(rate), seed \(seed)")
            }
            guard let log else { return false }
            results.append(OptimizerResult(arm: arm, rate: rate, seed: seed, log: log))
            return true
        }
        for run in first { guard try add(run.arm, run.rate, 0) else { return nil } }
        for arm in arms {
            let best = bestRate(results, arm)
            for seed in seeds { guard try add(arm, best, seed) else { return nil } }
        }
        return results
    }
}

/// The rate that ended with the fewest bits a byte on the first seed; the lowest where none ended with a number.
func bestRate(_ results: [OptimizerResult], _ arm: OptimizersExperiment.Arm) -> String {
    let finished = results.filter { $0.arm == arm && $0.seed == 0 && $0.finalBits.isFinite }
    return finished.min { $0.finalBits < $1.finalBits }?.rate ?? arm.rates[0]
}
