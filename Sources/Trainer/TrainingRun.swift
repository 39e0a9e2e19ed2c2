import Base
import Checkpoint
import Collectives
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
    private let ranks: RankSetting?
    private let stopAfter: Int?
    private let beginsWhereNothingIsSaved: Bool
    private let output: Int32

    /// commandLine: what followed `train`, for the summary's advice. ranks: this process's place in a job of
    /// several; without it, it is alone. stopAfter: end after this step as Ctrl-C would, with a checkpoint; the
    /// schedule still reckons with `training.steps`. beginsWhereNothingIsSaved: `checkpoint.load = latest` begins anew
    /// where there is no checkpoint, instead of refusing. output: the file descriptor that rank 0's progress goes to.
    public init(_ resolved: ResolvedRecipe, commandLine: [String] = [], ranks: RankSetting? = nil,
                stopAfter: Int? = nil, beginsWhereNothingIsSaved: Bool = false, output: Int32 = 1) {
        self.resolved = resolved
        self.commandLine = commandLine
        self.ranks = ranks
        self.stopAfter = stopAfter
        self.beginsWhereNothingIsSaved = beginsWhereNothingIsSaved
        self.output = output
    }

    /// Rank 0 reads and writes the run's folder, and speaks.
    private var isFirst: Bool { (ranks?.rank ?? 0) == 0 }
    private var folder: String { "\(recipe.job.dumpFolder)/\(recipe.job.name)" }
    private var checkpoints: CheckpointFolder { CheckpointFolder("\(folder)/checkpoint") }

    public func run() throws {
        try recipe.requireRows(worldSize: ranks?.worldSize ?? 1)
        let memory = try PlannedMemory(recipe, ranks: ranks?.worldSize ?? 1, localRanks: ranks?.localWorldSize ?? 1)
        try memory.requireRoom()
        if isFirst { try requireFolders() }
        let corpus = try openCorpus(recipe)
        let start = isFirst ? try findStart() : nil
        let cores = max(1, Machine.cores() / (ranks?.localWorldSize ?? 1))
        let threads = recipe.training.threads == 0 ? cores : recipe.training.threads
        let pool = Pool(threads: threads, spin: threads <= cores)
        defer { pool.close() }
        // Before the arenas, so that the measurement's own memory adds nothing to the run's.
        let peak = try Machine.gemmPeak(pool: pool)
        let world = try ranks.map { setting in
            try World(joining: setting, recipe: recipe, dataFingerprint: String(corpus.fingerprint, radix: 16),
                      threads: threads)
        } ?? World()
        do {
            try train(StepRunner(recipe: recipe, corpus: corpus, pool: pool, world: world), corpus, start, peak: peak,
                      planned: memory.plan.peakBytes)
        } catch {
            // A fault of the network is known to all; any other is this rank's own, and the others must hear of it.
            if !(error is CollectiveFault) { world.abort("\(error)", during: "training") }
            throw error
        }
        try world.leave()
    }

    private func train(_ runner: StepRunner, _ corpus: Corpus, _ start: Checkpoint?, peak: Double,
                       planned: Int) throws {
        let world = runner.world
        let snapshot = Snapshot(state: runner.state, corpus: corpus, recipe: recipe, schedule: runner.schedule,
                                worldSize: world.size)
        let moment = try begin(runner, snapshot, start)
        runner.position = moment.position
        let trace = recipe.profiling.trace
            ? StepTrace(recipe.profiling, runFrom: Int(moment.position.step), peak: peak) : nil
        let peak = try world.sum(peak)
        var reporter: Reporter?
        if isFirst {
            try prepareFolder(resumingAfter: start.map(\.step))
            reporter = try Reporter(
                Reporter.Setting(resolved: resolved, commandLine: commandLine, folder: folder, output: output,
                                 peak: peak, threads: runner.pool.threads, ranks: world.size,
                                 firstStep: Int(moment.position.step),
                                 plannedBytes: planned),
                corpus: corpus, table: runner.state.table, schedule: runner.schedule)
        }
        try world.barrier()
        try requireSharedFolder(world)
        try loop(runner, snapshot, &reporter, corpus, trace, from: moment)
    }

    /// Leaves a trace in the run's folder, and says in the summary where the time went.
    private func write(_ trace: StepTrace.Result, _ reporter: inout Reporter?) throws {
        let disk = RealDisk()
        if try disk.kind("\(folder)/traces") == nil { try disk.createFolder("\(folder)/traces") }
        let path = "\(folder)/traces/steps-\(trace.steps.lowerBound)-\(trace.steps.upperBound).json"
        try replace(path, with: trace.json, disk)
        reporter?.traced(trace, path)
    }

    /// Ranks that save together must see what rank 0 has just made; better to say so now than at the first save.
    private func requireSharedFolder(_ world: World) throws {
        guard world.size > 1, !isFirst, recipe.checkpoint.enable, recipe.checkpoint.shared else { return }
        if try RealDisk().kind(folder) == nil {
            throw BadInput("\(folder), which rank 0 made, is not on rank \(world.rank)'s disk; let all ranks share "
                + "job.dump_folder, or let rank 0 save everything by --checkpoint.shared false")
        }
    }

    /// Fresh weights, or a checkpoint's: rank 0 draws or reads them and hands them to all, so that the others need not
    /// see its disk. Returns where the run is then.
    private func begin(_ runner: StepRunner, _ snapshot: Snapshot, _ start: Checkpoint?) throws -> Moment {
        var moment = Moment(position: runner.position)
        if let start {
            moment = try snapshot.require(start)
            try snapshot.load(start)
            if start.step >= recipe.training.steps {
                throw BadInput("\(start.path) is at step \(start.step) already; raise training.steps "
                    + "(now \(recipe.training.steps)) to go on")
            }
        }
        moment = try Moment(bytes: runner.world.gather(moment.bytes)[0])
        let state = runner.state
        // Only rank 0 draws: that takes the C library's logarithm, which another version may round otherwise.
        if isFirst, moment.position.step == 0 { state.weights.initialize(seed: recipe.debug.seed) }
        try runner.world.broadcast(state.weights.flat)
        if moment.position.step > 0 {
            for part in [state.momentum, state.variance] { try runner.world.broadcast(part.flat) }
        }
        return moment
    }

    /// The checkpoint to begin with, if any. Refuses an existing output folder, unless this run goes on in it.
    private func findStart() throws -> Checkpoint? {
        let load = recipe.checkpoint.load
        if load == "latest" {
            if beginsWhereNothingIsSaved, try checkpoints.steps().isEmpty { return nil }
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
        for path in foldersOnTheWay where try disk.kind(path) == nil { try disk.createFolder(path) }
        if let step, recipe.checkpoint.load == "latest" {
            for moved in try checkpoints.setAside(after: step) { Reporter.warn("\(moved): a later step was set aside") }
        }
        try replace("\(folder)/config.toml", with: Array(recipe.toml.utf8), disk)
    }

    /// The run's folder and those it lies in, the outermost first.
    private var foldersOnTheWay: [String] {
        folder.indices.filter { folder[$0] == "/" && $0 > folder.startIndex }.map { String(folder[..<$0]) } + [folder]
    }

    /// A file where a folder has to be is said before the data are read.
    private func requireFolders() throws {
        for path in foldersOnTheWay {
            switch try RealDisk().kind(path) {
            case .file, .other: throw BadInput("\(path) is no folder; give another job.dump_folder or job.name")
            case .folder, nil: break
            }
        }
    }

    /// A new file under a name that may be taken: written beside it, then renamed over it.
    private func replace(_ path: String, with bytes: [UInt8], _ disk: RealDisk) throws {
        let temporary = path + ".tmp"
        if try disk.kind(temporary) != nil { try disk.remove(temporary) }
        let file = try disk.create(temporary, size: bytes.count)
        defer { disk.close(file) }
        try unsafe bytes.withUnsafeBytes { unsafe try disk.write($0, to: file, at: 0) }
        try disk.sync(file)
        try disk.rename(temporary, to: path)
    }

    private func loop(_ runner: StepRunner, _ snapshot: Snapshot, _ reporter: inout Reporter?, _ corpus: Corpus,
                      _ trace: StepTrace?, from begin: Moment) throws {
        Interrupt.install()
        var moment = begin
        var trace = trace
        for step in Int(begin.position.step)..<recipe.training.steps {
            try trace?.begin(step, runner)
            let started = MonotonicClock.seconds()
            let result = try runner.run(step: step, stop: Interrupt.isRequested)
            let lossRatio = moment.add(result, position: runner.position)
            let done = step + 1
            let seconds = MonotonicClock.seconds() - started
            let isLast = done == recipe.training.steps || done == stopAfter || result.stops
            // An interrupted run saves and ends; whoever pressed Ctrl-C does not want to wait for a validation.
            let validates = !result.stops && corpus.validationRowCount > 0
                && (isLast || due(recipe.validation.interval, done))
            let validation = validates
                ? try runner.phase("validate") { try validate(runner, corpus, step: done, isLast: isLast) } : nil
            reporter?.step(done, result, tokens: moment.tokens, lossRatio: lossRatio, seconds: seconds,
                           validation: validation)
            if recipe.checkpoint.enable, isLast || due(recipe.checkpoint.interval, done) {
                try runner.phase("checkpoint") { try save(runner, snapshot, moment, &reporter) }
            }
            if let traced = try trace?.end(step, isLast: isLast, runner) { try write(traced, &reporter) }
            if isLast { break }
        }
        reporter?.finish()
    }

    private func due(_ interval: Int, _ step: Int) -> Bool { interval > 0 && step % interval == 0 }

    private func save(_ runner: StepRunner, _ snapshot: Snapshot, _ moment: Moment,
                      _ reporter: inout Reporter?) throws {
        try runner.requireEqualWeights(step: Int(moment.position.step))
        let started = MonotonicClock.seconds()
        let writer = CheckpointWriter(folder: checkpoints.path)
        let path: String?
        if runner.world.size > 1, recipe.checkpoint.shared {
            path = try snapshot.save(moment, with: writer, by: runner.world)
        } else {
            path = isFirst ? try snapshot.save(moment, with: writer) : nil
        }
        guard let path else { return }
        for warning in try checkpoints.retain(last: recipe.checkpoint.keepLatest) { Reporter.warn(warning) }
        reporter?.saved(path, seconds: MonotonicClock.seconds() - started)
    }

    /// Held-out loss in nats a token, and in bits a byte of text: the second can be compared between tokenizers.
    private func validate(_ runner: StepRunner, _ corpus: Corpus, step: Int, isLast: Bool) throws -> ValidationReport {
        let all = corpus.validationRowCount
        let takesAll = recipe.validation.rows == 0 || isLast && recipe.validation.fullAtEnd
        let rows = takesAll ? all : min(all, recipe.validation.rows)
        let (nats, targets) = try runner.validate(rows: rows)
        let bytes = Double(corpus.validationByteCount) * Double(targets) / Double(corpus.validationTokenCount)
        return ValidationReport(step: step, loss: nats / Double(max(targets, 1)), bitsPerByte: nats / ln2 / bytes)
    }
}

let ln2 = 0.693_147_180_559_945_3
