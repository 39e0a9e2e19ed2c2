import Recipe
import Tensor

/// A vector of the training state: what it is called, how it is laid out, and who holds which runs of it.
///
/// Weights and most optimizer state are laid out as the model's table has it. State of other shapes has a table of its
/// own (`ParameterTable.reshaped`), whose parameters lie with the ranks that hold the model's of the same number; those
/// of other shapes are never cut.
public struct StateVector: Sendable {
    /// What stands before a parameter's name in the names of its tensors.
    public let prefix: String
    public let table: ParameterTable
    /// What this rank holds.
    public let shard: Shard
    private let plan: ShardPlan
    private let isOptimizers: Bool

    /// `isOptimizers`: shared out as the optimizer state is, else as the parameters.
    init(_ prefix: String, _ table: ParameterTable, _ shard: Shard, _ plan: ShardPlan, isOptimizers: Bool) {
        self.prefix = prefix
        self.table = table
        self.shard = shard
        self.plan = plan
        self.isOptimizers = isOptimizers
    }

    /// What a checkpoint has of it: the parameters that have state here, with their numbers.
    public var tensors: [(number: Int, parameter: ParameterTable.Parameter)] {
        table.parameters.enumerated().filter { $0.element.count > 0 }.map { ($0.offset, $0.element) }
    }

    /// The flat ranges that `rank` holds, one of each unit.
    public func ranges(of rank: Int) -> [Range<Int>] {
        plan.ranges(isOptimizers ? plan.optimizerRanges(of: rank) : plan.parameterRanges(of: rank), in: table)
    }

    /// Whether it is not shared out.
    public var isWhole: Bool { (isOptimizers ? plan.counts.optimizer : plan.counts.parameters) == 1 }

    /// The state of a run of parameters that have the model's shape here.
    func part(_ run: ShardRun) -> Row {
        let shift = table.parameters[run.parameter].offset - plan.table.parameters[run.parameter].offset
        return shard.part((run.range.lowerBound + shift)..<(run.range.upperBound + shift), unit: run.unit)
    }

    /// All that belongs to the parameter of a run, which this rank holds whole.
    func whole(_ run: ShardRun) -> Row { shard.part(table.parameters[run.parameter].range, unit: run.unit) }
}

/// How a state vector of an optimizer is laid out, before there is any memory for it.
struct VectorLayout {
    let prefix: String
    let table: ParameterTable

    init(_ prefix: String, _ table: ParameterTable) {
        self.prefix = prefix
        self.table = table
    }
}

extension ShardPlan {
    /// The runs of another table that belong to runs of this plan's: where these begin and end, those do.
    func ranges(_ own: [Range<Int>], in other: ParameterTable) -> [Range<Int>] {
        if other == table { return own }
        let parameters = NormBlocks(table)
        func place(_ place: Int) -> Int {
            if place == table.count { return other.count }
            if let block = table.blocks.firstIndex(where: { $0.lowerBound == place }) {
                return other.blocks[block].lowerBound
            }
            let number = parameters.lastParameter(from: place)
            let (mine, theirs) = (table.parameters[number], other.parameters[number])
            let offset = min(place - mine.offset, mine.count)
            if theirs.shape == mine.shape { return theirs.offset + offset }
            precondition(theirs.count == 0 || offset == 0 || offset == mine.count,
                         "\(mine.name) is cut, but its state has another shape")
            return theirs.offset + (offset == mine.count ? theirs.count : 0)
        }
        return own.map { place($0.lowerBound)..<place($0.upperBound) }
    }
}
