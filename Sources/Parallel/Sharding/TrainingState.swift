import Base
import Model
import Recipe
import Tensor

/// Everything that an optimizer step changes, as one rank holds it: weights, their gradients and the optimizer's
/// moments.
///
/// What is not shared out is a flat vector in the table's order. What is, is a `Shard`; while a step computes, the
/// weights or gradients of a few blocks at a time then lie in slots that blocks take turns with (`BlockSlots`). So do
/// weights that are kept in few bits.
public final class TrainingState: Sendable {
    public let table: ParameterTable
    public let plan: ShardPlan
    public let rank: Int
    /// What the model reads. Of weights that are shared out, or coded: the slots, valid between `acquire` and
    /// `release`.
    public let weights: Parameters
    /// The weights that this rank answers for; with their scales, where they are codes.
    public let weightVectors: [StateVector]
    /// What a backward writes to. More than one where partial sums wait (`SumTree`), the first of which has the result.
    public let partialGradients: [Parameters]
    /// The sum of the gradients, where a rank holds a share only.
    public let gradientShard: Shard
    /// The optimizer's state vectors, of the optimizer share.
    public let moments: [StateVector]
    /// The same by moment: numbers, and their scales where they are codes.
    let momentParts: [CodedPart]
    /// Whether an update must be of whole blocks.
    let hasCodes: Bool
    let weightSlots: BlockSlots?
    let gradientSlots: BlockSlots?
    private let arena: Arena

    public var gradients: Parameters { partialGradients[0] }
    public var momentum: Shard { moments[0].shard }
    public var variance: Shard { moments[1].shard }

    /// The weights that this rank answers for, where they are floats.
    public var weightShard: Shard {
        precondition(weightVectors[0].numbers == .floats, "these weights are codes")
        return weightVectors[0].shard
    }

    /// Bytes of parameters, gradients and moments, without the slots that blocks take turns with.
    public var heldBytes: Int {
        let gradients = gradientSlots == nil
            ? partialGradients.reduce(0) { $0 + $1.flat.count } : gradientShard.row.count
        return 4 * (gradients + (weightVectors + moments).reduce(0) { $0 + $1.shard.row.count })
    }

    /// What weights and moments take by ZeRO's formula (1910.02054, section 5): all of each over as many ranks as share
    /// it out.
    public var sharedBytes: Int {
        func bytes(_ vectors: [StateVector]) -> Int { vectors.reduce(0) { $0 + 4 * $1.table.count } }
        return bytes(weightVectors) / plan.counts.parameters + bytes(moments) / plan.counts.optimizer
    }

    /// The flat ranges that this rank updates, one of each unit.
    public let ownRanges: [Range<Int>]

    /// `partialSums`: nil: gradients are added up as they come; else how many whole gradients wait at most.
    public init(_ plan: ShardPlan, rank: Int = 0, optimizer: Recipe.OptimizerName = .adamw,
                formats: StateFormats = .floats, partialSums: Int? = nil) throws(OutOfMemory) {
        let table = plan.table, vectors = formats.vectors(optimizer.vectors(table))
        let layout = StateLayout(plan, rank: rank, vectors: vectors, weights: formats.weights, partialSums: partialSums)
        self.table = table
        self.plan = plan
        self.rank = rank
        let arena = try Arena(name: "weights, gradients and moments", capacity: layout.state)
        self.arena = arena
        ownRanges = plan.optimizerRanges(of: rank)
        let units = plan.units.map(\.range), answered = plan.parameterRanges(of: rank)
        if layout.sharesWeights || formats.weights != nil {
            let slots = BlockSlots(table, copies: 2, memory: arena)
            weightSlots = slots
            weights = Parameters(table, blocks: slots.rows)
            weightVectors = Self.layouts(ofWeights: table, formats.weights).map {
                StateVector($0, Shard(plan.ranges(answered, in: $0), memory: arena), plan, isOptimizers: false)
            }
        } else {
            weightSlots = nil
            weights = Parameters(table, flat: arena.take(table.count))
            weightVectors = [StateVector(VectorLayout("", table), Shard(whole: weights.flat, units: units), plan,
                                         isOptimizers: false)]
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
            StateVector($0, Shard(plan.ranges(own, in: $0), memory: arena), plan, isOptimizers: true)
        }
        for vector in weightVectors + moments where vector.numbers == .scales { vector.shard.row.fill(1) }
        momentParts = Self.parts(moments)
        hasCodes = (weightVectors + moments).contains { $0.numbers == .scales }
    }

    /// The vectors of weights that are kept by themselves.
    static func layouts(ofWeights table: ParameterTable, _ codec: MomentCodec?) -> [VectorLayout] {
        let floats = VectorLayout("", table)
        return codec.map { floats.coded($0) } ?? [floats]
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
            setWeights(number, whole)
        }
    }

    /// The runs of a parameter that this rank updates.
    func ownRuns(of number: Int) -> [ShardRun] { Self.runs(of: number, table, in: ownRanges) }

    /// The runs of a parameter in some ranges, one of each unit.
    static func runs(of number: Int, _ table: ParameterTable, in ranges: [Range<Int>]) -> [ShardRun] {
        ranges.enumerated().compactMap { unit, range in
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
