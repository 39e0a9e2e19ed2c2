import Collectives
import Parallel
import Recipe
import Tensor

extension World {
    /// One parameter of a vector that ranks share out, whole, at rank `root`: a view where the rank holds all of it,
    /// else with memory of its own, which must be kept as long as the row. The other ranks send it what they hold, and
    /// get nothing. Of ranks that hold the same piece the lowest sends it, unless `root` has it itself.
    func collect(_ parameter: ParameterTable.Parameter, of shard: Shard, _ state: TrainingState, at root: Int) throws
        -> (row: Row, memory: Arena?) {
        var own: [(piece: Range<Int>, row: Row)] = []
        state.forEachPiece(of: parameter, in: shard) { own.append(($0, $1)) }
        guard let communicator, !isWhole(shard, state) else {
            // A parameter lies within one unit.
            precondition(own.count == 1, "\(parameter.name) is in pieces")
            return (own[0].row, nil)
        }
        let held = ranges(of: shard, state)
        let isRoot = rank == root
        let memory = try Arena(name: "a tensor", capacity: isRoot ? Arena.padded(parameter.count) : 0)
        let whole = memory.take(isRoot ? parameter.count : 0)
        for (piece, row) in own where isRoot { whole.slice(piece.lowerBound - parameter.offset, piece.count).copy(row) }
        for unit in state.plan.units.indices where state.plan.units[unit].range.overlaps(parameter.range) {
            for (sender, ranges) in held.enumerated() {
                let piece = ranges[unit].clamped(to: parameter.range)
                let isHeldByRoot = held[root][unit] == ranges[unit]
                let isFirst = held.firstIndex { $0[unit] == ranges[unit] } == sender
                guard !piece.isEmpty, !isHeldByRoot, isFirst else { continue }
                if isRoot {
                    let place = whole.slice(piece.lowerBound - parameter.offset, piece.count)
                    try unsafe communicator.receive(place.bytes, from: sender, label: UInt32(unit)).wait()
                } else if rank == sender {
                    try unsafe communicator.send(shard.part(piece, unit: unit).bytes, to: root,
                                                 label: UInt32(unit)).wait()
                }
            }
        }
        return (whole, memory)
    }

    /// Whether a vector is not shared out.
    func isWhole(_ shard: Shard, _ state: TrainingState) -> Bool {
        shard.ranges == state.plan.units.map(\.range)
    }

    /// What every rank holds of a vector that this one holds `shard` of.
    func ranges(of shard: Shard, _ state: TrainingState) -> [[Range<Int>]] {
        let plan = state.plan, isOptimizers = shard.ranges == state.ownRanges
        return (0..<size).map { isOptimizers ? plan.optimizerRanges(of: $0) : plan.parameterRanges(of: $0) }
    }
}
