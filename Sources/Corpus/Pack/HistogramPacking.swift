/// Shortest-pack-first histogram packing (2107.02027): lengths from the longest down, each with all its items
/// at once, into the rows with the most space left, which are the shortest packs. Rows with the same
/// lengths are one entry with a count, so the time depends on the capacity and hardly on the items.
/// `counts[length]` items have that length; a row takes at most `depth` of them.
///
/// The authors open a row for each item that fits nowhere; here such items share rows where they can, or
/// items of one length only would never be packed at all.
package func shapesBySPFHP(_ counts: [Int], depth: Int) -> [RowShape] {
    let capacity = counts.count - 1
    // Open shapes by the space they have left; closed ones are full or as deep as they may be.
    var open = [[RowShape]](repeating: [], count: capacity + 1)
    var closed: [RowShape] = []
    func place(_ count: Int, _ lengths: [Int], space: Int) {
        let shape = RowShape(count: count, lengths: lengths)
        if space == 0 || lengths.count >= depth { closed.append(shape) } else { open[space].append(shape) }
    }
    for length in stride(from: capacity, to: 0, by: -1) {
        var waiting = counts[length], space = capacity
        while waiting > 0 {
            while space >= length, open[space].isEmpty { space -= 1 }
            guard space >= length else {
                // No row has room: new ones, each as full of this length as it gets.
                let items = min(depth, capacity / length, waiting)
                let lengths = Array(repeating: length, count: items)
                place(waiting / items, lengths, space: capacity - items * length)
                waiting %= items
                continue
            }
            // What this makes has less space than `space`, so the scan meets it in its turn.
            let shape = open[space].removeLast()
            let used = min(waiting, shape.count)
            if used < shape.count { place(shape.count - used, shape.lengths, space: space) }
            place(used, shape.lengths + [length], space: space - length)
            waiting -= used
        }
    }
    return closed + open.reversed().joined()
}

/// Non-negative least squares histogram packing (2107.02027): of all packs of up to three lengths that fill a
/// row exactly, as many of each as reproduce the histogram best. The counts are rounded, and a pack is made
/// only while all its lengths are there; the items that are left are packed best-fit among themselves.
///
/// The number of packs grows with the square of the capacity, so beyond 512 lengths are rounded up to
/// multiples of capacity / 512.
package func packByNNLS(_ lengths: [Int], capacity: Int) -> Packing {
    let unit = (capacity + 511) / 512, units = capacity / unit
    let rounded = lengths.map { min(($0 + unit - 1) / unit, units) }
    // Rounding up must not make an item longer than a row; rounding the row down may.
    let fits = lengths.indices.filter { (lengths[$0] + unit - 1) / unit <= units }
    var waiting = itemsByLength(fits.map { rounded[$0] }).mapValues { $0.map { fits[$0] } }
    var rows = [Int](repeating: -1, count: lengths.count), count = 0
    for shape in shapesByNNLS(histogram(fits.map { rounded[$0] }, units)) {
        for _ in 0..<shape.count {
            guard let row = takeRow(shape.lengths, from: &waiting) else { break }
            for item in row { rows[item] = count }
            count += 1
        }
    }
    let left = lengths.indices.filter { rows[$0] < 0 }
    let packing = packBestFit(left.map { lengths[$0] }, capacity: capacity)
    for row in 0..<packing.count {
        for index in packing[row] { rows[left[index]] = count + row }
    }
    return Packing(rows: rows, count: count + packing.count)
}

/// One item of each length, or nil, with nothing taken, when one is missing.
private func takeRow(_ lengths: [Int], from waiting: inout [Int: [Int]]) -> [Int]? {
    var row: [Int] = []
    for length in lengths {
        guard let item = waiting[length]?.popLast() else {
            for (item, length) in zip(row, lengths).reversed() { waiting[length]!.append(item) }
            return nil
        }
        row.append(item)
    }
    return row
}

/// The packs of up to three lengths that fill a row, with their rounded counts.
package func shapesByNNLS(_ counts: [Int]) -> [RowShape] {
    let capacity = counts.count - 1
    guard counts.contains(where: { $0 > 0 }) else { return [] }
    var packs = [[capacity]]
    for shortest in 1...max(capacity / 2, 1) where 2 * shortest <= capacity {
        packs.append([capacity - shortest, shortest])
    }
    for shortest in 1...max(capacity / 3, 1) where 3 * shortest <= capacity {
        for middle in shortest...((capacity - shortest) / 2) {
            packs.append([capacity - shortest - middle, middle, shortest])
        }
    }
    // Short items fit anywhere, so missing them weighs less (the authors' 0.09 up to 8 of 512).
    let weights = (0...capacity).map { 64 * $0 <= capacity ? 0.09 : 1.0 }
    let columns = packs.map { pack in
        Dictionary(pack.map { ($0, weights[$0]) }, uniquingKeysWith: +).sorted { $0.key < $1.key }
            .map { SparseEntry(row: $0.key, value: $0.value) }
    }
    let target = counts.indices.map { Double(counts[$0]) * weights[$0] }
    let solution = nonNegativeLeastSquares(columns, target)
    return zip(packs, solution).compactMap { pack, value in
        let count = Int(value.rounded())
        return count > 0 ? RowShape(count: count, lengths: pack) : nil
    }
}
