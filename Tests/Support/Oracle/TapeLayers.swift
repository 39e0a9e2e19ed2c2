#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The operations of a transformer in Llama's layout.
extension Tape {
    /// gain * x / sqrt(mean(x^2) + epsilon), row by row. gain: one row.
    package func rmsNorm(_ x: Value, gain: Value, epsilon: Double) -> Value {
        let width = x.columns, data = self[x], gains = self[gain]
        let inverse = (0..<x.rows).map { row in
            let squares = data[(row * width)..<(row * width + width)].reduce(0) { $0 + $1 * $1 }
            return 1 / (squares / Double(width) + epsilon).squareRoot()
        }
        let out = data.indices.map { gains[$0 % width] * data[$0] * inverse[$0 / width] }
        return record(out, rows: x.rows, columns: width) { tape, gradient in
            var dX = [Double](repeating: 0, count: data.count), dGain = [Double](repeating: 0, count: width)
            for row in 0..<x.rows {
                let r = inverse[row], elements = (row * width)..<(row * width + width)
                let along = elements.reduce(0) { $0 + gradient[$1] * gains[$1 % width] * data[$1] }
                for i in elements {
                    dX[i] = gradient[i] * gains[i % width] * r - data[i] * r * r * r * along / Double(width)
                    dGain[i % width] += gradient[i] * data[i] * r
                }
            }
            tape.add(dX, to: x)
            tape.add(dGain, to: gain)
        }
    }

    /// Rotary positions by halves: in each head of `headDim` columns the pair (j, j + headDim / 2) turns by
    /// position * theta^(-2 j / headDim). Row t has position (first + t) mod period.
    package func rotary(_ x: Value, headDim: Int, theta: Double, first: Int = 0, period: Int,
                        scaled: @escaping (Double) -> Double = { $0 }) -> Value {
        func turn(_ data: [Double], _ direction: Double) -> [Double] {
            var out = data
            for row in 0..<x.rows {
                for head in stride(from: row * x.columns, to: (row + 1) * x.columns, by: headDim) {
                    for pair in 0..<(headDim / 2) {
                        let frequency = scaled(pow(theta, -2 * Double(pair) / Double(headDim)))
                        let angle = direction * Double((first + row) % period) * frequency
                        let a = data[head + pair], b = data[head + pair + headDim / 2]
                        out[head + pair] = a * cos(angle) - b * sin(angle)
                        out[head + pair + headDim / 2] = b * cos(angle) + a * sin(angle)
                    }
                }
            }
            return out
        }
        return record(turn(self[x], 1), rows: x.rows, columns: x.columns) { tape, gradient in
            tape.add(turn(gradient, -1), to: x)
        }
    }

    /// gate * sigmoid(gate) * up.
    package func swiGLU(gate: Value, up: Value) -> Value {
        let g = self[gate], u = self[up]
        let s = g.map { 1 / (1 + exp(-$0)) }
        return record(g.indices.map { g[$0] * s[$0] * u[$0] }, rows: gate.rows, columns: gate.columns) { tape, d in
            tape.add(g.indices.map { d[$0] * u[$0] * s[$0] * (1 + g[$0] * (1 - s[$0])) }, to: gate)
            tape.add(g.indices.map { d[$0] * g[$0] * s[$0] }, to: up)
        }
    }

    /// The sum over rows of -log softmax(logits)[target], in nats; rows whose target is negative count nothing.
    package func crossEntropy(_ logits: Value, targets: [Int]) -> Value {
        let width = logits.columns, data = self[logits]
        var loss = 0.0
        var softmax = [Double](repeating: 0, count: data.count)
        for (row, target) in targets.enumerated() where target >= 0 {
            let elements = (row * width)..<(row * width + width)
            let largest = data[elements].reduce(-Double.infinity, max)
            for i in elements { softmax[i] = exp(data[i] - largest) }
            let sum = softmax[elements].reduce(0, +)
            for i in elements { softmax[i] /= sum }
            loss += log(sum) + largest - data[row * width + target]
        }
        return record([loss], rows: 1, columns: 1) { tape, gradient in
            var dLogits = softmax.map { $0 * gradient[0] }
            for (row, target) in targets.enumerated() where target >= 0 { dLogits[row * width + target] -= gradient[0] }
            tape.add(dLogits, to: logits)
        }
    }

    /// Causal softmax attention. q: [T, heads * headDim]; k, v: [T, keyHeads * headDim]. Query head h reads key
    /// head h / (heads / keyHeads). starts: where segments begin, and T at the end; a token sees its own segment
    /// up to itself.
    package func attention(q: Value, k: Value, v: Value, heads: Int, keyHeads: Int, starts: [Int]) -> Value {
        let head = q.columns / heads, wide = q.columns, narrow = k.columns
        let (query, key, value) = (self[q], self[k], self[v])
        let scale = 1 / Double(head).squareRoot()
        /// Calls `visit` with a query's first element, its keys' first elements, and their weights.
        func forEachQuery(_ visit: (_ at: Int, _ keys: [Int], _ weights: [Double]) -> Void) {
            for (start, end) in zip(starts, starts.dropFirst()) {
                for token in start..<end {
                    for h in 0..<heads {
                        let at = token * wide + h * head
                        let keys = (start...token).map { $0 * narrow + h / (heads / keyHeads) * head }
                        let scores = keys.map { dot(query, at, key, $0, head) * scale }
                        let largest = scores.reduce(-Double.infinity, max)
                        let weights = scores.map { exp($0 - largest) }
                        let sum = weights.reduce(0, +)
                        visit(at, keys, weights.map { $0 / sum })
                    }
                }
            }
        }
        var out = [Double](repeating: 0, count: query.count)
        forEachQuery { at, keys, weights in
            for (k, weight) in zip(keys, weights) {
                for i in 0..<head { out[at + i] += weight * value[k + i] }
            }
        }
        return record(out, rows: q.rows, columns: wide) { tape, gradient in
            var dQuery = [Double](repeating: 0, count: query.count)
            var dKey = [Double](repeating: 0, count: key.count), dValue = dKey
            forEachQuery { at, keys, weights in
                let dWeights = keys.map { dot(gradient, at, value, $0, head) }
                let mean = zip(weights, dWeights).reduce(0) { $0 + $1.0 * $1.1 }
                for (j, k) in keys.enumerated() {
                    let dScore = weights[j] * (dWeights[j] - mean) * scale
                    for i in 0..<head {
                        dQuery[at + i] += dScore * key[k + i]
                        dKey[k + i] += dScore * query[at + i]
                        dValue[k + i] += weights[j] * gradient[at + i]
                    }
                }
            }
            tape.add(dQuery, to: q)
            tape.add(dKey, to: k)
            tape.add(dValue, to: v)
        }
    }
}

private func dot(_ a: [Double], _ i: Int, _ b: [Double], _ j: Int, _ count: Int) -> Double {
    var sum = 0.0
    for offset in 0..<count { sum += a[i + offset] * b[j + offset] }
    return sum
}
