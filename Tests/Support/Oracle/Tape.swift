/// Reverse-mode differentiation of matrices of Doubles: the oracle that hand-written backwards are held
/// against. Plain loops, no blocking, nothing shared with the code under test.
///
/// An operation computes its result at once and records how a gradient of the result flows back to its
/// arguments. `backward` walks the records from the last to the first. The operations of a transformer's
/// layers are in `TapeLayers.swift`.
package final class Tape {
    /// A matrix on the tape, rows x columns, row-major. A vector is a matrix of one row.
    package struct Value: Sendable {
        let index: Int
        package let rows: Int
        package let columns: Int
        package var count: Int { rows * columns }
    }

    private struct Node {
        let data: [Double]
        var gradient: [Double]
        /// Sends the gradient of this value on to what it was made of. Inputs have none.
        let pull: ((Tape, [Double]) -> Void)?
    }

    private var nodes: [Node] = []

    package init() {}

    /// A leaf.
    package func input(_ data: [Double], rows: Int, columns: Int) -> Value {
        record(data, rows: rows, columns: columns, pull: nil)
    }

    package subscript(_ value: Value) -> [Double] { nodes[value.index].data }

    /// The gradient that `backward` left at `value`.
    package func gradient(_ value: Value) -> [Double] { nodes[value.index].gradient }

    /// Fills all gradients of sum_i seed[i] * value[i].
    package func backward(_ value: Value, seed: [Double]) {
        precondition(seed.count == value.count, "a seed for every element")
        for index in nodes.indices { nodes[index].gradient = [Double](repeating: 0, count: nodes[index].data.count) }
        nodes[value.index].gradient = seed
        for index in (0...value.index).reversed() { nodes[index].pull?(self, nodes[index].gradient) }
    }

    func record(_ data: [Double], rows: Int, columns: Int, pull: ((Tape, [Double]) -> Void)?) -> Value {
        precondition(data.count == rows * columns, "\(data.count) values for \(rows) x \(columns)")
        nodes.append(Node(data: data, gradient: [], pull: pull))
        return Value(index: nodes.count - 1, rows: rows, columns: columns)
    }

    func add(_ gradient: [Double], to value: Value) {
        for index in gradient.indices { nodes[value.index].gradient[index] += gradient[index] }
    }
}

extension Tape {
    /// op(a) op(b), where op is the transpose if so asked.
    package func matmul(_ a: Value, transposeA: Bool = false, _ b: Value, transposeB: Bool = false) -> Value {
        let left = transposeA ? transposed(self[a], a.rows, a.columns) : self[a]
        let right = transposeB ? transposed(self[b], b.rows, b.columns) : self[b]
        let (m, k) = transposeA ? (a.columns, a.rows) : (a.rows, a.columns)
        let n = transposeB ? b.rows : b.columns
        precondition(k == (transposeB ? b.columns : b.rows), "matmul: shapes differ")
        return record(product(left, right, m, k, n), rows: m, columns: n) { tape, gradient in
            let dLeft = product(gradient, transposed(right, k, n), m, n, k)
            let dRight = product(transposed(left, m, k), gradient, k, m, n)
            tape.add(transposeA ? transposed(dLeft, m, k) : dLeft, to: a)
            tape.add(transposeB ? transposed(dRight, k, n) : dRight, to: b)
        }
    }

    package func add(_ a: Value, _ b: Value) -> Value {
        precondition(a.rows == b.rows && a.columns == b.columns, "add: shapes differ")
        return record(zip(self[a], self[b]).map(+), rows: a.rows, columns: a.columns) { tape, gradient in
            tape.add(gradient, to: a)
            tape.add(gradient, to: b)
        }
    }

    package func scale(_ a: Value, by factor: Double) -> Value {
        record(self[a].map { $0 * factor }, rows: a.rows, columns: a.columns) { tape, gradient in
            tape.add(gradient.map { $0 * factor }, to: a)
        }
    }

    /// The rows of `table` that `tokens` name: an embedding.
    package func gather(_ table: Value, tokens: [Int]) -> Value {
        let width = table.columns, data = self[table]
        let picked = tokens.flatMap { data[($0 * width)..<($0 * width + width)] }
        return record(picked, rows: tokens.count, columns: width) { tape, gradient in
            var dTable = [Double](repeating: 0, count: table.count)
            for (row, token) in tokens.enumerated() {
                for column in 0..<width { dTable[token * width + column] += gradient[row * width + column] }
            }
            tape.add(dTable, to: table)
        }
    }
}

/// a[m, k] b[k, n], in the plainest order that walks memory forwards.
package func product(_ a: [Double], _ b: [Double], _ m: Int, _ k: Int, _ n: Int) -> [Double] {
    var out: [Double] = []
    out.reserveCapacity(m * n)
    for i in 0..<m {
        var row = [Double](repeating: 0, count: n)
        for p in 0..<k {
            let left = a[i * k + p], right = b[(p * n)..<(p * n + n)]
            for (j, value) in right.enumerated() { row[j] += left * value }
        }
        out += row
    }
    return out
}

package func transposed(_ x: [Double], _ rows: Int, _ columns: Int) -> [Double] {
    var out = [Double](repeating: 0, count: rows * columns)
    for row in 0..<rows {
        for column in 0..<columns { out[column * rows + row] = x[row * columns + column] }
    }
    return out
}
