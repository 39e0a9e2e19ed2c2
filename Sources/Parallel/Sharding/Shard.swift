import Recipe
import Tensor

/// One rank's share of a flat vector: a run of each unit, one behind the other in memory.
public struct Shard: Sendable {
    /// Of the flat vector, one of each unit, in ascending order.
    public let ranges: [Range<Int>]
    public let row: Row
    private let offsets: [Int]

    public static func floats(_ ranges: [Range<Int>]) -> Int {
        Arena.padded(ranges.reduce(0) { $0 + $1.count })
    }

    public init(_ ranges: [Range<Int>], memory: Arena) {
        self.init(ranges, row: memory.take(ranges.reduce(0) { $0 + $1.count }))
    }

    init(_ ranges: [Range<Int>], row: Row) {
        self.ranges = ranges
        self.row = row
        var offsets: [Int] = [], next = 0
        for range in ranges {
            offsets.append(next)
            next += range.count
        }
        self.offsets = offsets
    }

    /// A share that is the whole of a vector.
    init(whole: Row, units: [Range<Int>]) { self.init(units, row: whole) }

    /// The memory of a flat range, which lies within this share of one unit.
    public func part(_ range: Range<Int>, unit: Int) -> Row {
        let own = ranges[unit]
        precondition(own.lowerBound <= range.lowerBound && range.upperBound <= own.upperBound,
                     "floats \(range) are not in this rank's share")
        return row.slice(offsets[unit] + range.lowerBound - own.lowerBound, range.count)
    }

    /// The flat ranges of a parameter that lie in this share, with their memory.
    public func forEachPiece(of parameter: ParameterTable.Parameter,
                             _ body: (Range<Int>, Row) throws -> Void) rethrows {
        for (unit, range) in ranges.enumerated() {
            let piece = range.clamped(to: parameter.range)
            if !piece.isEmpty { try body(piece, part(piece, unit: unit)) }
        }
    }

    public func unit(_ unit: Int) -> Row { part(ranges[unit], unit: unit) }
}
