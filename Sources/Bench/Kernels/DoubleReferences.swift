#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The kernels' results in Double, by the plainest loops.
enum DoubleReference {
    /// a[m, k] b[n, k]^T.
    static func product(_ a: [Double], _ b: [Double], k: Int) -> [Double] {
        let m = a.count / k, n = b.count / k
        return (0..<(m * n)).map { index in
            (0..<k).reduce(0) { $0 + a[index / n * k + $1] * b[index % n * k + $1] }
        }
    }

    static func rmsNorm(_ x: [Double], _ gain: [Double], epsilon: Double) -> [Double] {
        let width = gain.count
        return x.indices.map { index in
            let row = index / width * width
            let squares = x[row..<(row + width)].reduce(0) { $0 + $1 * $1 }
            return gain[index % width] * x[index] / (squares / Double(width) + epsilon).squareRoot()
        }
    }

    /// Row t stands at position t; heads of `headDim`, pairs by halves.
    static func rotary(_ x: [Double], columns: Int, headDim: Int, theta: Double) -> [Double] {
        let half = headDim / 2
        return x.indices.map { index in
            let place = index % columns % headDim
            let angle = Double(index / columns) * pow(theta, -2 * Double(place % half) / Double(headDim))
            return place < half ? x[index] * cos(angle) - x[index + half] * sin(angle)
                : x[index] * cos(angle) + x[index - half] * sin(angle)
        }
    }

    static func swiGLU(_ gateUp: [Double], width: Int) -> [Double] {
        (0..<(gateUp.count / 2)).map { index in
            let gate = gateUp[index / width * 2 * width + index % width]
            return gate / (1 + exp(-gate)) * gateUp[index / width * 2 * width + width + index % width]
        }
    }

    /// The sum of the losses of rows of `vocabulary` logits.
    static func crossEntropy(_ logits: [Double], vocabulary: Int, target: (Int) -> Int) -> Double {
        stride(from: 0, to: logits.count, by: vocabulary).reduce(0) { sum, start in
            let row = logits[start..<(start + vocabulary)]
            let largest = row.reduce(-.infinity, max)
            return sum + log(row.reduce(0) { $0 + exp($1 - largest) }) + largest
                - row[start + target(start / vocabulary)]
        }
    }

    /// Causal attention of one segment; a row of qkv is `heads` queries, then `keyHeads` keys, then as many values.
    static func attention(_ qkv: [Double], heads: Int, keyHeads: Int, headDim: Int) -> [Double] {
        let columns = (heads + 2 * keyHeads) * headDim
        let tokens = qkv.count / columns
        var out = [Double](repeating: 0, count: tokens * heads * headDim)
        for head in 0..<heads {
            let keyColumn = (heads + head / (heads / keyHeads)) * headDim
            for t in 0..<tokens {
                let scores = (0...t).map { s in
                    (0..<headDim).reduce(0) { sum, i in
                        sum + qkv[t * columns + head * headDim + i] * qkv[s * columns + keyColumn + i]
                    } / Double(headDim).squareRoot()
                }
                let largest = scores.reduce(-.infinity, max)
                let weights = scores.map { exp($0 - largest) }
                let total = weights.reduce(0, +)
                for (s, weight) in weights.enumerated() {
                    for i in 0..<headDim {
                        let value = qkv[s * columns + keyColumn + keyHeads * headDim + i]
                        out[(t * heads + head) * headDim + i] += weight / total * value
                    }
                }
            }
        }
        return out
    }

    /// One step from the values in the order weights, momentum, variance, gradient.
    static func adamW(_ values: [[Double]], rate: Double, beta1: Double, beta2: Double, epsilon: Double,
                      decay: Double, correction1: Double, correction2: Double) -> [[Double]] {
        let gradient = values[3]
        let m = gradient.indices.map { beta1 * values[1][$0] + (1 - beta1) * gradient[$0] }
        let v = gradient.indices.map { beta2 * values[2][$0] + (1 - beta2) * gradient[$0] * gradient[$0] }
        let w = gradient.indices.map { i in
            values[0][i] * (1 - rate * decay)
                - rate * (m[i] / correction1) / ((v[i] / correction2).squareRoot() + epsilon)
        }
        return [w, m, v]
    }
}
