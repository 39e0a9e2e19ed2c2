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
    /// The floats of memory that each parameter has here.
    public let table: ParameterTable
    /// What those are.
    public let numbers: StateNumbers
    /// The numbers that each parameter has here: the same as `table` but for codes.
    public let values: ParameterTable
    /// What this rank holds.
    public let shard: Shard
    private let plan: ShardPlan
    private let isOptimizers: Bool

    /// `isOptimizers`: shared out as the optimizer state is, else as the parameters.
    init(_ layout: VectorLayout, _ shard: Shard, _ plan: ShardPlan, isOptimizers: Bool) {
        prefix = layout.prefix
        table = layout.table
        numbers = layout.numbers
        values = layout.values
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
        plan.ranges(isOptimizers ? plan.optimizerRanges(of: rank) : plan.parameterRanges(of: rank), in: layout)
    }

    /// The same of what `rank` updates of it.
    func optimizerRanges(of rank: Int) -> [Range<Int>] { plan.ranges(plan.optimizerRanges(of: rank), in: layout) }

    /// Whether it is not shared out.
    public var isWhole: Bool { (isOptimizers ? plan.counts.optimizer : plan.counts.parameters) == 1 }

    /// The prefix of the scales of codes that have this one.
    public static func scalePrefix(_ prefix: String) -> String {
        prefix.isEmpty ? "scale." : prefix.dropLast() + "_scale."
    }

    private var layout: VectorLayout { VectorLayout(prefix, table, numbers, of: values) }

    /// The state of a run of parameters that have the model's shape here. Of codes and scales, runs are whole blocks.
    func part(_ run: ShardRun) -> Row {
        if case .floats = numbers {
            let shift = table.parameters[run.parameter].offset - plan.table.parameters[run.parameter].offset
            return shard.part((run.range.lowerBound + shift)..<(run.range.upperBound + shift), unit: run.unit)
        }
        let mine = table.parameters[run.parameter], theirs = plan.table.parameters[run.parameter]
        let from = layout.place(run.range.lowerBound - theirs.offset, in: theirs, own: mine)
        let end = layout.place(run.range.upperBound - theirs.offset, in: theirs, own: mine)
        return shard.part((mine.offset + from)..<(mine.offset + end), unit: run.unit)
    }

    /// Where the parameter of a run begins in the model's table.
    func start(of run: ShardRun) -> Int { plan.table.parameters[run.parameter].offset }

    /// All that belongs to the parameter of a run, which this rank holds whole.
    func whole(_ run: ShardRun) -> Row { shard.part(table.parameters[run.parameter].range, unit: run.unit) }
}

/// What the floats of a state vector are.
public enum StateNumbers: Sendable, Equatable {
    case floats
    /// Codes, several in a float of memory, a block of `MomentCodec.blockSize` after the other.
    case codes(MomentCodec)
    /// What the numbers of each block of the vector before were multiplied by.
    case scales

    /// Floats of memory for each block of neighbours; nil where there are as many as numbers.
    var blockFloats: Int? {
        switch self {
        case .floats: nil
        case .codes(let codec): codec.blockFloats
        case .scales: 1
        }
    }
}

/// How a state vector of an optimizer is laid out, before there is any memory for it.
struct VectorLayout {
    let prefix: String
    let table: ParameterTable
    let numbers: StateNumbers
    let values: ParameterTable

    init(_ prefix: String, _ table: ParameterTable) { self.init(prefix, table, .floats, of: table) }

    init(_ prefix: String, _ table: ParameterTable, _ numbers: StateNumbers, of values: ParameterTable) {
        self.prefix = prefix
        self.table = table
        self.numbers = numbers
        self.values = values
    }

    /// The same numbers as codes and scales: two vectors. Blocks are counted from each parameter's beginning, and
    /// shares are cut between them (`NormBlocks`), so bits do not depend on who holds what.
    func coded(_ codec: MomentCodec) -> [VectorLayout] {
        let values = table
        func blocks(_ number: Int) -> Int { MomentCodec.blocks(values.parameters[number].count) }
        let scales = values.reshaped { [blocks($0)] }
        return [VectorLayout(prefix, values.reshaped { [blocks($0) * codec.blockFloats] }, .codes(codec), of: values),
                VectorLayout(StateVector.scalePrefix(prefix), scales, .scales, of: scales)]
    }

    /// The place in a parameter's memory here of its element `offset`, which begins a block or is the end.
    func place(_ offset: Int, in parameter: ParameterTable.Parameter, own: ParameterTable.Parameter) -> Int {
        guard let blockFloats = numbers.blockFloats else { return offset }
        if offset == parameter.count { return own.count }
        precondition(offset % MomentCodec.blockSize == 0, "\(parameter.name): a block of codes is cut")
        return offset / MomentCodec.blockSize * blockFloats
    }
}

extension ShardPlan {
    /// The runs of another table that belong to runs of this plan's: where these begin and end, those do.
    func ranges(_ own: [Range<Int>], in layout: VectorLayout) -> [Range<Int>] {
        let other = layout.table
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
            if layout.numbers != .floats {
                return theirs.offset + (theirs.count == 0 ? 0 : layout.place(offset, in: mine, own: theirs))
            }
            if theirs.shape == mine.shape { return theirs.offset + offset }
            precondition(theirs.count == 0 || offset == 0 || offset == mine.count,
                         "\(mine.name) is cut, but its state has another shape")
            return theirs.offset + (offset == mine.count ? theirs.count : 0)
        }
        return own.map { place($0.lowerBound)..<place($0.upperBound) }
    }
}
