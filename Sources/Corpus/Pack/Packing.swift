import Base

/// How lengths are put into rows.
public enum PackingMethod: String, Sendable, CaseIterable {
    /// One after the other; documents are cut where rows end.
    case concatenate
    /// Best-fit decreasing: longest first, each into the fullest row that has room (2404.10830).
    case bestFit = "best-fit"
    /// Shortest-pack-first histogram packing (2107.02027, section 3.3): longest first, into the emptiest row.
    case spfhp
    /// Non-negative least squares histogram packing (2107.02027, section 3.2): packs of up to three.
    case nnlshp
    /// One document in each row, the rest of it padding: what packing is measured against.
    case padded
}

/// Which items share a row.
package struct Packing: Equatable, Sendable {
    private let items: [Int]
    private let starts: [Int]

    /// `rows[item]` is the item's row, in 0..<count. Within a row, items keep their order.
    package init(rows: [Int], count: Int) {
        var starts = [Int](repeating: 0, count: count + 1)
        for row in rows { starts[row + 1] += 1 }
        for row in 0..<count { starts[row + 1] += starts[row] }
        var next = starts, items = [Int](repeating: 0, count: rows.count)
        for (item, row) in rows.enumerated() {
            items[next[row]] = item
            next[row] += 1
        }
        self.items = items
        self.starts = starts
    }

    package var count: Int { starts.count - 1 }

    package subscript(row: Int) -> ArraySlice<Int> { items[starts[row]..<starts[row + 1]] }

    /// Packs items of the given lengths, each in 1...capacity, by a method that keeps items whole.
    package init(_ lengths: [Int], capacity: Int, method: PackingMethod) {
        precondition(lengths.allSatisfy { $0 > 0 && $0 <= capacity }, "an item longer than a row")
        switch method {
        case .concatenate: preconditionFailure("concatenation cuts items; it is no packing")
        case .bestFit: self = packBestFit(lengths, capacity: capacity)
        case .spfhp: self.init(lengths, shapes: shapesBySPFHP(histogram(lengths, capacity), depth: .max))
        case .nnlshp: self = packByNNLS(lengths, capacity: capacity)
        case .padded: self.init(rows: Array(lengths.indices), count: lengths.count)
        }
    }

    /// Fills rows of the given shapes with items of fitting lengths, the first items first. Every item must
    /// find a place; places that no item takes stay empty.
    package init(_ lengths: [Int], shapes: [RowShape]) {
        var waiting = itemsByLength(lengths)
        var rows = [Int](repeating: -1, count: lengths.count), count = 0
        for shape in shapes {
            for _ in 0..<shape.count {
                for length in shape.lengths {
                    guard let item = waiting[length]?.popLast() else { continue }
                    rows[item] = count
                }
                count += 1
            }
        }
        precondition(!rows.contains(-1), "the shapes leave items out")
        self.init(rows: rows, count: count)
    }
}

/// `count` rows that hold one item of each of `lengths`.
package struct RowShape: Equatable, Sendable {
    package var count: Int
    package var lengths: [Int]
}

/// `result[length]` items have that length.
func histogram(_ lengths: [Int], _ capacity: Int) -> [Int] {
    var counts = [Int](repeating: 0, count: capacity + 1)
    for length in lengths { counts[length] += 1 }
    return counts
}

/// The items of each length, the first one last, so that `popLast` takes them in order.
func itemsByLength(_ lengths: [Int]) -> [Int: [Int]] {
    var items: [Int: [Int]] = [:]
    for item in lengths.indices.reversed() { items[lengths[item], default: []].append(item) }
    return items
}

/// Cuts each document of `stream` to rows of `sequence`: full rows, and rests that packing has to place.
package func packedRows(_ stream: TokenStream, sequence: Int, method: PackingMethod) -> RowTable {
    if method == .concatenate { return RowTable(sequence: sequence, cutting: stream.length) }
    var table = RowTable(sequence: sequence)
    var rests: [Piece] = []
    for document in stream.documents.indices {
        var begin = stream.starts[document]
        let end = stream.starts[document + 1]
        while end - begin >= sequence {
            table.append([Piece(position: begin, count: sequence)])
            begin += sequence
        }
        if begin < end { rests.append(Piece(position: begin, count: end - begin)) }
    }
    table.append(rests, packed: Packing(rests.map(\.count), capacity: sequence, method: method))
    return table
}
