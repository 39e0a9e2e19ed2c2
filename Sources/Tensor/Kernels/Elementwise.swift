/// out += x, element by element. Rows of the same length that do not overlap.
public func add(_ out: Row, _ x: Row) {
    precondition(out.count == x.count, "add: rows of different length")
    for i in laneStarts(out.count) { out[lanes: i] = out[lanes: i] + x[lanes: i] }
}

/// Adds one row to every row: a bias. out: [T, C], bias: [C].
public func addToRows(_ out_TC: Matrix, _ bias: Row) {
    for t in 0..<out_TC.rows { add(out_TC.row(t), bias) }
}

/// sum = the sum of all rows, in ascending order: a bias's gradient. sum: [C], x: [T, C].
public func sumRows(_ sum: Row, _ x_TC: Matrix) {
    sum.fill(0)
    for t in 0..<x_TC.rows { add(sum, x_TC.row(t)) }
}

/// out += x * factor, element by element. Rows of the same length that do not overlap.
public func addScaled(_ out: Row, _ x: Row, _ factor: Float) {
    precondition(out.count == x.count, "addScaled: rows of different length")
    for i in laneStarts(out.count) { out[lanes: i] = out[lanes: i].fma(x[lanes: i], factor) }
}

/// sum_i a[i] * b[i] over sixteen chains, folded in a fixed order.
public func dot(_ a: Row, _ b: Row) -> Float {
    precondition(a.count == b.count, "dot: rows of different length")
    var chains = Lanes.zero
    for i in laneStarts(a.count) { chains = chains.fma(a[lanes: i], b[lanes: i]) }
    return chains.total
}

/// out: [T, D] = table[tokens]: the embedding's forward. tokens: T ids below the table's rows.
public func gatherRows(_ out_TD: Matrix, table table_VD: Matrix, tokens: Targets) {
    for t in 0..<out_TD.rows { out_TD.row(t).copy(table_VD.row(tokens[t])) }
}

/// dTable[tokens[t]] += dOut[t] for t in ascending order: the embedding's backward. Only columns `columns` are visited,
/// and of the words those whose id is `part` modulo `parts`, a power of two, so that the work can be split over threads
/// without two of them meeting.
public func scatterRows(_ dTable_VD: Matrix, dOut dOut_TD: Matrix, tokens: Targets, columns: Range<Int>,
                        part: Int = 0, of parts: Int = 1) {
    precondition(part >= 0 && part < parts && parts & (parts - 1) == 0, "scatterRows: no such part")
    for t in 0..<dOut_TD.rows {
        let word = tokens[t]
        guard word & (parts - 1) == part else { continue }
        add(dTable_VD.row(word).slice(columns.lowerBound, columns.count),
            dOut_TD.row(t).slice(columns.lowerBound, columns.count))
    }
}

/// The sum of all elements over sixty-four chains: as fast as memory gives them.
public func total(_ x: Row) -> Float {
    var a = Lanes.zero, b = Lanes.zero, c = Lanes.zero, d = Lanes.zero
    let whole = x.count / 64 * 64
    for i in stride(from: 0, to: whole, by: 64) {
        a += x[lanes: i]
        b += x[lanes: i + 16]
        c += x[lanes: i + 32]
        d += x[lanes: i + 48]
    }
    for i in stride(from: whole, to: x.count, by: 16) { a += x[lanes: i] }
    return ((a + b) + (c + d)).total
}
