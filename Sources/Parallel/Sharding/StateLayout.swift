import Recipe
import Tensor

/// How many floats each part of a rank's state takes, before any of it is asked for.
public struct StateLayout: Sendable, Equatable {
    public let sharesWeights: Bool
    public let sharesGradients: Bool
    /// Parameters that stay, or the shares of them.
    public let parameters: Int
    /// Gradients, or the shares of them, with the partial sums of `training.reproducible`.
    public let gradients: Int
    public let moments: Int
    /// Slots that blocks of parameters, and of gradients, take turns with.
    public let slots: Int
    /// Of the optimizer, and for the sums of blocks: memory of its own, beside the state.
    public let scratch: Int

    /// All of it.
    public var floats: Int { state + scratch }
    /// What `TrainingState` takes.
    var state: Int { parameters + gradients + moments + slots }

    /// `vectors`: of the optimizer's state. `weights`: what they are kept in. `partialSums`: as `TrainingState` has it.
    init(_ plan: ShardPlan, rank: Int, vectors: [VectorLayout], weights: MomentCodec?, partialSums: Int?,
         scratch: Int = 0) {
        let counts = plan.counts, whole = Arena.padded(plan.table.count)
        sharesWeights = counts.parameters > 1
        // Sums along the tree are made of whole gradients.
        sharesGradients = counts.gradients > 1 && partialSums == nil
        let answered = plan.parameterRanges(of: rank), isKept = sharesWeights || weights != nil
        parameters = isKept ? TrainingState.layouts(ofWeights: plan.table, weights).reduce(0) {
            $0 + Shard.floats(plan.ranges(answered, in: $1))
        } : whole
        gradients = sharesGradients ? Shard.floats(plan.gradientRanges(of: rank)) : whole * (partialSums ?? 1)
        let own = plan.optimizerRanges(of: rank)
        moments = vectors.reduce(0) { $0 + Shard.floats(plan.ranges(own, in: $1)) }
        let one = BlockSlots.floats(plan.table, copies: 2)
        slots = (isKept ? one : 0) + (sharesGradients ? one : 0)
        self.scratch = scratch
    }

    public init(_ plan: ShardPlan, rank: Int, recipe: Recipe) {
        let name = recipe.optimizer.name, formats = StateFormats(recipe.optimizer)
        self.init(plan, rank: rank, vectors: formats.vectors(name.vectors(plan.table)), weights: formats.weights,
                  partialSums: recipe.partialSums(worldSize: plan.worldSize),
                  scratch: BlockSums.floats(plan) + name.scratchFloats(plan, rank: rank))
    }
}
