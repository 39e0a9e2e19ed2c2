/// Best-fit decreasing (2404.10830): items from the longest to the shortest, each into the fullest row that
/// still has room for it. Sorting counts lengths and finding a row asks a bit set, so the time is linear in
/// the items for any fixed capacity.
package func packBestFit(_ lengths: [Int], capacity: Int) -> Packing {
    // Counting sort, longest first; items of one length keep their order.
    var next = [Int](repeating: 0, count: capacity + 2)
    for length in lengths { next[capacity - length + 1] += 1 }
    for index in 1..<next.count { next[index] += next[index - 1] }
    var sorted = [Int](repeating: 0, count: lengths.count)
    for (item, length) in lengths.enumerated() {
        sorted[next[capacity - length]] = item
        next[capacity - length] += 1
    }

    var spaces = BitSet(capacity: capacity + 1)
    // Rows by their free space: `first[space]` is the row that came there last, `after` links the others.
    var first = [Int](repeating: -1, count: capacity + 1), after: [Int] = []
    var rows = [Int](repeating: 0, count: lengths.count)
    for item in sorted {
        let length = lengths[item]
        var row = after.count, space = capacity
        if let fitting = spaces.first(from: length) {
            space = fitting
            row = first[space]
            first[space] = after[row]
            if first[space] < 0 { spaces.remove(space) }
        } else {
            after.append(-1)
        }
        rows[item] = row
        space -= length
        guard space > 0 else { continue }
        after[row] = first[space]
        first[space] = row
        spaces.insert(space)
    }
    return Packing(rows: rows, count: after.count)
}

/// A set of small numbers that finds its next member quickly: bits in words, and a bit for each word that is
/// not zero.
struct BitSet {
    private var words: [UInt64]
    private var summary: [UInt64]

    init(capacity: Int) {
        words = Array(repeating: 0, count: (capacity + 63) / 64)
        summary = Array(repeating: 0, count: (words.count + 63) / 64)
    }

    mutating func insert(_ member: Int) {
        words[member / 64] |= 1 << UInt64(member % 64)
        summary[member / 4096] |= 1 << UInt64(member / 64 % 64)
    }

    mutating func remove(_ member: Int) {
        words[member / 64] &= ~(1 << UInt64(member % 64))
        if words[member / 64] == 0 { summary[member / 4096] &= ~(1 << UInt64(member / 64 % 64)) }
    }

    /// The smallest member that is not below `lowest`.
    func first(from lowest: Int) -> Int? {
        let word = lowest / 64
        guard word < words.count else { return nil }
        let rest = words[word] >> UInt64(lowest % 64)
        if rest != 0 { return lowest + rest.trailingZeroBitCount }
        // Then the first word after it that is not zero.
        var group = (word + 1) / 64
        guard group < summary.count else { return nil }
        var bits = summary[group] & (UInt64.max << UInt64((word + 1) % 64))
        while bits == 0 {
            group += 1
            guard group < summary.count else { return nil }
            bits = summary[group]
        }
        let found = 64 * group + bits.trailingZeroBitCount
        return 64 * found + words[found].trailingZeroBitCount
    }
}
