import Base
import Collectives
import Model
import Recipe
import Tensor

/// Everything of a training step that depends on who holds what: where weights come from, how gradients come together,
/// and the update. The step itself reads alike at every stage, on one rank and on many.
public final class ShardedStep {
    public let state: TrainingState
    public let gradients: any GradientFlow
    public let update: ShardUpdate
    private let weights: (any StepWeights)?
    private let wireScales: WireScales?
    private let communicator: Communicator?
    /// Whether something moves under every forward and backward.
    private let movesAlways: Bool
    private var isOverlapping = false

    /// `communicator`: nil for a rank that is alone. All ranks pass the same recipe and table.
    public init(_ table: ParameterTable, recipe: Recipe, pool: Pool, communicator: Communicator? = nil) throws {
        let ranks = communicator?.worldSize ?? 1
        let plan = try ShardPlan(table, recipe: recipe, worldSize: ranks)
        let state = try TrainingState(plan, rank: communicator?.rank ?? 0, optimizer: recipe.optimizer.name,
                                      formats: StateFormats(recipe.optimizer),
                                      partialSums: recipe.partialSums(worldSize: ranks))
        let groups = communicator.map { ShardGroups(plan, $0) }
        self.state = state
        self.communicator = communicator
        let scales = try communicator.flatMap { try Self.wireScales(state, recipe, pool, $0) }
        let wire = GradientWire(recipe.communication.gradients == .bf16 ? .bfloat16 : .native, scales)
        wireScales = scales
        if let communicator, let groups, let slots = state.gradientSlots {
            gradients = SharedGradients(state, slots: slots, pool: pool, communicator: communicator, groups: groups,
                                        wire: wire)
        } else {
            gradients = try WholeGradients(state, pool: pool, communicator: communicator, groups: groups,
                                       isReproducible: recipe.training.reproducible, wire: wire)
        }
        weights = state.weightSlots.map { slots -> any StepWeights in
            guard let communicator, let groups, plan.counts.parameters > 1 else {
                return CodedWeights(state, slots: slots, pool: pool)
            }
            return SharedWeights(state, slots: slots, pool: pool, communicator: communicator, groups: groups)
        }
        // Tokens of shared sequences, weights or gradients go while something else is computed.
        let shares = recipe.contextDegree > 1 || ranks > 1 && recipe.plansSequences
        movesAlways = shares || weights?.travels ?? false || gradients.movesEarly
        update = try ShardUpdate(state, recipe: recipe, pool: pool, communicator: communicator, groups: groups)
    }

    private static func wireScales(_ state: TrainingState, _ recipe: Recipe, _ pool: Pool, _ communicator: Communicator)
        throws -> WireScales? {
        guard recipe.communication.gradients == .fp8, communicator.worldSize > 1 else { return nil }
        let counts = state.plan.counts, ranks = communicator.worldSize
        // Sums over the gradient group, and all micro-batches, travel on; and so does what replicas sum.
        let first = counts.gradients > 1 ? counts.gradients : counts.optimizer
        let again = first < ranks
        let batches = counts.gradients > 1 ? (recipe.rowsPerStep(worldSize: ranks) / ranks + recipe.rowsPerTask)
            / recipe.rowsPerTask : 1
        return try WireScales(state, pool: pool, communicator: communicator, sums: again ? ranks * batches : 1)
    }

    /// The largest magnitudes of the last step's gradients by tensor, where these travel in eight bits: state of a run.
    /// Whoever has changed it says so by `resumeWire`.
    public var gradientMagnitudes: Row? { wireScales?.agreed }

    public func resumeWire() { wireScales?.resume() }

    /// Where the model's weights come from, if not from memory.
    public var source: (any WeightSource)? { weights }

    /// Before the forward of micro-batch `index` of `count`. tokens: all that it will meet.
    /// `uses`: the blocks whose weights it and its backward use.
    public func beginForward(_ index: Int, of count: Int, tokens: StepTokens, uses: @autoclosure () -> [Int]) {
        gradients.note(tokens)
        if movesAlways { beginOverlap() }
        weights?.begin(uses())
    }

    /// Before its backward. Returns where that writes.
    public func beginBackward(_ index: Int, of count: Int) -> Parameters {
        if index == count - 1 { beginOverlap() }
        return gradients.begin(index, of: count)
    }

    /// After it.
    public func endBackward(_ index: Int, of count: Int) { gradients.end(index, of: count) }

    /// Whether every micro-batch of a rank exchanges something with every other rank's of the same number, so that all
    /// must have equally many.
    public var exchangesEach: Bool { weights?.travels ?? false || gradients.movesEarly }

    /// Returns when the gradient is summed over all ranks.
    public func finish() throws(CollectiveFault) {
        endOverlap()
        try weights?.check()
        try gradients.finish()
    }

    /// Round a forward without backward.
    public func forwardOnly<Result>(uses: @autoclosure () -> [Int], _ body: () -> Result) throws -> Result {
        guard let weights else { return body() }
        beginOverlap()
        weights.begin(uses())
        let result = body()
        endOverlap()
        try weights.check()
        return result
    }

    /// Checks that ranks with the same share hold the same bits. `index`: of this rank's share, of `sharers`.
    public func requireEqual(_ hash: UInt64, among sharers: Int, index: Int, _ what: String) throws(CollectiveFault) {
        guard let communicator else { return }
        let rows = try communicator.exchange([Double(index), Double(bitPattern: hash)])
        let isAlike = rows.allSatisfy { row in
            row[0] != Double(index) || row[1].bitPattern == hash
        }
        // All take part in the comparison that names the ranks, or none.
        guard try communicator.sum(isAlike ? 0 : 1) > 0 else { return }
        try communicator.compareHashes(hash, of: what)
    }

    /// The weights have changed.
    public func changed() { weights?.invalidate() }

    private func beginOverlap() {
        guard let communicator, !isOverlapping else { return }
        communicator.beginOverlap()
        isOverlapping = true
    }

    private func endOverlap() {
        guard let communicator, isOverlapping else { return }
        communicator.endOverlap()
        isOverlapping = false
    }
}

extension ShardPlan {
    /// The plan of a recipe. Optimizers that need whole matrices share them out at stage 0 too: what one rank can
    /// compute for all, all would compute again.
    public init(_ table: ParameterTable, recipe: Recipe, worldSize: Int) throws(BadInput) {
        var counts = try recipe.shardCounts(worldSize: worldSize)
        let keepsMatrices = recipe.optimizer.name.keepsMatrices
        if keepsMatrices, counts.optimizer == 1 {
            counts = ShardCounts(parameters: 1, gradients: 1, optimizer: worldSize)
        }
        self.init(table, counts: counts, worldSize: worldSize, keepsMatrices: keepsMatrices)
    }
}

extension Recipe {
    /// Gradients that wait to be added up, at most, where `training.reproducible` sums along a tree.
    public func partialSums(worldSize: Int) -> Int? {
        training.reproducible ? SumTree(max(1, grains(worldSize: worldSize) / worldSize)).depth : nil
    }
}
