import Base
import Corpus
import Recipe

/// What one step reads: rows of one length, and what the warm-up makes of them.
public struct StepTask: Sendable, Equatable {
    public let rows: StepRows
    public let limit: SequenceLimit

    /// Inputs of a row that take part, and how far back attention reaches at most.
    public var shape: (sequence: Int, window: Int) { limit.shape(of: rows.sequence) }
}

/// Which rows each step takes and at which learning rate. A step takes as many inputs whatever its rows' length
/// (2405.13226, section 3.2), and all of it is a function of the recipe, the data and the step: ranks, files and
/// the network have no part in it.
public struct StepSchedule: Sendable {
    /// Inputs of one step over all ranks, before a warm-up truncates rows.
    public let tokensPerStep: Int
    /// The most inputs that are computed at once.
    public let tokensPerTask: Int
    private let recipe: Recipe
    private let curriculum: Curriculum
    private let warmup: LengthWarmup?
    /// Element s: a row's inputs, summed over the first s steps of a warm-up that truncates.
    private let truncated: [Int]

    public init(_ recipe: Recipe, worldSize: Int) {
        self.recipe = recipe
        tokensPerStep = recipe.rowsPerStep(worldSize: worldSize) * recipe.training.sequenceLength
        tokensPerTask = recipe.rowsPerTask * recipe.training.sequenceLength
        curriculum = recipe.bucketCurriculum
        warmup = recipe.warmup
        var truncated = [0]
        if let warmup, warmup.method == .truncate {
            for step in 0..<min(warmup.steps, recipe.training.steps) {
                truncated.append(truncated[step] + warmup.length(at: step))
            }
        }
        self.truncated = truncated
    }

    /// The next step's rows, and `position` moved behind them. Allocates nothing.
    public func next(_ position: inout DataPosition, of corpus: Corpus) -> StepTask {
        let limit = warmup?.limit(at: Int(position.step)) ?? .none
        return StepTask(rows: corpus.next(&position, tokens: tokensPerStep, curriculum), limit: limit)
    }

    /// Throws when the rows that weights have led to by `position` are not those that this recipe leads to.
    func checkPast(_ position: DataPosition, of corpus: Corpus) throws(BadInput) {
        try corpus.checkPast(position, tokens: tokensPerStep, curriculum)
    }

    /// Rows of a micro-batch of `task`.
    public func rowsPerTask(_ task: StepTask) -> Int { tokensPerTask / task.shape.sequence }

    /// The learning rate of a step, 0 being the first: warm-up by steps, decay by tokens. Since it is a function of
    /// the step, a resumed run needs no memory of it.
    public func learningRate(at step: Int) -> Double { recipe.learningRate(at: step) { inputsOfARow($0) } }

    /// Inputs of a row, summed over the first `steps` steps.
    public func inputsOfARow(_ steps: Int) -> Int {
        let known = min(steps, truncated.count - 1)
        return truncated[known] + (steps - known) * recipe.training.sequenceLength
    }
}

extension Range<Int> {
    /// The contiguous part of these rows that rank `rank` of `worldSize` takes: parts differ by one row at most, and
    /// one after the other they are the whole, for any number of ranks.
    package func share(_ rank: Int, of worldSize: Int) -> Range<Int> {
        (lowerBound + count * rank / worldSize)..<(lowerBound + count * (rank + 1) / worldSize)
    }
}
