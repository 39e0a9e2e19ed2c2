import Base
import Checkpoint
import Corpus
import Model
import Recipe
import Tensor

/// A run from a recipe to its last checkpoint.
///
/// Everything that may be wrong with the input is found before the first file is touched: data, output folder,
/// checkpoint. Then memory is taken, and from there on the loop is: step, report, sometimes validate, sometimes
/// save.
public final class TrainingRun {
    private let resolved: ResolvedRecipe
    private var recipe: Recipe { resolved.recipe }

    private let stopAfter: Int?

    /// `stopAfter`: end after this step as Ctrl-C would, with a checkpoint; the schedule still reckons with
    /// `training.steps`.
    public init(_ resolved: ResolvedRecipe, stopAfter: Int? = nil) {
        self.resolved = resolved
        self.stopAfter = stopAfter
    }

    private var folder: String { "\(recipe.job.dumpFolder)/\(recipe.job.name)" }
    private var checkpoints: CheckpointFolder { CheckpointFolder("\(folder)/checkpoint") }

    public func run() throws {
        let corpus = try openCorpus(recipe)
        let start = try findStart()
        let threads = recipe.training.threads == 0 ? Machine.cores() : recipe.training.threads
        let pool = Pool(threads: threads, spin: threads <= Machine.cores())
        defer { pool.close() }
        let runner = try StepRunner(recipe: recipe, corpus: corpus, pool: pool)
        let snapshot = Snapshot(state: runner.state, corpus: corpus, recipe: recipe, rowsPerStep: runner.rowsPerStep)
        if let start {
            try snapshot.require(start)
            try snapshot.load(start)
            if start.step >= recipe.training.steps {
                throw BadInput("\(start.path) is at step \(start.step) already; raise training.steps "
                    + "(now \(recipe.training.steps)) to go on")
            }
        } else {
            runner.state.weights.initialize(seed: recipe.debug.seed)
        }
        let peak = try Machine.gemmPeak(pool: pool)
        let first = start?.step ?? 0
        let reporter = try Reporter(resolved, folder: folder, corpus: corpus, runner: runner, peak: peak, first: first)
        try loop(runner, snapshot, reporter, corpus, from: first, tokens: start?.manifest.tokens ?? 0)
    }

    /// The checkpoint to begin with, if any. Refuses an existing output folder, unless this run goes on in it.
    private func findStart() throws -> Checkpoint? {
        let load = recipe.checkpoint.load
        if load == "latest" {
            let (checkpoint, warnings) = try checkpoints.latest()
            for warning in warnings { Reporter.warn(warning) }
            return checkpoint
        }
        if try RealDisk().kind(folder) != nil {
            throw BadInput("\(folder) exists; go on with it by --checkpoint.load latest, or begin another run with "
                + "--job.name NAME")
        }
        guard !load.isEmpty else { return nil }
        let (checkpoint, warnings) = try Checkpoint.locate(load)
        for warning in warnings { Reporter.warn(warning) }
        return checkpoint
    }

    private func loop(_ runner: StepRunner, _ snapshot: Snapshot, _ reporter: Reporter, _ corpus: Corpus,
                      from first: Int, tokens before: Int) throws {
        Interrupt.install()
        let writer = CheckpointWriter(folder: checkpoints.path)
        var tokens = before
        var saved: String?
        var validated: Validation?
        for step in first..<recipe.training.steps {
            let started = MonotonicClock.seconds()
            let result = runner.run(step: step)
            tokens += result.tokens
            let done = step + 1
            let isLast = done == recipe.training.steps || done == stopAfter || Interrupt.isRequested
            reporter.step(done, result, tokens: tokens, seconds: MonotonicClock.seconds() - started)
            if !result.updated {
                reporter.message("step \(done): loss or gradient is not finite; the weights were left as they were")
            }
            validated = nil
            if isLast || due(recipe.validation.interval, done), corpus.validationRowCount > 0 {
                validated = validate(runner, corpus)
                reporter.validation(done, validated)
            }
            if recipe.checkpoint.enable, isLast || due(recipe.checkpoint.interval, done) {
                saved = try save(snapshot, step: done, tokens: tokens, with: writer, reporter)
            }
            if isLast { break }
        }
        reporter.finish(interrupted: Interrupt.isRequested, checkpoint: saved, validation: validated)
    }

    private func due(_ interval: Int, _ step: Int) -> Bool { interval > 0 && step % interval == 0 }

    private func save(_ snapshot: Snapshot, step: Int, tokens: Int, with writer: CheckpointWriter,
                      _ reporter: Reporter) throws -> String {
        let started = MonotonicClock.seconds()
        let path = try snapshot.save(step: step, tokens: tokens, with: writer)
        for warning in try checkpoints.retain(last: recipe.checkpoint.keepLatest) { reporter.message(warning) }
        reporter.message("saved \(path) in \(Units.duration(MonotonicClock.seconds() - started))")
        return path
    }

    /// Held-out loss in nats a token, and in bits a byte of text: the second can be compared between tokenizers.
    struct Validation {
        let loss: Double
        let bitsPerByte: Double
    }

    private func validate(_ runner: StepRunner, _ corpus: Corpus) -> Validation {
        let all = corpus.validationRowCount
        let rows = recipe.validation.rows == 0 ? all : min(all, recipe.validation.rows)
        let (nats, targets) = runner.validate(rows: rows)
        let bytes = Double(corpus.validationByteCount) * Double(targets) / Double(corpus.validationTokenCount)
        return Validation(loss: nats / Double(max(targets, 1)), bitsPerByte: nats / 0.693_147_180_559_945_3 / bytes)
    }
}
