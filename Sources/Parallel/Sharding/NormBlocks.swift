import Recipe
import Tensor

/// The fixed blocks in which the gradient's norm is summed: 4,096 floats of one parameter, the last of a parameter less.
///
/// A norm is the sum over parameters, in the table's order, of each one's sum over its blocks, along one tree. So its
/// bits depend neither on the threads nor on who holds which block: ranks exchange the blocks' sums, 6,300 Doubles for
/// 26 M parameters, and each evaluates the same tree.
public struct NormBlocks: Sendable {
    /// As `sumOfSquares` cuts a row.
    public static let size = 4_096

    /// Where each block begins in the flat vector, in ascending order.
    public let starts: [Int]
    public let ranges: [Range<Int>]
    /// The blocks of each parameter.
    public let ofParameter: [Range<Int>]

    public init(_ table: ParameterTable) {
        var ranges: [Range<Int>] = [], ofParameter: [Range<Int>] = []
        for parameter in table.parameters {
            let first = ranges.count
            for start in stride(from: parameter.offset, to: parameter.range.upperBound, by: Self.size) {
                ranges.append(start..<min(start + Self.size, parameter.range.upperBound))
            }
            ofParameter.append(first..<ranges.count)
        }
        self.ranges = ranges
        self.ofParameter = ofParameter
        starts = ranges.map(\.lowerBound)
    }

    /// The blocks within a flat range that begins and ends between blocks.
    public func blocks(in range: Range<Int>) -> Range<Int> {
        func first(from place: Int) -> Int {
            var low = 0, high = starts.count
            while low < high {
                let middle = (low + high) / 2
                if starts[middle] < place { low = middle + 1 } else { high = middle }
            }
            return low
        }
        return first(from: range.lowerBound)..<first(from: range.upperBound)
    }

    /// The sum of one parameter's blocks, along the tree that `sumOfSquares` takes for the whole of it.
    public func total(_ sums: Doubles, ofParameter parameter: Int) -> Double {
        let own = ofParameter[parameter]
        func tree(_ first: Int, _ count: Int) -> Double {
            if count == 1 { return sums[first] }
            let half = 1 << (Int.bitWidth - 1 - (count - 1).leadingZeroBitCount)
            return tree(first, half) + tree(first + half, count - half)
        }
        return own.isEmpty ? 0 : tree(own.lowerBound, own.count)
    }

    /// The sum over everything.
    public func total(_ sums: Doubles) -> Double {
        ofParameter.indices.reduce(0) { $0 + total(sums, ofParameter: $1) }
    }
}
