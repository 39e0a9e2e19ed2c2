import Parallel
import Testing

/// The sum of n symbols along the tree, written out with all its parentheses.
private func written(_ count: Int, from first: Int = 0) -> String {
    var partial: [String] = []
    for (index, merges) in SumTree(count).merges.enumerated() {
        partial.append("\(first + index)")
        for _ in 0..<merges {
            let right = partial.removeLast()
            partial.append("(\(partial.removeLast())+\(right))")
        }
    }
    #expect(partial.count == 1)
    return partial[0]
}

/// The balanced tree over whole sums, as ranks add them up.
private func balanced(_ sums: ArraySlice<String>) -> String {
    guard sums.count > 1 else { return sums.first ?? "" }
    let middle = sums.startIndex + sums.count / 2
    return "(\(balanced(sums[..<middle]))+\(balanced(sums[middle...])))"
}

@Suite struct SumTreeTests {
    /// For every number of summands and every number of ranks that may share them out: one and the same tree.
    @Test func ranksDoNotChangeTheTree() {
        for count in 1...96 {
            let alone = written(count)
            var ranks = 1
            while count % ranks == 0 {
                let own = count / ranks
                let sums = (0..<ranks).map { written(own, from: $0 * own) }
                #expect(balanced(sums[...]) == alone, "\(count) summands over \(ranks) ranks")
                ranks *= 2
            }
        }
    }

    @Test func fewPartialSumsWait() {
        for count in 1...4_096 {
            let most = Int.bitWidth - 1 - count.leadingZeroBitCount + 1
            #expect(SumTree(count).depth <= most, "\(count)")
        }
        #expect(SumTree(1).depth == 1 && SumTree(8).depth == 4)
    }

    @Test func numbersFollowTheTree() {
        // One large value first: added one after the other, the small ones would all be lost.
        let values = [1e16] + Array(repeating: 1.0, count: 7)
        let left: Double = (1e16 + 1) + 2
        let expected: Double = left + 4
        #expect(SumTree.sum(values.count) { values[$0] } == expected)
        #expect(SumTree.sum(0) { _ in 1 } == 0)
    }
}
