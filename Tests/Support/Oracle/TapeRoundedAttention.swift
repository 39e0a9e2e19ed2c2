#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

extension Tape {
    /// `attention` whose products have rounded operands: scaled queries, keys, values and weights forward; the output's
    /// gradient, weights and scores' gradients backward. Weights are 2^(score - shift), where the shift is the largest
    /// score among the first 64 keys: it decides where a weight lies between two numbers. The softmax itself, its
    /// denominators and what its backward subtracts are not rounded.
    package func roundedAttention(q: Value, k: Value, v: Value, heads: Int, keyHeads: Int, starts: [Int],
                                  round: @escaping (Double) -> Double) -> Value {
        let head = q.columns / heads, wide = q.columns, narrow = k.columns, temperature = 1 / Double(head).squareRoot()
        let (key, value) = (self[k].map(round), self[v].map(round))
        let query = self[q].map { round($0 * temperature / log(2.0)) }
        func dot(_ a: [Double], _ i: Int, _ b: [Double], _ j: Int) -> Double {
            (0..<head).reduce(0) { $0 + a[i + $1] * b[j + $1] }
        }
        /// Calls `visit` with a query's first element, its keys' first elements, and their scores.
        func forEachQuery(_ visit: (_ at: Int, _ keys: [Int], _ scores: [Double]) -> Void) {
            for (start, end) in zip(starts, starts.dropFirst()) {
                for token in start..<end {
                    for h in 0..<heads {
                        let keys = (start...token).map { $0 * narrow + h / (heads / keyHeads) * head }
                        let at = token * wide + h * head
                        visit(at, keys, keys.map { dot(query, at, key, $0) })
                    }
                }
            }
        }
        var out = [Double](repeating: 0, count: q.count)
        forEachQuery { at, keys, scores in
            let shift = scores.prefix(64).max() ?? 0, weights = scores.map { exp2($0 - shift) }
            let sum = weights.reduce(0, +)
            for (k, weight) in zip(keys, weights) {
                for i in 0..<head { out[at + i] += round(weight) * value[k + i] / sum }
            }
        }
        return record(out, rows: q.rows, columns: wide) { tape, gradient in
            var dQuery = [Double](repeating: 0, count: q.count)
            var dKey = [Double](repeating: 0, count: k.count), dValue = dKey
            let rounded = gradient.map(round)
            forEachQuery { at, keys, scores in
                let most = scores.max() ?? 0, logSum = most + log2(scores.reduce(0) { $0 + exp2($1 - most) })
                let pull = dot(gradient, at, out, at)
                for (k, score) in zip(keys, scores) {
                    let weight = exp2(score - logSum), slope = round(weight * (dot(rounded, at, value, k) - pull))
                    for i in 0..<head {
                        dQuery[at + i] += slope * key[k + i] * temperature
                        dKey[k + i] += slope * query[at + i] * log(2.0)
                        dValue[k + i] += round(weight) * rounded[at + i]
                    }
                }
            }
            tape.add(dQuery, to: q)
            tape.add(dKey, to: k)
            tape.add(dValue, to: v)
        }
    }
}
