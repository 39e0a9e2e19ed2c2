import Base
import Collectives
import Corpus
import Model
import Parallel
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
    /// Some rank was asked to stop.
    public var stops: Bool
    /// Seconds that this rank waited for the network.
    public var waitSeconds: Double
    /// The share of this rank's received bytes that came while it computed.
    public var hiddenShare: Double
}

/// One training step: rows of the global order, this rank's share of them cut into micro-batches; forward and
/// backward of each, with gradients on the wire while the last backward runs; agreement; then one update. It owns
/// no files and prints nothing, so that `bench step` and tests run exactly what training runs.
public final class StepRunner {
    public let recipe: Recipe
    public let state: TrainingState
    public let model: Transformer
    public let pool: Pool
    public let world: World
    private let corpus: Corpus
    private let optimizer: Optimizer
    private let reducer: GradientReducer?
    private let batches: [Batch]
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

    public init(recipe: Recipe, corpus: Corpus, pool: Pool, world: World = World()) throws {
        self.recipe = recipe
        self.corpus = corpus
        self.pool = pool
        self.world = world
        let table = ParameterTable(recipe.model, vocabulary: corpus.tokenizer.vocabularySize)
        let (rows, sequence) = (recipe.rowsPerTask, recipe.training.sequenceLength)
        schedule = StepSchedule(recipe, worldSize: world.size)
        position = corpus.start
        let rowsPerStep = recipe.rowsPerStep(worldSize: world.size)
        precondition(rowsPerStep >= world.size, "a rank without a row: see requireRows")
        let state = try TrainingState(table)
        self.state = state
        model = try Transformer(table, maxTokens: rows * sequence, sequence: sequence, pool: pool,
                                recomputation: recipe.activationCheckpoint.mode, matmul: recipe.training.matmul)
        optimizer = Optimizer(table)
        reducer = world.communicator.map { communicator in
            GradientReducer(BucketPlan(table), gradients: state.gradients, communicator: communicator)
        }
        // What the rank with the largest share needs: of shorter rows this one may have it. They come in tasks of as
        // many tokens, so they never need more tasks than the longest.
        let share = (rowsPerStep + world.size - 1) / world.size
        batches = (0..<((share + rows - 1) / rows)).map { _ in Batch(rows: rows, sequence: sequence) }
    }

    /// Runs step number `step` (0 is the first). `stop`: this rank was asked to end; all ranks learn of it in the
    /// same step.
    public func run(step: Int, stop: Bool = false) throws -> StepResult {
        try phase("step", number: step + 1) { try perform(step, stop) }
    }

    private func perform(_ step: Int, _ stop: Bool) throws -> StepResult {
        let before = world.statistics
        let task = take(step)
        let (targets, context, count) = try phase("data") {
            let (count, own, context) = fill(task)
            try corpus.checkTokens()
            let (targets, all) = try world.sum(Double(own), context)
            return (targets, all / Double(max(task.rows.rows.count * task.rows.sequence, 1)), count)
        }
        phase("clear") { optimizer.clear(state.gradients, pool: pool) }
        var loss = 0.0
        for index in 0..<count {
            loss += batches[index].withMicroBatch { task in
                phase("forward") { model.forward(task, weights: state.weights) }
                reducer?.begin(isLast: index == count - 1)
                return phase("backward") {
                    model.backward(task, weights: state.weights, gradients: state.gradients,
                                   scale: Float(1 / max(targets, 1)), into: reducer)
                }
            }
        }
        try phase("reduce") { try reducer?.finish() }
        let norm = phase("norm") { optimizer.norm(state.gradients, pool: pool) }
        let agreed = try phase("agree") { try agree(loss: loss, norm: norm, stop: stop, step: step) }
        let updated = agreed.loss.isFinite && norm.isFinite
        let roots = updated ? phase("update") {
            optimizer.update(state, recipe: recipe, step: step, rate: agreed.rate, norm: norm, pool: pool)
        } : nil
        let traffic = world.statistics.flatMap { now in before.map { now.since($0) } }
        return StepResult(loss: agreed.loss / max(targets, 1), tokens: Int(targets),
                          bucketLength: task.rows.sequence, length: task.shape.window, context: context,
                          gradientNorm: norm,
                          varianceRoots: roots, updated: updated, stops: agreed.stop,
                          waitSeconds: traffic?.waitSeconds ?? 0, hiddenShare: traffic?.hiddenShare ?? 0)
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
        let share = world.share(of: task.rows.rows), size = schedule.rowsPerTask(task)
        var (count, targets, context) = (0, 0, 0.0)
        for start in stride(from: share.lowerBound, to: share.upperBound, by: size) {
            corpus.fill(batches[count], bucket: task.rows.bucket, rows: start..<min(start + size, share.upperBound),
                        limit: task.limit)
            targets += batches[count].targetCount
            context += batches[count].contextTokens
            count += 1
        }
        return (count, targets, context)
    }

    /// One exchange before the update: every rank hears every rank's loss, gradient norm and wish to stop. The
    /// reduced gradient is the same everywhere, so its norm must be too, bit for bit; if not, a sum went wrong. The
    /// learning rate is rank 0's, because another C library may round a cosine otherwise.
    private func agree(loss: Double, norm: Double, stop: Bool,
                       step: Int) throws -> (loss: Double, rate: Double, stop: Bool) {
        let rate = schedule.learningRate(at: step)
        guard let communicator = world.communicator else { return (loss, rate, stop) }
        let rows = try communicator.exchange([loss, norm, stop ? 1 : 0, rate])
        if rows.contains(where: { $0[1].bitPattern != norm.bitPattern }) {
            try world.requireEqual(norm.bitPattern, "gradient norm at step \(step + 1)")
        }
        return (rows.reduce(0) { $0 + $1[0] }, rows[0][3], rows.contains { $0[2] != 0 })
    }

    /// Checks that all ranks hold the same weights and moments, bit for bit: a checkpoint has each tensor from one of
    /// them.
    public func requireEqualState(step: Int) throws {
        guard world.size > 1 else { return }
        for (part, name) in [(state.weights, "parameters"), (state.momentum, "first moments"),
                             (state.variance, "second moments")] {
            let hash = unsafe hash64(of: UnsafeRawBufferPointer(part.flat.bytes))
            try world.requireEqual(hash, "\(name) after step \(step)")
        }
    }

    /// Loss over `rows` held-out rows, spread evenly over all of them, each rank its share: summed nats and the number
    /// of targets.
    public func validate(rows: Int) throws -> (nats: Double, targets: Int) {
        let size = recipe.rowsPerTask
        let share = world.share(of: 0..<rows)
        var (nats, targets) = (0.0, 0)
        for start in stride(from: share.lowerBound, to: share.upperBound, by: size) {
            let batch = batches[0]
            corpus.fillValidation(batch, rows: start..<min(start + size, share.upperBound), of: rows)
            targets += batch.targetCount
            nats += batch.withMicroBatch { task in
                model.forward(task, weights: state.weights)
                return model.loss(task, weights: state.weights)
            }
        }
        let (allNats, allTargets) = try world.sum(nats, Double(targets))
        return (allNats, Int(allTargets))
    }
}

extension Batch {
    /// The batch as the model takes it. The views into its arrays are good for the time of `body`.
    func withMicroBatch<Result>(_ body: (MicroBatch) throws -> Result) rethrows -> Result {
        try Targets.lend(inputs, count: tokenCount) { inputs in
            try Targets.lend(targets, count: tokenCount) { targets in
                try Targets.lend(documentStarts, count: documentStartCount) { starts in
                    try body(MicroBatch(inputs: inputs, targets: targets, segments: Segments(starts),
                                        sequence: sequence))
                }
            }
        }
    }
}
