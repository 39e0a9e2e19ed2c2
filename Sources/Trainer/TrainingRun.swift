import Base
import Checkpoint
import Corpus
import Model
import Recipe
import Telemetry
import Tensor

/// A run from a recipe to its last checkpoint.
///
/// Everything that may be wrong with the input is found before the first file is touched: data, output folder,
/// checkpoint. Then memory is taken, and from there on the loop is: step, report, sometimes validate, sometimes
/// save.
public final class TrainingRun {
    private let resolved: ResolvedRecipe
    private var recipe: Recipe { resolved.recipe }

    private let commandLine: [String]
    private let stopAfter: Int?
    private let output: Int32

    /// commandLine: what followed `train`, for the summary's advice. stopAfter: end after this step as Ctrl-C
    /// would, with a checkpoint; the schedule still reckons with `training.steps`. output: the file descriptor
    /// that progress is written to.
    public init(_ resolved: ResolvedRecipe, commandLine: [String] = [], stopAfter: Int? = nil, output: Int32 = 1) {
        self.resolved = resolved
        self.commandLine = commandLine
        self.stopAfter = stopAfter
        self.output = output
    }

    private var folder: String { "\(recipe.job.dumpFolder)/\(recipe.job.name)" }
    private var checkpoints: CheckpointFolder { CheckpointFolder("\(folder)/checkpoint") }

    public func run() throws {
        let memory = try PlannedMemory(recipe)
        try memory.requireRoom()
        let corpus = try openCorpus(recipe)
        let start = try findStart()
        let threads = recipe.training.threads == 0 ? Machine.cores() : recipe.training.threads
        let pool = Pool(threads: threads, spin: threads <= Machine.cores())
        defer { pool.close() }
        // Before the arenas, so that the measurement's own memory adds nothing to the run's.
        let peak = try Machine.gemmPeak(pool: pool)
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
        let first = start?.step ?? 0
        try prepareFolder(resumingAfter: start.map(\.step))
        var reporter = try Reporter(
            Reporter.Setting(resolved: resolved, commandLine: commandLine, folder: folder, output: output, peak: peak,
                             threads: threads, firstStep: first,
                             plannedBytes: memory.plan.peakBytes),
            corpus: corpus, table: runner.state.table, rowsPerStep: runner.rowsPerStep)
        try loop(runner, snapshot, &reporter, corpus, from: first, tokens: start?.manifest.tokens ?? 0)
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

    /// Makes the run's folder and leaves the resolved recipe in it. A run that goes back to an earlier step moves
    /// later checkpoints aside, so that `latest` means this run.
    private func prepareFolder(resumingAfter step: Int?) throws {
        let disk = RealDisk()
        var path = ""
        for part in folder.split(separator: "/", omittingEmptySubsequences: false) {
            path += path.isEmpty && part.isEmpty ? "/" : (path.isEmpty || path == "/" ? "" : "/") + part
            if try !path.isEmpty && disk.kind(path) == nil { try disk.createFolder(path) }
        }
        if let step, recipe.checkpoint.load == "latest" {
            for moved in try checkpoints.setAside(after: step) { Reporter.warn("\(moved): a later step was set aside") }
        }
        try replace("\(folder)/config.toml", with: recipe.toml, disk)
    }

    /// A new file under a name that may be taken: written beside it, then renamed over it.
    private func replace(_ path: String, with text: String, _ disk: RealDisk) throws {
        let bytes = Array(text.utf8)
        let temporary = path + ".tmp"
        if try disk.kind(temporary) != nil { try disk.remove(temporary) }
        let file = try disk.create(temporary, size: bytes.count)
        defer { disk.close(file) }
        try unsafe bytes.withUnsafeBytes { unsafe try disk.write($0, to: file, at: 0) }
        try disk.sync(file)
        try disk.rename(temporary, to: path)
    }

    private func loop(_ runner: StepRunner, _ snapshot: Snapshot, _ reporter: inout Reporter, _ corpus: Corpus,
                      from first: Int, tokens before: Int) throws {
        Interrupt.install()
        let writer = CheckpointWriter(folder: checkpoints.path)
        var tokens = before
        for step in first..<recipe.training.steps {
            let started = MonotonicClock.seconds()
            let result = runner.run(step: step)
            tokens += result.tokens
            let done = step + 1
            let isLast = done == recipe.training.steps || done == stopAfter || Interrupt.isRequested
            // An interrupted run saves and ends; whoever pressed Ctrl-C does not want to wait for a validation.
            let validates = !Interrupt.isRequested && corpus.validationRowCount > 0
                && (isLast || due(recipe.validation.interval, done))
            reporter.step(done, result, tokens: tokens, seconds: MonotonicClock.seconds() - started,
                          validation: validates ? validate(runner, corpus, step: done) : nil)
            if recipe.checkpoint.enable, isLast || due(recipe.checkpoint.interval, done) {
                try save(snapshot, step: done, tokens: tokens, with: writer, &reporter)
            }
            if isLast { break }
        }
        reporter.finish()
    }

    private func due(_ interval: Int, _ step: Int) -> Bool { interval > 0 && step % interval == 0 }

    private func save(_ snapshot: Snapshot, step: Int, tokens: Int, with writer: CheckpointWriter,
                      _ reporter: inout Reporter) throws {
        let started = MonotonicClock.seconds()
        let path = try snapshot.save(step: step, tokens: tokens, with: writer)
        for warning in try checkpoints.retain(last: recipe.checkpoint.keepLatest) { Reporter.warn(warning) }
        reporter.saved(path, seconds: MonotonicClock.seconds() - started)
    }

    /// Held-out loss in nats a token, and in bits a byte of text: the second can be compared between tokenizers.
    private func validate(_ runner: StepRunner, _ corpus: Corpus, step: Int) -> ValidationReport {
        let all = corpus.validationRowCount
        let rows = recipe.validation.rows == 0 ? all : min(all, recipe.validation.rows)
        let (nats, targets) = runner.validate(rows: rows)
        let bytes = Double(corpus.validationByteCount) * Double(targets) / Double(corpus.validationTokenCount)
        return ValidationReport(step: step, loss: nats / Double(max(targets, 1)), bitsPerByte: nats / ln2 / bytes)
    }
}

let ln2 = 0.693_147_180_559_945_3
