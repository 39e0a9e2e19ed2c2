import Recipe
import Tensor

/// The fixed blocks in which the gradient's norm is summed: 4,096 floats of one parameter, the last of a parameter
/// less.
///
/// A norm is the sum over parameters, in the table's order, of each one's sum over its blocks, along one tree. So its
/// bits depend neither on the threads nor on who holds which block: ranks exchange the blocks' sums, 6,300 Doubles for
/// 26 M parameters, and each evaluates the same tree. Blocks are numbered in ascending order, and a plan for a model
/// that no machine holds makes none of them.
public struct NormBlocks: Sendable {
    /// As `sumOfSquares` cuts a row.
    public static let size = 4_096

    private let parameters: [Range<Int>]
    /// The number of each parameter's first block, and of all blocks at the end.
    private let firsts: [Int]

    public var count: Int { firsts[parameters.count] }

    public init(_ table: ParameterTable) {
        parameters = table.parameters.map(\.range)
        var firsts = [0]
        for range in parameters { firsts.append(firsts[firsts.count - 1] + (range.count + Self.size - 1) / Self.size) }
        self.firsts = firsts
    }

    /// The parameter that a block belongs to.
    public func parameter(of block: Int) -> Int { lastIndex(firsts, notAbove: block) }

    /// The flat range of a block.
    public func range(_ block: Int) -> Range<Int> {
        let parameter = parameter(of: block), own = parameters[parameter]
        let start = own.lowerBound + (block - firsts[parameter]) * Self.size
        return start..<min(start + Self.size, own.upperBound)
    }

    public func blocks(ofParameter parameter: Int) -> Range<Int> { firsts[parameter]..<firsts[parameter + 1] }

    /// The blocks within a flat range that begins and ends between blocks.
    public func blocks(in range: Range<Int>) -> Range<Int> {
        firstBlock(from: range.lowerBound)..<firstBlock(from: range.upperBound)
    }

    private func firstBlock(from place: Int) -> Int {
        guard place > 0 else { return 0 }
        let parameter = lastParameter(from: place - 1), own = parameters[parameter]
        let passed = (place - own.lowerBound + Self.size - 1) / Self.size
        return min(firsts[parameter] + passed, firsts[parameter + 1])
    }

    /// The last parameter that begins at `place` or before.
    func lastParameter(from place: Int) -> Int {
        var low = 0, high = parameters.count
        while low + 1 < high {
            let middle = (low + high) / 2
            if parameters[middle].lowerBound <= place { low = middle } else { high = middle }
        }
        return low
    }

    private func lastIndex(_ values: [Int], notAbove value: Int) -> Int {
        var low = 0, high = parameters.count
        while low + 1 < high {
            let middle = (low + high) / 2
            if values[middle] <= value { low = middle } else { high = middle }
        }
        return low
    }

    /// The sum of one parameter's blocks, along the tree that `sumOfSquares` takes for the whole of it.
    public func total(_ sums: Doubles, ofParameter parameter: Int) -> Double {
        let own = blocks(ofParameter: parameter)
        func tree(_ first: Int, _ count: Int) -> Double {
            if count == 1 { return sums[first] }
            let half = 1 << (Int.bitWidth - 1 - (count - 1).leadingZeroBitCount)
            return tree(first, half) + tree(first + half, count - half)
        }
        return own.isEmpty ? 0 : tree(own.lowerBound, own.count)
    }

    /// The sum over everything.
    public func total(_ sums: Doubles) -> Double {
        parameters.indices.reduce(0) { $0 + total(sums, ofParameter: $1) }
    }
}
