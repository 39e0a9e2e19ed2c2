import Foundation

/// Causal attention of documents and its gradients in Double, by the definition.
struct DoubleAttention {
    private(set) var out: [Double]
    private(set) var slopes: [Double]

    init(_ each: SharedCase) {
        let qkv = each.values(each.tokens * each.columns, 1).map(Double.init)
        let dOut = each.values(each.tokens * each.wide, 2).map(Double.init)
        out = Array(repeating: 0, count: dOut.count)
        slopes = Array(repeating: 0, count: qkv.count)
        let head = each.headDim, scale = 1 / Double(head).squareRoot()
        var first = 0
        for length in each.lengths {
            for query in 0..<each.heads {
                let key = query / (each.heads / each.keyHeads)
                let columns = (query * head, (each.heads + key) * head, (each.heads + each.keyHeads + key) * head)
                for token in first..<(first + length) {
                    let (q, o) = (token * each.columns + columns.0, token * each.wide + query * head)
                    let seen = first...token
                    var weights = seen.map { other -> Double in
                        let k = other * each.columns + columns.1
                        return exp(scale * (0..<head).reduce(0.0) { $0 + qkv[q + $1] * qkv[k + $1] })
                    }
                    let total = weights.reduce(0, +)
                    var pull = 0.0
                    for (index, other) in seen.enumerated() {
                        weights[index] /= total
                        let v = other * each.columns + columns.2
                        for i in 0..<head { out[o + i] += weights[index] * qkv[v + i] }
                    }
                    for i in 0..<head { pull += dOut[o + i] * out[o + i] }
                    for (index, other) in seen.enumerated() {
                        let (k, v) = (other * each.columns + columns.1, other * each.columns + columns.2)
                        var slope = -pull
                        for i in 0..<head {
                            slope += dOut[o + i] * qkv[v + i]
                            slopes[v + i] += weights[index] * dOut[o + i]
                        }
                        slope *= weights[index] * scale
                        for i in 0..<head {
                            slopes[q + i] += slope * qkv[k + i]
                            slopes[k + i] += slope * qkv[q + i]
                        }
                    }
                }
            }
            first += length
        }
    }
}
