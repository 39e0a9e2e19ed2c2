/// The canonical binary tree over a number of summands, as a stack machine that takes them one after the other.
///
/// An even number is cut in halves; an odd one at the largest power of two below it. So the tree over n summands is,
/// for every power of two N that divides n, the balanced tree over N ranks whose leaves are the trees over n / N
/// summands: the sum has the same bits however many ranks share it out. A summand is pushed; then, so many times as the
/// tree says, the two newest partial sums are added up. No more than floor(log2 n) + 1 of them wait at once.
public struct SumTree: Sendable, Equatable {
    /// How often the two newest partial sums are added up behind each summand.
    public let merges: [Int]
    /// The most partial sums that there are at once, the newest summand included.
    public let depth: Int

    public init(_ count: Int) {
        precondition(count > 0, "a sum of nothing")
        var merges: [Int] = []
        func add(_ count: Int) {
            guard count > 1 else { return merges.append(0) }
            let left = Self.left(count)
            add(left)
            add(count - left)
            merges[merges.count - 1] += 1
        }
        add(count)
        self.merges = merges
        var height = 0, depth = 0
        for merge in merges {
            height += 1
            depth = max(depth, height)
            height -= merge
        }
        self.depth = depth
    }

    /// How many of `count` summands are on the left of the root.
    private static func left(_ count: Int) -> Int {
        count % 2 == 0 ? count / 2 : 1 << (Int.bitWidth - 1 - (count - 1).leadingZeroBitCount)
    }

    /// The sum of `count` values along their tree, from number `first` on.
    public static func sum(_ count: Int, from first: Int = 0, _ value: (Int) -> Double) -> Double {
        guard count > 1 else { return count == 1 ? value(first) : 0 }
        let left = left(count)
        return sum(left, from: first, value) + sum(count - left, from: first + left, value)
    }
}
