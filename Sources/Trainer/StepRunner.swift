import Base
import Corpus
import Model
import Recipe
import Tensor

/// What one optimizer step did.
public struct StepResult: Sendable, Equatable {
    /// Mean loss of the step's targets, in nats a token.
    public var loss: Double
    /// Targets that were trained on.
    public var tokens: Int
    public var gradientNorm: Double
    /// False when loss or norm was not finite: then nothing was updated.
    public var updated: Bool
}

/// One training step: rows of the global order, cut into micro-batches; forward and backward of each; then one
/// update. It owns no files and prints nothing, so that `bench step` and tests run exactly what training runs.
public final class StepRunner {
    public let recipe: Recipe
    public let state: TrainingState
    public let model: Transformer
    public let pool: Pool
    private let corpus: Corpus
    private let optimizer: Optimizer
    private let batches: [Batch]
    public let rowsPerStep: Int

    public init(recipe: Recipe, corpus: Corpus, pool: Pool) throws {
        self.recipe = recipe
        self.corpus = corpus
        self.pool = pool
        let table = ParameterTable(recipe.model, vocabulary: corpus.tokenizer.vocabularySize)
        let (rows, sequence) = (recipe.rowsPerTask, recipe.training.sequenceLength)
        rowsPerStep = recipe.rowsPerStep(worldSize: 1)
        state = try TrainingState(table)
        model = try Transformer(table, maxTokens: rows * sequence, sequence: sequence, pool: pool,
                                recomputation: recipe.activationCheckpoint.mode)
        optimizer = Optimizer(table)
        batches = (0..<((rowsPerStep + rows - 1) / rows)).map { _ in Batch(rows: rows, sequence: sequence) }
    }

    /// Runs step number `step` (0 is the first), whose rows are step * rowsPerStep and on.
    public func run(step: Int) -> StepResult {
        let rows = recipe.rowsPerTask
        let first = step * rowsPerStep
        var targets = 0
        for (index, batch) in batches.enumerated() {
            let start = first + index * rows
            corpus.fill(batch, rows: start..<min(start + rows, first + rowsPerStep))
            targets += batch.targetCount
        }
        optimizer.clear(state.gradients, pool: pool)
        var loss = 0.0
        for batch in batches {
            loss += batch.withTask { task in
                model.forward(task, weights: state.weights)
                return model.backward(task, weights: state.weights, gradients: state.gradients,
                                      scale: 1 / Float(max(targets, 1)))
            }
        }
        let norm = optimizer.norm(state.gradients, pool: pool)
        let updated = norm.isFinite && loss.isFinite
        if updated { optimizer.update(state, recipe: recipe, step: step, norm: norm, pool: pool) }
        return StepResult(loss: loss / Double(max(targets, 1)), tokens: targets, gradientNorm: norm, updated: updated)
    }

    /// Loss over the held-out rows 0..<rows: summed nats and the number of targets.
    public func validate(rows: Int) -> (nats: Double, targets: Int) {
        let size = recipe.rowsPerTask
        var (nats, targets) = (0.0, 0)
        for start in stride(from: 0, to: rows, by: size) {
            let batch = batches[0]
            corpus.fillValidation(batch, rows: start..<min(start + size, rows))
            targets += batch.targetCount
            nats += batch.withTask { task in
                model.forward(task, weights: state.weights)
                return model.loss(task, weights: state.weights)
            }
        }
        return (nats, targets)
    }
}

extension Batch {
    /// The batch as a task for the model. The views into its arrays are good for the time of `body`.
    func withTask<Result>(_ body: (Model.Task) throws -> Result) rethrows -> Result {
        try Targets.lend(inputs, count: tokenCount) { inputs in
            try Targets.lend(targets, count: tokenCount) { targets in
                try Targets.lend(documentStarts, count: documentStartCount) { starts in
                    try body(Model.Task(inputs: inputs, targets: targets, segments: Segments(starts),
                                        sequence: sequence))
                }
            }
        }
    }
}
