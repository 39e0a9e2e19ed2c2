import Base
import Model
import Recipe
import Tensor

/// Everything that an optimizer step changes, as one rank holds it: weights, their gradients and the optimizer's
/// moments.
///
/// What is not shared out is a flat vector in the table's order. What is, is a `Shard`; while a step computes, the
/// weights or gradients of a few blocks at a time then lie in slots that blocks take turns with (`BlockSlots`).
public final class TrainingState: Sendable {
    public let table: ParameterTable
    public let plan: ShardPlan
    public let rank: Int
    /// What the model reads. Of weights that are shared out: the slots, valid between `acquire` and `release`.
    public let weights: Parameters
    /// The weights that this rank answers for.
    public let weightShard: Shard
    /// What a backward writes to. More than one where partial sums wait (`SumTree`), the first of which has the result.
    public let partialGradients: [Parameters]
    /// The sum of the gradients, where a rank holds a share only.
    public let gradientShard: Shard
    /// The optimizer's state vectors, of the optimizer share.
    public let moments: [StateVector]
    let weightSlots: BlockSlots?
    let gradientSlots: BlockSlots?
    private let arena: Arena

    public var gradients: Parameters { partialGradients[0] }
    public var momentum: Shard { moments[0].shard }
    public var variance: Shard { moments[1].shard }
    public var weightVector: StateVector { StateVector("", table, weightShard, plan, isOptimizers: false) }

    /// Bytes of parameters, gradients and moments, without the slots that blocks take turns with.
    public var heldBytes: Int {
        let gradients = gradientSlots == nil
            ? partialGradients.reduce(0) { $0 + $1.flat.count } : gradientShard.row.count
        return 4 * (weightShard.row.count + gradients + moments.reduce(0) { $0 + $1.shard.row.count })
    }

    /// The flat ranges that this rank updates, one of each unit.
    public let ownRanges: [Range<Int>]

    /// `partialSums`: nil: gradients are added up as they come; else how many whole gradients wait at most.
    public init(_ plan: ShardPlan, rank: Int = 0, optimizer: Recipe.OptimizerName = .adamw,
                partialSums: Int? = nil) throws(OutOfMemory) {
        let table = plan.table, vectors = optimizer.vectors(table)
        let layout = StateLayout(plan, rank: rank, vectors: vectors, partialSums: partialSums)
        self.table = table
        self.plan = plan
        self.rank = rank
        let arena = try Arena(name: "weights, gradients and moments", capacity: layout.state)
        self.arena = arena
        ownRanges = plan.optimizerRanges(of: rank)
        let units = plan.units.map(\.range)
        if layout.sharesWeights {
            let slots = BlockSlots(table, copies: 2, memory: arena)
            weightSlots = slots
            weights = Parameters(table, blocks: slots.rows)
            weightShard = Shard(plan.parameterRanges(of: rank), memory: arena)
        } else {
            weightSlots = nil
            weights = Parameters(table, flat: arena.take(table.count))
            weightShard = Shard(whole: weights.flat, units: units)
        }
        if layout.sharesGradients {
            let slots = BlockSlots(table, copies: 2, memory: arena)
            gradientSlots = slots
            partialGradients = [Parameters(table, blocks: slots.rows)]
            gradientShard = Shard(plan.gradientRanges(of: rank), memory: arena)
        } else {
            gradientSlots = nil
            partialGradients = (0..<(partialSums ?? 1)).map { _ in Parameters(table, flat: arena.take(table.count)) }
            gradientShard = Shard(whole: partialGradients[0].flat, units: units)
        }
        let own = ownRanges
        moments = vectors.map {
            StateVector($0.prefix, $0.table, Shard(plan.ranges(own, in: $0.table), memory: arena), plan,
                        isOptimizers: true)
        }
    }

    /// A state that is not shared out.
    public convenience init(_ table: ParameterTable) throws(OutOfMemory) { try self.init(ShardPlan(table)) }

    /// Draws the initial values of the weights that this rank answers for.
    public func initialize(seed: Int) throws(OutOfMemory) {
        guard weightSlots != nil else { return weights.initialize(seed: seed) }
        // A value is a function of its place, but is drawn in pairs; a parameter at a time is little memory.
        let largest = table.parameters.map(\.count).max() ?? 0
        let memory = try Arena(name: "initial values", capacity: largest), values = memory.take(largest)
        defer { withExtendedLifetime(memory) {} }
        for (number, parameter) in table.parameters.enumerated() {
            let whole = values.slice(0, parameter.count)
            Parameters.initialize(whole, number, of: table, seed: seed)
            weightShard.forEachPiece(of: parameter) { piece, row in
                row.copy(whole.slice(piece.lowerBound - parameter.offset, piece.count))
            }
        }
    }

    /// The runs of a parameter that this rank updates.
    func ownRuns(of number: Int) -> [ShardRun] {
        ownRanges.enumerated().compactMap { unit, range in
            let piece = range.clamped(to: table.parameters[number].range)
            return piece.isEmpty ? nil : ShardRun(parameter: number, unit: unit, range: piece)
        }
    }

    /// The matrices between embedding and head that this rank updates: whole ones.
    func ownMatrices() -> [ShardRun] {
        table.parameters.indices.filter { table.isHiddenMatrix($0) }.flatMap { ownRuns(of: $0) }.map { run in
            precondition(run.range == table.parameters[run.parameter].range,
                         "\(table.parameters[run.parameter].name) is cut, but its direction needs all of it")
            return run
        }
    }
}
