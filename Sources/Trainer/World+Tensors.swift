import Collectives
import Parallel
import Recipe
import Tensor

extension World {
    /// One parameter of a vector that ranks share out, whole, at rank `root`: a view where the rank holds all of it,
    /// else with memory of its own, which must be kept as long as the row. The other ranks send it what they hold, and
    /// get nothing. Of ranks that hold the same piece the lowest sends it, unless `root` has it itself.
    func collect(_ parameter: ParameterTable.Parameter, of vector: StateVector, at root: Int) throws
        -> (row: Row, memory: Arena?) {
        var own: [(piece: Range<Int>, row: Row)] = []
        vector.shard.forEachPiece(of: parameter) { own.append(($0, $1)) }
        guard let communicator, !vector.isWhole else {
            // A parameter lies within one unit.
            precondition(own.count == 1, "\(parameter.name) is in pieces")
            return (own[0].row, nil)
        }
        let held = (0..<size).map { vector.ranges(of: $0) }
        let isRoot = rank == root
        let memory = try Arena(name: "a tensor", capacity: isRoot ? Arena.padded(parameter.count) : 0)
        let whole = memory.take(isRoot ? parameter.count : 0)
        for (piece, row) in own where isRoot { whole.slice(piece.lowerBound - parameter.offset, piece.count).copy(row) }
        for unit in vector.shard.ranges.indices {
            for (sender, ranges) in held.enumerated() {
                let piece = ranges[unit].clamped(to: parameter.range)
                let isHeldByRoot = held[root][unit] == ranges[unit]
                let isFirst = held.firstIndex { $0[unit] == ranges[unit] } == sender
                guard !piece.isEmpty, !isHeldByRoot, isFirst else { continue }
                if isRoot {
                    let place = whole.slice(piece.lowerBound - parameter.offset, piece.count)
                    try unsafe communicator.receive(place.bytes, from: sender, label: UInt32(unit)).wait()
                } else if rank == sender {
                    try unsafe communicator.send(vector.shard.part(piece, unit: unit).bytes, to: root,
                                                 label: UInt32(unit)).wait()
                }
            }
        }
        return (whole, memory)
    }
}
