/// The member of `names` that `name` was most likely meant to be: the smallest edit distance (insert,
/// delete, replace, swap of neighbours), if it is at most a third of the name's length (but at least 2).
public func nearestName(to name: String, in names: [String]) -> String? {
    let limit = max(2, name.count / 3)
    let scored = names.map { (editDistance(name, $0), $0) }.filter { $0.0 <= limit }
    return scored.min { $0 < $1 }?.1
}

/// Damerau's distance in its restricted form: a pair of swapped letters counts once.
package func editDistance(_ a: String, _ b: String) -> Int {
    let a = Array(a.utf8), b = Array(b.utf8)
    var beforeLast = [Int](repeating: 0, count: b.count + 1)
    var last = Array(0...b.count)
    for i in 0..<a.count {
        var row = [i + 1]
        for j in 0..<b.count {
            var best = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
            if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { best = min(best, beforeLast[j - 1] + 1) }
            row.append(best)
        }
        (beforeLast, last) = (last, row)
    }
    return last[b.count]
}
