/// The arithmetic of one optimizer step.
public struct StepCost: Sendable, Equatable {
    public let parameters: Int
    /// Inputs of all ranks together, and of the rank with the largest share.
    public let tokens: Int
    public let largestShare: Int
    /// Micro-batches of that rank, and inputs of its last one and of the others.
    public let tasks: Int
    public let lastTask: Int
    public let fullTask: Int
    /// How many tokens an input looks back at, in the mean.
    public let context: Double
    /// Forward and backward of all ranks: what achieved rates count.
    public let modelFlops: Double
    /// What activation recomputation adds to the time.
    public let recomputedFlops: Double
    /// What of the model's runs on fp32 multiply-adds where linear layers are quantised: the head, and attention unless
    /// its operands are bf16.
    public let exactFlops: Double
    /// Of one token, in the head.
    public let headFlops: Double
    public let layers: Int

    /// `context`: of the data's rows; without it, of rows of `training.seq_len` that are one causal segment each.
    public init(_ recipe: Recipe, vocabulary: Int, ranks: Int = 1, context: Double? = nil) {
        let table = ParameterTable(recipe.model, vocabulary: vocabulary)
        let sequence = recipe.training.sequenceLength, rows = recipe.rowsPerStep(worldSize: ranks)
        let groups = recipe.groups(worldSize: ranks), degree = recipe.contextDegree
        let share = (rows + groups - 1) / groups
        /// Tokens of one rank, of those that a group computes together.
        func own(_ tokens: Int) -> Int { (tokens + degree - 1) / degree }
        parameters = table.parameterCount
        tokens = rows * sequence
        largestShare = own(share * sequence)
        tasks = (share + recipe.rowsPerTask - 1) / recipe.rowsPerTask
        fullTask = own(recipe.rowsPerTask * sequence)
        lastTask = own(((share - 1) % recipe.rowsPerTask + 1) * sequence)
        self.context = context ?? Double(sequence) / 2
        headFlops = table.headFlopsPerToken(vocabulary: vocabulary)
        layers = recipe.model.layers
        modelFlops = Double(tokens) * table.flopsPerToken(context: self.context)
        let precision = recipe.precision.checked
        let attention = precision?.roundsAttention ?? false ? 0 : table.attentionFlopsPerToken(context: self.context)
        exactFlops = precision == nil ? modelFlops
            : Double(tokens) * (headFlops + attention)
        recomputedFlops = Double(tokens)
            * table.recomputedFlopsPerToken(context: self.context, recipe.activationCheckpoint.mode)
    }

    /// The time of a step on the rank with the largest share, were every operation to run at `rate`: a bound from
    /// below. `exact`: the rate of what is not quantised, where that is another.
    public func seconds(atGflops rate: Double, exact: Double? = nil) -> Double {
        let share = Double(largestShare) / Double(max(tokens, 1)) / 1e9
        return ((modelFlops + recomputedFlops - exactFlops) / rate + exactFlops / (exact ?? rate)) * share
    }
}
