import Recipe

/// SOAP (2409.11321, algorithms 3 and 4) in Double, with the textbook's Gram-Schmidt.
struct SOAPReference {
    private struct State {
        var momentum: [Double]
        var variance: [Double]
        var left: Square
        var right: Square
        var leftBasis: Square
        var rightBasis: Square
    }

    private var states: [String: State] = [:]

    /// The direction of the matrix's update `number`; nil: it stays.
    mutating func direction(_ parameter: ParameterTable.Parameter, _ gradient: [Double],
                            _ settings: Recipe.Optimizer, _ number: Int) -> [Double]? {
        let (m, n) = (parameter.shape[0], parameter.shape[1]), zeros = Array(repeating: 0.0, count: m * n)
        var state = states[parameter.name] ?? State(momentum: zeros, variance: zeros, left: Square(m), right: Square(n),
                                                    leftBasis: .one(m), rightBasis: .one(n))
        defer { states[parameter.name] = state }
        var direction: [Double]?
        if number > 1 {
            let (b1, b2) = (settings.beta1, settings.beta2)
            state.momentum = zip(state.momentum, gradient).map { b1 * $0 + (1 - b1) * $1 }
            func rotated(_ x: [Double]) -> [Double] {
                product(product(state.leftBasis.values, x, m, m, n), state.rightBasis.transposed.values, m, n, n)
            }
            let turned = rotated(gradient)
            state.variance = zip(state.variance, turned).map { b2 * $0 + (1 - b2) * $1 * $1 }
            func correction(_ beta: Double) -> Double { 1 - (1..<number).reduce(1.0) { product, _ in product * beta } }
            let adam = zip(rotated(state.momentum), state.variance).map {
                $0 / correction(b1) / (($1 / correction(b2)).squareRoot() + settings.epsilon)
            }
            direction = product(product(state.leftBasis.transposed.values, adam, m, m, n), state.rightBasis.values,
                                m, n, n)
        }
        precondition(&state, gradient, settings.beta2, number, m, n)
        return direction
    }

    private func precondition(_ state: inout State, _ gradient: [Double], _ beta: Double, _ number: Int,
                              _ m: Int, _ n: Int) {
        var turned = gradient
        for i in 0..<m { for j in 0..<n { turned[j * m + i] = gradient[i * n + j] } }
        state.left.average(product(gradient, turned, m, n, m), beta)
        state.right.average(product(turned, gradient, n, m, n), beta)
        if number == 1 {
            for _ in 0..<8 {
                _ = state.leftBasis.refine(state.left)
                _ = state.rightBasis.refine(state.right)
            }
        } else if number % 10 == 1 {
            let rows = state.leftBasis.refine(state.left), columns = state.rightBasis.refine(state.right)
            let old = state.variance
            for i in 0..<m { for j in 0..<n { state.variance[i * n + j] = old[rows[i] * n + columns[j]] } }
        }
    }
}

private struct Square {
    let side: Int
    var values: [Double]

    init(_ side: Int) { (self.side, values) = (side, Array(repeating: 0, count: side * side)) }

    static func one(_ side: Int) -> Square {
        var one = Square(side)
        for i in 0..<side { one.values[i * side + i] = 1 }
        return one
    }

    var transposed: Square {
        var other = self
        for i in 0..<side { for j in 0..<side { other.values[j * side + i] = values[i * side + j] } }
        return other
    }

    func row(_ index: Int) -> [Double] { Array(values[(index * side)..<((index + 1) * side)]) }

    mutating func average(_ other: [Double], _ beta: Double) {
        values = zip(values, other).map { beta * $0 + (1 - beta) * $1 }
    }

    /// Rows become those of rows x matrix, orthonormal, by falling estimates of their eigenvalues.
    mutating func refine(_ matrix: Square) -> [Int] {
        let damping = 1e-3 * (0..<side).reduce(0) { $0 + matrix.values[$1 * side + $1] } / Double(side)
        let next = zip(product(values, matrix.values, side, side, side), values).map { $0 + damping * $1 }
        func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
        var rows = (0..<side).map { Array(next[($0 * side)..<(($0 + 1) * side)]) }
        let estimates = (0..<side).map { dot(rows[$0], row($0)) }
        let order = (0..<side).sorted { (estimates[$0], $1) > (estimates[$1], $0) }
        rows = order.map { rows[$0] }
        for i in 0..<side {
            for _ in 0..<2 {
                for j in 0..<i {
                    let share = dot(rows[i], rows[j])
                    rows[i] = zip(rows[i], rows[j]).map { $0 - share * $1 }
                }
                let length = dot(rows[i], rows[i]).squareRoot()
                rows[i] = rows[i].map { $0 / length }
            }
        }
        values = rows.flatMap { $0 }
        return order
    }
}

private func product(_ a: [Double], _ b: [Double], _ n: Int, _ depth: Int, _ m: Int) -> [Double] {
    var out = Array(repeating: 0.0, count: n * m)
    for i in 0..<n { for k in 0..<depth { for j in 0..<m { out[i * m + j] += a[i * depth + k] * b[k * m + j] } } }
    return out
}
