/// Runs of neighbouring lengths that a linear program takes for one.
///
/// Dynamic programming as in FlexSP (2412.01523, section 4.1.2): of all cuts into at most `count` buckets, one with the
/// least sum of distances to the bucket's edge. There the edge is the longest member, since a plan must hold what it
/// gets; here it is the shortest, since what we ask of the program is a bound from below. The distances obey the
/// quadrangle inequality, so the best cut moves one way only and a row of the table takes n log n (Yao, STOC 1980).
///
/// `tokens` descend. Returns the ranges of the buckets, in that order.
package func lengthBuckets(_ tokens: [Int], count: Int) -> [Range<Int>] {
    guard !tokens.isEmpty else { return [] }
    var sums = [0]
    for length in tokens { sums.append(sums[sums.count - 1] + length) }
    func distance(_ start: Int, _ end: Int) -> Int { sums[end] - sums[start] - tokens[end - 1] * (end - start) }

    let n = tokens.count
    var least = (0...n).map { $0 == 0 ? 0 : distance(0, $0) }
    var cuts: [[Int]] = [Array(repeating: 0, count: n + 1)]
    /// Fills `row` for ends in `ends`, whose best last cuts lie in `from...upTo`.
    func fill(_ row: inout [Int], _ cut: inout [Int], _ ends: ClosedRange<Int>, _ from: Int, _ upTo: Int) {
        let middle = (ends.lowerBound + ends.upperBound) / 2
        var best = (distance: Int.max, cut: from)
        for start in from...min(upTo, middle - 1) {
            let candidate = least[start] + distance(start, middle)
            if candidate < best.distance { best = (candidate, start) }
        }
        (row[middle], cut[middle]) = best
        if ends.lowerBound < middle { fill(&row, &cut, ends.lowerBound...(middle - 1), from, best.cut) }
        if middle < ends.upperBound { fill(&row, &cut, (middle + 1)...ends.upperBound, best.cut, upTo) }
    }
    while cuts.count < min(count, n), least[n] > 0 {
        var row = least, cut = cuts[0]
        fill(&row, &cut, 1...n, 0, n - 1)
        least = row
        cuts.append(cut)
    }
    var buckets: [Range<Int>] = [], end = n
    for cut in cuts.reversed() where end > 0 {
        buckets.append(cut[end]..<end)
        end = cut[end]
    }
    return buckets.reversed()
}
