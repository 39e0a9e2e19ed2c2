/// Merging the symbols of one word: as long as any two neighbours have a merge, the pair with the lowest
/// rank is joined, the leftmost of equals first (as Hugging Face and tiktoken do; GPT-2's own encoder joins
/// all equals in one pass, which is the same where each token has one merge).
package struct BytePairMerge {
    /// The word's symbols: ids of single bytes to begin with, the word's tokens at the end.
    package var symbols: [Int32] = []
    /// The merge of each symbol with the next one.
    private var merges: [UInt64] = []
    private var queue = Heap<Candidate>()

    /// Where scanning for the best pair loses to a queue. Words are rarely longer.
    package static let longWord = 64

    package init() {}

    package mutating func merge(_ pairs: borrowing PairTable) {
        symbols.count <= Self.longWord ? mergeByScan(pairs) : mergeByQueue(pairs)
    }

    /// Finds the best pair by looking at all: quadratic, and fastest for short words.
    package mutating func mergeByScan(_ pairs: borrowing PairTable) {
        guard symbols.count > 1 else { return }
        merges.removeAll(keepingCapacity: true)
        for index in 1..<symbols.count { merges.append(pairs[symbols[index - 1], symbols[index]]) }
        while true {
            var best = PairTable.none, place = 0
            for index in merges.indices where merges[index] < best {
                best = merges[index]
                place = index
            }
            guard best != PairTable.none else { return }
            symbols[place] = Int32(truncatingIfNeeded: best)
            for index in (place + 1)..<merges.count {
                symbols[index] = symbols[index + 1]
                merges[index - 1] = merges[index]
            }
            symbols.removeLast()
            merges.removeLast()
            if place > 0 { merges[place - 1] = pairs[symbols[place - 1], symbols[place]] }
            if place < merges.count { merges[place] = pairs[symbols[place], symbols[place + 1]] }
        }
    }

    /// A pair of neighbours that could be joined, ordered by (rank, place).
    private struct Candidate: HeapElement {
        var merge: UInt64
        var place: Int
        var left: Int32
        var right: Int32

        func precedes(_ other: Candidate) -> Bool { (merge, place) < (other.merge, other.place) }
    }

    /// The same result in n log n: a heap of candidates over a linked list of symbols. Candidates whose
    /// symbols have changed meanwhile are dropped when they come up.
    package mutating func mergeByQueue(_ pairs: borrowing PairTable) {
        let count = symbols.count
        var next = Array(1...max(count, 1)), previous = Array(-1..<max(count - 1, 0))
        queue.removeAll()
        for place in 1..<max(count, 1) { push(place - 1, place, pairs) }
        while let best = queue.pop() {
            let right = next[best.place]
            guard right < count, symbols[best.place] == best.left, symbols[right] == best.right else {
                continue
            }
            symbols[best.place] = Int32(truncatingIfNeeded: best.merge)
            symbols[right] = -1
            let after = next[right]
            next[best.place] = after
            if after < count {
                previous[after] = best.place
                push(best.place, after, pairs)
            }
            if previous[best.place] >= 0 { push(previous[best.place], best.place, pairs) }
        }
        symbols.removeAll { $0 < 0 }
    }

    private mutating func push(_ left: Int, _ right: Int, _ pairs: borrowing PairTable) {
        let merge = pairs[symbols[left], symbols[right]]
        guard merge != PairTable.none else { return }
        queue.push(Candidate(merge: merge, place: left, left: symbols[left], right: symbols[right]))
    }
}
