import Base
import Checkpoint
import Collectives
import Corpus
import Model
import Recipe
import Storage
import Telemetry
import Tensor

/// A run from a recipe to its last checkpoint.
///
/// Everything that may be wrong with the input is found before the first file is touched: data, output folder,
/// checkpoint. Then memory is taken, and from there on the loop is: step, report, sometimes validate, sometimes
/// save.
///
/// Where `launch.elastic` says so, a rank's failure is no end: those that are left begin another life of the job in the
/// same processes (TrainingRun+Elastic.swift).
public final class TrainingRun {
    private(set) var resolved: ResolvedRecipe
    var recipe: Recipe { resolved.recipe }

    private let commandLine: [String]
    /// This process's place in the life that is lived.
    var ranks: RankSetting?
    let stopAfter: Int?
    private let beginsWhereNothingIsSaved: Bool
    private let output: Int32

    /// commandLine: what followed `train`, for the summary's advice. ranks: this process's place in a job of
    /// several; without it, it is alone. stopAfter: end after this step as Ctrl-C would, with a checkpoint; the
    /// schedule still reckons with `training.steps`. beginsWhereNothingIsSaved: `checkpoint.load = latest` begins anew
    /// where there is no checkpoint, instead of refusing. output: the file descriptor that rank 0's progress goes to.
    public init(_ resolved: ResolvedRecipe, commandLine: [String] = [], ranks: RankSetting? = nil,
                stopAfter: Int? = nil, beginsWhereNothingIsSaved: Bool = false, output: Int32 = 1) {
        self.resolved = resolved
        folder = RunFolder(resolved)
        self.commandLine = commandLine
        self.ranks = ranks
        self.stopAfter = stopAfter
        self.beginsWhereNothingIsSaved = beginsWhereNothingIsSaved
        self.output = output
    }

    /// Rank 0 reads and writes the run's folder, and speaks.
    var isFirst: Bool { (ranks?.rank ?? 0) == 0 }
    let folder: RunFolder
    /// The plans of planned steps, a line each; rank 0's.
    private var plans: MetricsLog?
    var reporter: Reporter?
    /// What the last step came to, for whoever has to keep the log in another's place.
    var last: (step: Int, result: StepResult, tokens: Int, lossRatio: Double?, seconds: Double)?
    /// Counts the lives of the job.
    var epoch: UInt32 = 0
    /// Where ranks go on after a fault: copies of the training state, those of this life and those that are left of
    /// the lives before.
    var kept: KeptState?
    var carried: [KeptState] = []
    /// The last step that this rank has come to the end of, counted from 1, and when the last fault ended a life.
    var reached = 0
    var faultAt = 0.0

    public func run() throws {
        try resolved.requireRows(worldSize: ranks?.worldSize ?? 1)
        try recipe.requireElastic(worldSize: ranks?.worldSize ?? 1)
        let memory = try PlannedMemory(recipe, ranks: ranks?.worldSize ?? 1, localRanks: ranks?.localWorldSize ?? 1)
        if !recipe.isSearched { try memory.requireRoom() }
        if isFirst { try folder.requirePlace() }
        let cores = max(1, Machine.cores() / (ranks?.localWorldSize ?? 1))
        let threads = recipe.training.threads == 0 ? cores : recipe.training.threads
        let corpus = try openCorpus(recipe, threads: min(threads, cores))
        if isFirst { for note in corpus.notes { Reporter.warn(note) } }
        let pool = Pool(threads: threads, spin: threads <= cores)
        defer { pool.close() }
        // Before the arenas, so that the measurement's own memory adds nothing to the run's.
        let peak = try Machine.gemmPeak(pool: pool, recipe: recipe)
        guard try awaitPlace(corpus) else { return }
        func join() throws -> World {
            try ranks.map { setting in
                try World(joining: setting, recipe: recipe, dataFingerprint: String(corpus.fingerprint, radix: 16),
                          threads: threads, epoch: epoch, greets: false)
            } ?? World()
        }
        var world = try join()
        do {
            while let fault = try live(world, corpus, pool, peak: peak, memory) {
                try goOn(world, after: fault, corpus)
                world = try join()
            }
        } catch {
            // A fault of the network is known to all; any other is this rank's own, and the others must hear of it.
            if !(error is CollectiveFault) { world.abort("\(error)", during: "training") }
            if let record = world.flightRecord(because: error), let path = folder.leave(record, of: world.rank) {
                printError("skein: what rank \(world.rank) was doing is in \(path)")
            }
            throw error
        }
        try closeMeeting(isOver: true)
        do { try world.leave() } catch where recipe.isElastic {
            // Everything is saved by now: whoever fails here has no more to do, and nobody has to go on.
        }
    }

    /// One life of the job, to its end. Returns the fault that ended it before, if it may go on after one.
    private func live(_ world: World, _ corpus: Corpus, _ pool: Pool, peak: Double, _ memory: PlannedMemory) throws
        -> CollectiveFault? {
        do {
            try world.greet()
            guard epoch == 0 else {
                let folder = folder
                _ = try world.onFirst { try folder.takeOver() }
                let runner = try StepRunner(recipe: recipe, corpus: corpus, pool: pool, world: world)
                try train(runner, corpus, nil, isResumed: false, peak: peak, planned: memory.plan.peakBytes)
                return nil
            }
            try begin(world, corpus, pool, peak: peak, memory)
            return nil
        } catch let fault as CollectiveFault where recipe.isElastic {
            return fault
        }
    }

    /// The first life.
    private func begin(_ world: World, _ corpus: Corpus, _ pool: Pool, peak: Double, _ planned: PlannedMemory) throws {
        // Reading every byte of a large checkpoint takes a while: the others must have found rank 0 by then.
        let (folder, silently) = (folder, beginsWhereNothingIsSaved)
        var memory = planned
        let start = try world.onFirst {
            let resumed = try folder.open(silently: silently)
            return try (found: resumed ?? folder.weights(), isResumed: resumed != nil)
        }
        defer { folder.leave() }
        if recipe.isSearched {
            resolved = try world.settings(resolved, memory, start: start?.isResumed == true ? start?.found : nil,
                                          peak: peak)
            folder.config = resolved.toml
            memory = try PlannedMemory(recipe, ranks: world.size, localRanks: world.localSize)
            try memory.requireRoom()
        }
        try train(StepRunner(recipe: recipe, corpus: corpus, pool: pool, world: world), corpus, start?.found,
                  isResumed: start?.isResumed ?? false, peak: peak,
                  planned: memory.plan.peakBytes)
    }

    private func train(_ runner: StepRunner, _ corpus: Corpus, _ found: Checkpoint?, isResumed: Bool,
                       peak: Double, planned: Int) throws {
        let world = runner.world
        var snapshot = Snapshot(step: runner.sharded, quantisation: runner.model.quantisation, corpus: corpus,
                                recipe: recipe, schedule: runner.schedule, worldSize: world.size)
        let start = isResumed ? found : nil
        let moment = epoch == 0 ? try begin(runner, snapshot, found, isResumed: isResumed)
            : try recover(runner, snapshot)
        runner.position = moment.position
        // A run that goes on is spared, or it would come to the same end again.
        if let fault = recipe.rehearsedFault, fault.rank == world.rank, moment.position.step == 0, epoch == 0 {
            runner.fault = FaultPoint(fault)
            snapshot.fault = runner.fault
        }
        let trace = recipe.profiling.trace && epoch == 0
            ? StepTrace(recipe.profiling, runFrom: Int(moment.position.step), peak: peak) : nil
        let peak = try world.sum(peak)
        if isFirst, reporter != nil {
            try reporter?.goesOn(after: Int(moment.position.step), ranks: world.size)
        } else if isFirst {
            if epoch == 0 { try folder.prepare(resumingAfter: start.map(\.step)) }
            if let start { try sayRates(start, runner.schedule) }
            reporter = try Reporter(
                Reporter.Setting(resolved: resolved, commandLine: commandLine, folder: folder.path, output: output,
                                 peak: peak, threads: runner.pool.threads, ranks: world.size,
                                 firstStep: Int(moment.position.step),
                                 plannedBytes: planned, stateBytes: runner.state.heldBytes,
                                 plannedSent: runner.plannedBytes, shards: runner.state.plan.counts.text),
                corpus: corpus, table: runner.state.table, schedule: runner.schedule)
        }
        if epoch > 0, isFirst { reportAgain(Int(moment.position.step)) }
        if isFirst, runner.planner != nil {
            plans = try MetricsLog("\(folder.path)/plans.jsonl", resumingAfter: Int(moment.position.step))
        }
        try world.barrier()
        if world.size > 1, !isFirst, recipe.checkpoint.enable, recipe.checkpoint.shared {
            try folder.requireVisible(to: world.rank)
        }
        var good = LastGood(limit: recipe.training.maxNonfiniteSteps)
        if let start { good.saved(step: start.step, path: start.path) }
        try keepCopies(runner, moment)
        try closeMeeting(isOver: false)
        try loop(runner, snapshot, &reporter, corpus, trace, &good, from: moment)
    }

    /// The schedule is a function of the recipe, so another end of the run, say, moves all rates before it. Whoever
    /// goes on with other rates than the checkpoint's recipe would have given hears of it before the first step.
    private func sayRates(_ start: Checkpoint, _ schedule: StepSchedule) throws {
        let before = try ResolvedRecipe.load(text: start.recipe(), name: "\(start.path)/config.toml").recipe
        let old = StepSchedule(before, worldSize: start.manifest.worldSize).learningRate(at: max(start.step - 1, 0))
        let new = schedule.learningRate(at: start.step)
        guard new > old * 1.1 || new < old * 0.9, start.step >= recipe.schedule.warmupSteps else { return }
        Reporter.warn("the learning rate goes from \(scientific(old)) at step \(Units.grouped(start.step)), by "
            + "\(start.path)'s recipe, to \(scientific(new)) at the next; if that is not meant, keep the schedule "
            + "(training.steps, optimizer.lr, lr_scheduler), or go on at one rate by --lr_scheduler.decay_type none "
            + "--optimizer.lr \(scientific(old))")
    }

    /// Fresh weights, those of another run (`checkpoint.load_weights`), or all of a checkpoint. Returns where the run
    /// is then.
    func begin(_ runner: StepRunner, _ snapshot: Snapshot, _ found: Checkpoint?, isResumed: Bool) throws -> Moment {
        var moment = Moment(position: runner.position)
        if let found, isResumed {
            moment = try snapshot.require(found)
            if found.step >= recipe.training.steps {
                throw BadInput("\(found.path) is at step \(found.step) already; raise training.steps "
                    + "(now \(recipe.training.steps)) to go on")
            }
        } else if let found {
            try snapshot.requireWeights(found)
        }
        let texts = (table: moment.table, cost: moment.cost)
        moment = try Moment(bytes: runner.world.gather(moment.bytes)[0])
        (moment.table, moment.cost) = texts
        try snapshot.fill(from: found, isResumed: moment.position.step > 0, by: runner.world)
        return try settle(runner, moment)
    }

    /// What else a runner takes from the moment at which it goes on.
    func settle(_ runner: StepRunner, _ found: Moment) throws -> Moment {
        var moment = found
        // A table that is named now is meant; else the run goes on with the one that it began with.
        if runner.world.size > 1, recipe.communication.table.isEmpty { try runner.world.useTable(moment.table) }
        moment.table = runner.world.table
        runner.updates = moment.updates
        if let note = try runner.settleCost(kept: moment.cost), isFirst { printError("skein: \(note)") }
        moment.cost = ""
        return moment
    }

    private func loop(_ runner: StepRunner, _ snapshot: Snapshot, _ reporter: inout Reporter?, _ corpus: Corpus,
                      _ trace: StepTrace?, _ good: inout LastGood, from begin: Moment) throws {
        Interrupt.install()
        var moment = begin
        var trace = trace
        var saves = BackgroundSaves(snapshot, folder.writer, shared: recipe.checkpoint.shared, by: runner.world)
        if epoch > 0, let isLast = try owesCheckpoint(Int(begin.position.step), runner.world) {
            try save(runner, snapshot, &saves, moment, &reporter, &good, isLast: isLast)
        }
        for step in Int(begin.position.step)..<recipe.training.steps {
            try trace?.begin(step, runner)
            let started = MonotonicClock.seconds()
            let result = try runner.run(step: step, stop: Interrupt.isRequested)
            let lossRatio = moment.add(result, position: runner.position)
            let done = step + 1
            try kept?.keep(runner, moment)
            reached = done
            last = (done, result, moment.tokens, lossRatio, MonotonicClock.seconds() - started)
            if let plan = runner.plan { plans?.append(step: done, json: plan.record.json) }
            let seconds = MonotonicClock.seconds() - started
            let isLast = done == recipe.training.steps || done == stopAfter || result.stops
            // An interrupted run saves and ends; whoever pressed Ctrl-C does not want to wait for a validation.
            let validates = !result.stops && corpus.validationRowCount > 0
                && (isLast || due(recipe.validation.interval, done))
            let validation = validates
                ? try runner.phase("validate") { try validate(runner, corpus, step: done, isLast: isLast) } : nil
            reporter?.step(done, result, tokens: moment.tokens, lossRatio: lossRatio, seconds: seconds,
                           validation: validation)
            if good.add(step: done, updated: result.updated) { try retire() }
            if good.isLost { try giveUp(good, &reporter, runner) }
            if let finished = try saves.finish(waiting: isLast) { try say(finished, &reporter, &good) }
            // Weights that a step could do nothing with are not worth a place beside those before, but at the end.
            if recipe.checkpoint.enable, isLast || good.skipped == 0 && due(recipe.checkpoint.interval, done) {
                try runner.phase("checkpoint") {
                    try save(runner, snapshot, &saves, moment, &reporter, &good, isLast: isLast)
                }
                if isLast, good.skipped == 0 { try retire() }
            }
            if let traced = try trace?.end(step, isLast: isLast, runner) {
                let path = try folder.write(traced)
                reporter?.traced(traced, path)
            }
            if isLast { break }
        }
        // Nobody leaves while a neighbour still waits for a copy.
        try kept?.settle()
        kept?.outlive()
        reporter?.finish()
        if let problem = plans?.problem { Reporter.warn(problem) }
    }

    /// Ends a run that loss or gradient have left for good. Later checkpoints than the last good one, whose weights
    /// led here, are set aside: neither `latest` nor whoever uses the model should take them.
    private func giveUp(_ good: LastGood, _ reporter: inout Reporter?, _ runner: StepRunner) throws {
        let tensor = try runner.notFinite()
        if isFirst, let confirmed = good.confirmed {
            try folder.setAside(after: confirmed.step)
            reporter?.goesBack(to: confirmed.path)
        }
        reporter?.finish()
        throw good.fault(folder.path, tensor: tensor)
    }

    /// Removes checkpoints beyond those that are kept. Called once the newest has shown that training can go on from
    /// it, or at the end.
    private func retire() throws {
        guard isFirst, recipe.checkpoint.enable else { return }
        for warning in try folder.checkpoints.retain(last: recipe.checkpoint.keepLatest) { Reporter.warn(warning) }
    }

    func due(_ interval: Int, _ step: Int) -> Bool { interval > 0 && step % interval == 0 }

    private func save(_ runner: StepRunner, _ snapshot: Snapshot, _ saves: inout BackgroundSaves, _ moment: Moment,
                      _ reporter: inout Reporter?, _ good: inout LastGood, isLast: Bool) throws {
        try runner.requireEqualState(step: Int(moment.position.step))
        var moment = moment
        moment.cost = runner.keptCost
        let started = MonotonicClock.seconds(), step = Int(moment.position.step)
        // A checkpoint that outlives a power cut must not know of steps that the log has lost.
        reporter?.sync()
        plans?.sync()
        if recipe.checkpoint.async, !isLast {
            // The last one has not come to its end: there is one copy.
            if let finished = try saves.finish(waiting: true) { try say(finished, &reporter, &good) }
            guard let failure = try saves.begin(moment) else { return }
            return try say(BackgroundSaves.Finished(step: step, seconds: 0, failure: failure), &reporter, &good)
        }
        let failure = try snapshot.save(moment, with: folder.writer, shared: recipe.checkpoint.shared, by: runner.world)
        // A full disk may have room again by the next save; a run that ends has no next one.
        if isLast, let failure { throw NotSaved(description: failure) }
        try say(BackgroundSaves.Finished(step: step, seconds: MonotonicClock.seconds() - started, failure: failure),
                &reporter, &good)
    }

    private func say(_ save: BackgroundSaves.Finished, _ reporter: inout Reporter?, _ good: inout LastGood) throws {
        for warning in StorageWarnings.take() { Reporter.warn(warning) }
        if let failure = save.failure {
            if isFirst { Reporter.warn("\(failure); training goes on, and saves again after checkpoint.interval") }
            return
        }
        let path = joined(folder.checkpoints.path, "step-\(save.step)")
        good.saved(step: save.step, path: path)
        reporter?.saved(path, seconds: save.seconds)
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

/// The last checkpoint of a run could not be written.
private struct NotSaved: Fault {
    let description: String
    var kind: FaultKind { .running }
}

let ln2 = 0.693_147_180_559_945_3
