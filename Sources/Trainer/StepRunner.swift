import Base
import Collectives
import Corpus
import Model
import Parallel
import Planner
import Recipe
import Telemetry
import Tensor

/// What one optimizer step did, over all ranks.
public struct StepResult: Sendable, Equatable {
    /// Mean loss of the step's targets, in nats a token.
    public var loss: Double
    /// Targets that were trained on.
    public var tokens: Int
    /// Inputs in the rows that were read: their bucket.
    public var bucketLength: Int
    /// How much of them attention could look back on, which is less during a length warm-up.
    public var length: Int
    /// How many tokens an input looked back at, in the mean: within its document only, where documents are masked.
    public var context: Double
    public var gradientNorm: Double
    /// Of AdamW's second moment after the update; nil where there was none.
    public var varianceRoots: VarianceRoots?
    /// False when loss or norm was not finite on some rank: then no rank updated anything.
    public var updated: Bool
    /// Ranks that shared a token's sequence, in the mean, and the seconds that the step's plan reckoned with; nil where
    /// no sequence is shared, or nothing is planned.
    public var contextDegree: Double?
    public var plannedSeconds: Double?
    /// Before which no plan could have ended, and what planning took; nil as well where a plan was given.
    public var planBound: Double?
    public var planningSeconds: Double?
    /// Bytes that a rank sends in the mean as the step's plan has it, beyond `StepRunner.plannedBytes`: for sequences
    /// that are shared, and where ranks meet in every round for those not foreseen. Nil where nothing is planned.
    public var plannedPlanBytes: Int?
    /// Some rank was asked to stop.
    public var stops: Bool
    /// Seconds that this rank waited for the network.
    public var waitSeconds: Double
    /// Payload bytes that this rank sent.
    public var sentBytes: Int
    /// The share of this rank's received bytes that came while it computed.
    public var hiddenShare: Double
    /// Bytes of shared sequences that this rank received, and the share of them that came while it computed.
    public var sequenceBytes: Int
    public var hiddenSequenceShare: Double
    /// Gradients that were beyond the largest number that travels, over all ranks; nil where they travel as they are,
    /// or in bf16.
    public var saturatedGradients: Int?
    /// What quantising did to this rank's first micro-batch, in steps that look (`metrics.precision_freq`).
    public var health: PrecisionHealth?
}

/// One training step: rows of the global order, this rank's share of them cut into micro-batches; forward and
/// backward of each, with gradients on the wire while the last backward runs; agreement; then one update. It owns
/// no files and prints nothing, so that `bench step` and tests run exactly what training runs.
public final class StepRunner {
    public let recipe: Recipe
    public var state: TrainingState { sharded.state }
    public let model: Transformer
    public let pool: Pool
    public let world: World
    let corpus: Corpus
    let sharded: ShardedStep
    let sequences: SequenceParallel?
    let batches: [Batch]
    /// Where the step's documents are planned.
    package var planner: StepPlanner?
    /// The plan of the last step, or of the last rows that were validated.
    package private(set) var plan: PlannedStep?
    /// Where plans come from another run.
    private var replay: PlanReplay?
    /// Where plans follow what ranks are worth.
    var tracker: SpeedTracker?
    /// `debug.slow_ranks`.
    package var slowRanks: [Double]
    /// Plans in the planner's place, of documents that begin at these tokens: for benches of other layouts.
    package var layout: ((ArraySlice<Int32>) throws -> PlannedStep)?
    /// Seconds from the begin of the last step's first task to the end of this rank's last one.
    package private(set) var taskSeconds = 0.0
    /// Tokens of the documents of the last plan.
    package var plannedLengths: [Int] { plan?.tasks.flatMap { $0.documents.map(\.count) } ?? [] }
    /// How often ranks have met within this step (`PlannedStep.microBatches`).
    var meetings = 0
    /// Of each micro-batch, where ranks share sequences.
    var parts: [SequencePart] = []
    /// Where each micro-batch's first token lies among the step's.
    private var firstTokens: [Int]
    /// Of each micro-batch.
    private var losses: [Double]
    /// Updates so far: steps whose gradient was not finite are not among them. A resumed run sets it.
    public var updates = 0
    public let schedule: StepSchedule
    /// Where the next step reads. A resumed run sets it to what its checkpoint says.
    public var position: DataPosition
    /// Takes the spans of the steps to come. Nil costs a branch for each span.
    public var trace: Trace? {
        didSet {
            pool.observer = trace
            world.communicator?.observer = trace
        }
    }
    /// This rank's `debug.fault`, where it has one; then there is no trace.
    var fault: FaultPoint? {
        didSet {
            pool.observer = fault
            world.communicator?.observer = fault
        }
    }

    /// Copies of the state at the ends of steps, which must have come before the next one changes it.
    var kept: KeptState?

    /// `path`: whose arithmetic products of quantised operands run on; all give the same bits.
    public init(recipe: Recipe, corpus: Corpus, pool: Pool, world: World = World(), path: DotPath = .best) throws {
        try recipe.requireSettings()
        self.recipe = recipe
        self.corpus = corpus
        self.pool = pool
        self.world = world
        slowRanks = recipe.debug.slowRanks
        let vocabulary = try recipe.vocabulary(ofTokens: corpus.tokenizer.vocabularySize)
        let table = ParameterTable(recipe.model, vocabulary: vocabulary)
        let (rows, sequence) = (recipe.rowsPerTask, recipe.training.sequenceLength)
        schedule = StepSchedule(recipe, worldSize: world.size)
        position = corpus.start
        let rowsPerStep = recipe.rowsPerStep(worldSize: world.size)
        let groups = recipe.groups(worldSize: world.size)
        planner = recipe.plansSequences && world.size > 1 ? StepPlanner(recipe, table, ranks: world.size) : nil
        precondition(planner != nil || rowsPerStep >= groups, "a rank without a row: see requireRows")
        if planner != nil, !recipe.planner.replay.isEmpty {
            replay = try PlanReplay(recipe.planner.replay, by: world)
        }
        sharded = try ShardedStep(table, recipe: recipe, pool: pool, communicator: world.communicator)
        sequences = try SequenceParallel(recipe, pool: pool, communicator: world.communicator)
        model = try Transformer(table, maxTokens: recipe.tokensPerRank, sequence: sequence, pool: pool,
                                recomputation: recipe.activationCheckpoint.mode, matmul: recipe.training.matmul,
                                formats: LinearFormats.of(recipe, path: path), seed: recipe.debug.seed,
                                keepsWeights: recipe.keepsPackedWeights(worldSize: world.size),
                                attention: sequences?.attention)
        model.source = sharded.source
        // What the rank with the largest share needs: of shorter rows this one may have it. They come in tasks of as
        // many tokens, so they never need more tasks than the longest.
        let share = (rowsPerStep + groups - 1) / groups
        batches = planner != nil ? [Batch(rows: rowsPerStep, sequence: sequence)]
            : (0..<((share + rows - 1) / rows)).map { _ in Batch(rows: rows, sequence: sequence) }
        losses = Array(repeating: 0, count: batches.count)
        firstTokens = Array(repeating: 0, count: batches.count)
    }

    /// Runs step number `step` (0 is the first). `stop`: this rank was asked to end; all ranks learn of it in the
    /// same step.
    public func run(step: Int, stop: Bool = false) throws -> StepResult {
        fault?.begin(step: step + 1)
        return try phase("step", number: step + 1) { try perform(step, stop) }
    }

    private func perform(_ step: Int, _ stop: Bool) throws -> StepResult {
        let before = world.statistics
        let task = take(step)
        let (targets, context, count) = try phase("data") {
            let (count, own, context) = try planner == nil ? fill(task) : fillPlanned(task, step)
            try corpus.checkTokens()
            let (targets, all) = try world.sum(Double(own), context)
            return (targets, all / Double(max(task.rows.rows.count * task.rows.sequence, 1)), count)
        }
        if losses.count < count {
            losses += Array(repeating: 0, count: count - losses.count)
            firstTokens += Array(repeating: 0, count: count - firstTokens.count)
        }
        model.quantisation?.begin(step: step)
        let turns = turns(rows: task.rows.rows.count, size: planner == nil ? share(of: task).size : 1, own: count)
        let (busy, health) = try run(turns, targets: targets, step: step)
        try phase("reduce") {
            try sequences?.attention.check()
            try sharded.finish()
        }
        if let kept { try phase("copies") { try kept.settle() } }
        let agreed = try phase("agree") { try agree(own: total(count) { losses[$0] }, stop: stop, step: step) }
        try model.quantisation?.finish { try world.maximum($0) }
        let loss = total(world.size) { sharded.update.loss(of: $0) }
        let updated = loss.isFinite && agreed.norm.isFinite
        let roots = updated ? try phase("update") { try update(agreed) } : nil
        if tracker != nil { try follow(busy: busy) }
        let traffic = world.statistics.flatMap { now in before.map { now.since($0) } }
        let saturated = sharded.gradientMagnitudes == nil ? nil : try world.sum(Double(traffic?.saturated ?? 0))
        return StepResult(loss: loss / max(targets, 1), tokens: Int(targets),
                          bucketLength: task.rows.sequence, length: task.shape.window, context: context,
                          gradientNorm: agreed.norm,
                          varianceRoots: roots, updated: updated,
                          contextDegree: plan?.degree ?? sequences.map { _ in Double(recipe.contextDegree) },
                          plannedSeconds: plan?.seconds, planBound: plan?.record.bound,
                          planningSeconds: plan?.planningSeconds,
                          plannedPlanBytes: plan.map { planBytes($0) }, stops: agreed.stops,
                          waitSeconds: traffic?.waitSeconds ?? 0, sentBytes: traffic?.bytesSent ?? 0,
                          hiddenShare: traffic?.hiddenShare ?? 0, sequenceBytes: traffic?.exchangedBytes ?? 0,
                          hiddenSequenceShare: traffic?.hiddenExchangeShare ?? 1,
                          saturatedGradients: saturated.map { Int($0) }, health: health)
    }

    private func isLookedAt(_ step: Int) -> Bool {
        recipe.metrics.precisionInterval > 0 && (step + 1) % recipe.metrics.precisionInterval == 0
    }

    /// This rank's turns of a step. Returns for how long it computed, and what quantising did if this is a step that
    /// looks.
    private func run(_ turns: StepTurns, targets: Double,
                     step: Int) throws -> (busy: Double, health: PrecisionHealth?) {
        var busy = 0.0, health: PrecisionHealth?
        let begin = MonotonicClock.seconds()
        meetings = 0
        for (number, part) in turns.enumerated() {
            try meet(before: part)
            guard let part else {
                pass(number, of: turns.count)
                continue
            }
            busy += computeSeconds {
                if part == 0, let quantisation = model.quantisation, isLookedAt(step) {
                    (losses[0], health) = quantisation.examine {
                        gradient(0, number, of: turns.count, targets: targets)
                    }
                } else {
                    losses[part] = gradient(part, number, of: turns.count, targets: targets)
                }
            }.busy
            taskSeconds = MonotonicClock.seconds() - begin
        }
        return (busy, health)
    }

    /// Forward and backward of micro-batch `part`, which is turn `index` of `count`. Returns its loss, summed over its
    /// targets.
    private func gradient(_ part: Int, _ index: Int, of count: Int, targets: Double) -> Double {
        withMicroBatch(part) { gradient(index, of: count, targets: targets, $0) }
    }

    /// The same of a part that is in none of the step's micro-batches.
    func gradient(_ index: Int, of count: Int, targets: Double, _ part: SequencePart) -> Double {
        sequences?.begin(part)
        return part.withMicroBatch { gradient(index, of: count, targets: targets, $0) }
    }

    private func gradient(_ index: Int, of count: Int, targets: Double, _ task: MicroBatch) -> Double {
        sharded.beginForward(index, of: count, tokens: .these(task.inputs), uses: model.uses(backward: true))
        phase("forward") { model.forward(task, weights: state.weights) }
        let gradients = phase("clear") { sharded.beginBackward(index, of: count) }
        let loss = phase("backward") {
            model.backward(task, weights: state.weights, gradients: gradients, scale: Float(1 / max(targets, 1)),
                           into: sharded.gradients)
        }
        sharded.endBackward(index, of: count)
        return loss
    }

    /// A micro-batch of no rows, for ranks that have fewer than others.
    func pass(_ index: Int, of count: Int) {
        sharded.beginForward(index, of: count, tokens: .none, uses: model.uses(backward: true))
        _ = sharded.beginBackward(index, of: count)
        model.pass(into: sharded.gradients)
        sharded.endBackward(index, of: count)
    }

    /// What this rank does in a step one after the other: its `own` micro-batches, and between or behind them turns
    /// without one (nil), in which it only takes part in what others' exchange. `rows`, `size`: of the step, and of a
    /// micro-batch, where nothing is planned.
    func turns(rows: Int, size: Int, own: Int) -> StepTurns {
        if let plan {
            let rounds = StepRounds(plan.tasks, rank: world.rank)
            if sharded.exchangesEach { return StepTurns(rounds) }
            return StepTurns(own: own, others: rounds.lastIsFinal && plan.microBatches.isEmpty ? 0 : 1)
        }
        guard sharded.exchangesEach else { return StepTurns(own: own) }
        // As many as the rank with most rows has.
        let groups = recipe.groups(worldSize: world.size), most = ((rows + groups - 1) / groups + size - 1) / size
        return StepTurns(own: own, others: max(0, most - own))
    }

    private func update(_ agreed: ShardUpdate.Agreement) throws -> VarianceRoots? {
        let roots = try sharded.update.update(number: updates + 1, rate: agreed.rate, norm: agreed.norm)
        updates += 1
        sharded.changed()
        return roots
    }

    /// Losses are added up one after the other, or along the tree that the gradients take.
    private func total(_ count: Int, _ loss: (Int) -> Double) -> Double {
        recipe.training.reproducible ? SumTree.sum(count, loss) : (0..<count).reduce(0) { $0 + loss($1) }
    }

    /// `body`, as a span of the trace if there is one. `number`: the step's, counted from 1.
    func phase<Result>(_ name: StaticString, number: Int = 0, _ body: () throws -> Result) rethrows -> Result {
        guard let trace else { return try body() }
        return try trace.span(name, .phase, amount: number, body)
    }

    /// What step number `step` reads. Passing over steps is cheap, so any may be asked for.
    private func take(_ step: Int) -> StepTask {
        if position.step > UInt64(step) { position = corpus.start }
        while position.step < UInt64(step) { _ = schedule.next(&position, of: corpus) }
        return schedule.next(&position, of: corpus)
    }

    /// This rank's micro-batches of a step: how many there are, how many targets they hold, and how many tokens their
    /// inputs look back at.
    private func fill(_ task: StepTask) -> (count: Int, targets: Int, context: Double) {
        let (share, size) = share(of: task)
        var (count, targets, context) = (0, 0, 0.0)
        for start in stride(from: share.lowerBound, to: share.upperBound, by: size) {
            corpus.fill(batches[count], bucket: task.rows.bucket, rows: start..<min(start + size, share.upperBound),
                        limit: task.limit)
            firstTokens[count] = (start - task.rows.rows.lowerBound) * task.rows.sequence
            targets += self.share(batches[count], count)
            // Each group counts once.
            if sequences?.isFirst ?? true { context += batches[count].contextTokens }
            count += 1
        }
        return (count, targets, context)
    }

    /// The same where every rank has a look at all rows, and takes its parts of the planned tasks.
    private func fillPlanned(_ task: StepTask, _ step: Int) throws -> (count: Int, targets: Int, context: Double) {
        let batch = batches[0]
        corpus.fill(batch, bucket: task.rows.bucket, rows: task.rows.rows, limit: task.limit)
        try planTasks(batch, step)
        return (parts.count, parts.reduce(0) { $0 + $1.targetCount }, world.rank == 0 ? batch.contextTokens : 0)
    }

    /// `step`: nil for rows that are validated, of which nobody has plans.
    func planTasks(_ batch: Batch, _ step: Int? = nil) throws {
        guard let planner, let sequences else { preconditionFailure("nothing is planned") }
        let starts = batch.documentStarts[..<batch.documentStartCount]
        let plan: PlannedStep
        if let layout {
            plan = try layout(starts)
        } else if let step, let replay {
            plan = try planner.step(replay.record(of: step), starts: starts, place: replay.place(step))
        } else {
            plan = try planner.plan(starts: starts)
        }
        fault?.reached(.plan)
        // Ranks that went on with different plans would wait for each other until a deadline.
        try world.requireEqual(plan.fingerprint, "the plan of a step's documents")
        self.plan = plan
        parts = sequences.parts(of: plan.tasks, inputs: batch.inputs, targets: batch.targets, sequence: batch.sequence)
    }

    /// Takes this rank's part of a micro-batch. Returns how many targets are in it.
    func share(_ batch: Batch, _ index: Int) -> Int {
        guard let sequences else { return batch.targetCount }
        let part = sequences.part(inputs: batch.inputs, targets: batch.targets,
                                  starts: batch.documentStarts[..<batch.documentStartCount], sequence: batch.sequence)
        if index < parts.count { parts[index] = part } else { parts.append(part) }
        return part.targetCount
    }

    /// Micro-batch `index` as the model takes it.
    func withMicroBatch<Result>(_ index: Int, _ body: (MicroBatch) throws -> Result) rethrows -> Result {
        guard let sequences else { return try batches[index].withMicroBatch(firstToken: firstTokens[index], body) }
        sequences.begin(parts[index])
        let first = planner == nil ? firstTokens[index] : parts[index].firstToken
        return try parts[index].withMicroBatch(firstToken: first, body)
    }

    /// This rank's rows, and how many of them make a micro-batch. With `training.reproducible` all rows of the step are
    /// cut into micro-batches first, as many whatever their length, and these are shared out.
    private func share(of task: StepTask) -> (rows: Range<Int>, size: Int) {
        let rows = task.rows.rows
        guard recipe.training.reproducible else {
            return (world.share(of: rows, degree: recipe.contextDegree), schedule.rowsPerTask(task))
        }
        let size = schedule.tokensPerTask / task.rows.sequence
        let grains = (0..<((rows.count + size - 1) / size)).share(world.rank, of: world.size)
        let end = min(rows.upperBound, rows.lowerBound + grains.upperBound * size)
        return (min(end, rows.lowerBound + grains.lowerBound * size)..<end, size)
    }

    /// One exchange before the update: every rank hears every rank's loss, its share of the gradient's norm and its
    /// wish to stop. Where all hold the whole gradient, its norm must be the same everywhere, bit for bit; if not, a
    /// sum went wrong.
    private func agree(own loss: Double, stop: Bool, step: Int) throws -> ShardUpdate.Agreement {
        let agreed = try sharded.update.agree(loss: loss, rate: schedule.learningRate(at: step), stop: stop)
        if !agreed.agrees { try world.requireEqual(agreed.norm.bitPattern, "gradient norm at step \(step + 1)") }
        return agreed
    }
}
