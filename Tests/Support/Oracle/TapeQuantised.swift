/// A linear layer whose operands are rounded before each of its three products.
extension Tape {
    /// y = Q0(x) Q1(w)^T; then dX = Q2(dY) Q3(w) and dW = Q4(dY)^T Q5(x): a rounding changes values, and no derivative
    /// knows of it. `round` is given the operand's number, its values, and its shape.
    package func linear(_ x: Value, _ w: Value, round: @escaping (Int, [Double], Int, Int) -> [Double]) -> Value {
        let (tokens, input, output) = (x.rows, x.columns, w.rows)
        let (data, weight) = (self[x], self[w])
        let y = product(round(0, data, tokens, input), transposed(round(1, weight, output, input), output, input),
                        tokens, input, output)
        return record(y, rows: tokens, columns: output) { tape, dY in
            let dX = product(round(2, dY, tokens, output), round(3, weight, output, input), tokens, output, input)
            let dW = product(transposed(round(4, dY, tokens, output), tokens, output), round(5, data, tokens, input),
                             output, tokens, input)
            tape.add(dX, to: x)
            tape.add(dW, to: w)
        }
    }

    /// Matrices of one width, one below the other.
    package func stacked(_ parts: [Value]) -> Value {
        let all = parts.flatMap { self[$0] }
        return record(all, rows: parts.reduce(0) { $0 + $1.rows }, columns: parts[0].columns) { tape, gradient in
            var start = 0
            for part in parts {
                tape.add(Array(gradient[start..<(start + part.count)]), to: part)
                start += part.count
            }
        }
    }

    /// `count` columns of a matrix, from `first` on.
    package func columns(_ x: Value, _ first: Int, _ count: Int) -> Value {
        let data = self[x], width = x.columns
        let picked = (0..<x.rows).flatMap { data[($0 * width + first)..<($0 * width + first + count)] }
        return record(picked, rows: x.rows, columns: count) { tape, gradient in
            var dX = [Double](repeating: 0, count: x.count)
            for row in 0..<x.rows {
                for column in 0..<count { dX[row * width + first + column] = gradient[row * count + column] }
            }
            tape.add(dX, to: x)
        }
    }
}
