package struct SparseEntry: Sendable {
    package var row: Int
    package var value: Double

    package init(row: Int, value: Double) {
        self.row = row
        self.value = value
    }
}

/// The x >= 0 that minimises |A x - b|, by Lawson and Hanson's active-set method ("Solving Least Squares
/// Problems", 1974, algorithm NNLS). A is given by its sparse columns. The columns in use are kept as the
/// Cholesky factor of their normal equations, which grows and shrinks by one column at a time; their number
/// never exceeds b's length.
package func nonNegativeLeastSquares(_ columns: [[SparseEntry]], _ b: [Double]) -> [Double] {
    var solver = ActiveSet(columns, b)
    let scale = b.reduce(0) { max($0, $1.magnitude) }
    // Each step lowers the residual, so it ends; the bound only guards against rounding at the very end.
    for _ in 0..<(3 * max(b.count, columns.count)) {
        guard let best = solver.steepest(above: 1e-9 * scale), solver.add(best), solver.settle() else {
            break
        }
    }
    return solver.x
}

private struct ActiveSet {
    private let columns: [[SparseEntry]]
    private let b: [Double]
    private(set) var x: [Double]
    /// Columns in use, in the order of the factor's rows.
    private var used: [Int] = []
    private var isUsed: [Bool]
    /// The lower triangle of L with L L^T = A_used^T A_used, row after row.
    private var factor: [[Double]] = []

    init(_ columns: [[SparseEntry]], _ b: [Double]) {
        self.columns = columns
        self.b = b
        x = Array(repeating: 0, count: columns.count)
        isUsed = Array(repeating: false, count: columns.count)
    }

    /// The unused column along which the residual falls fastest.
    func steepest(above threshold: Double) -> Int? {
        var residual = b
        for column in used {
            for entry in columns[column] { residual[entry.row] -= entry.value * x[column] }
        }
        var best = threshold, index: Int?
        for column in columns.indices where !isUsed[column] {
            var slope = 0.0
            for entry in columns[column] { slope += entry.value * residual[entry.row] }
            if slope > best { (best, index) = (slope, column) }
        }
        return index
    }

    /// False when the column depends on those in use, which only rounding makes look steep.
    mutating func add(_ column: Int) -> Bool {
        var row = used.map { dot(columns[$0], columns[column]) }
        for i in row.indices {
            var sum = row[i]
            for j in 0..<i { sum -= factor[i][j] * row[j] }
            row[i] = sum / factor[i][i]
        }
        let square = dot(columns[column], columns[column])
        let rest = square - row.reduce(0) { $0 + $1 * $1 }
        guard rest > 1e-10 * square else { return false }
        factor.append(row + [rest.squareRoot()])
        used.append(column)
        isUsed[column] = true
        return true
    }

    /// Moves x to the least-squares solution over the columns in use, dropping columns that reach zero on
    /// the way. False when the column just added reached zero at once: it was steep by rounding only.
    mutating func settle() -> Bool {
        let added = used[used.count - 1]
        while true {
            let goal = solution()
            // How far towards its goal each falling column can go before it is zero.
            let limits = zip(used, goal).map { $1 > 0 ? Double.infinity : x[$0] / (x[$0] - $1) }
            let fraction = limits.reduce(1, min)
            for (i, column) in used.enumerated() { x[column] += fraction * (goal[i] - x[column]) }
            guard limits.contains(where: { $0.isFinite }) else { return true }
            for i in used.indices.reversed() where limits[i] <= fraction { drop(i) }
            if !isUsed[added] { return false }
        }
    }

    /// L L^T z = A_used^T b.
    private func solution() -> [Double] {
        var z = used.map { column in columns[column].reduce(0) { $0 + $1.value * b[$1.row] } }
        for i in z.indices {
            var sum = z[i]
            for j in 0..<i { sum -= factor[i][j] * z[j] }
            z[i] = sum / factor[i][i]
        }
        for i in z.indices.reversed() {
            z[i] /= factor[i][i]
            for j in 0..<i { z[j] -= factor[i][j] * z[i] }
        }
        return z
    }

    /// Takes row `index` out of the factor; plane rotations make the rows below triangular again.
    private mutating func drop(_ index: Int) {
        isUsed[used[index]] = false
        x[used[index]] = 0
        used.remove(at: index)
        factor.remove(at: index)
        for k in index..<used.count {
            let a = factor[k][k], c = factor[k][k + 1]
            let length = (a * a + c * c).squareRoot()
            for i in k..<used.count {
                let p = factor[i][k], q = factor[i][k + 1]
                factor[i][k] = (a * p + c * q) / length
                factor[i][k + 1] = (a * q - c * p) / length
            }
            factor[k].removeLast()
        }
    }

    private func dot(_ a: [SparseEntry], _ b: [SparseEntry]) -> Double {
        var sum = 0.0
        for left in a {
            for right in b where right.row == left.row { sum += left.value * right.value }
        }
        return sum
    }
}
