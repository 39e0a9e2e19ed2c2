import Base
import Tensor
import Trainer

/// Causal softmax over a whole matrix of scores [T, T], in two ways that people write it; the name of each is that of
/// the bench line's ratio.
enum MaterialisedSoftmax: String, CaseIterable {
    /// As a textbook or nanoGPT's plain path has it: scale, mask the future with -infinity, softmax over whole rows;
    /// each a pass over the matrix.
    case textbook = "materialised_ratio_1k"
    /// One pass a row that never looks at the future, as llm.c has it.
    case causal = "materialised_causal_ratio_1k"

    func forward(_ x: Matrix, scale: Float, ones: Row) {
        switch self {
        case .textbook:
            for t in 0..<x.rows { multiply(x.row(t), by: scale) }
            for t in 0..<x.rows { x.row(t).slice(t + 1, x.columns - t - 1).fill(-.infinity) }
            for t in 0..<x.rows { normalise(x.row(t), scale: 1, ones: ones) }
        case .causal:
            for t in 0..<x.rows {
                normalise(x.row(t).slice(0, t + 1), scale: scale, ones: ones)
                x.row(t).slice(t + 1, x.columns - t - 1).fill(0)
            }
        }
    }

    /// d becomes scale * p * (d - p . d), row by row.
    func backward(_ d: Matrix, _ p: Matrix, scale: Float) {
        for t in 0..<d.rows {
            let slope = d.row(t), weight = p.row(t)
            let pull = dot(slope, weight)
            for i in stride(from: 0, to: slope.count, by: 16) {
                slope[lanes: i] = (slope[lanes: i] - pull) * weight[lanes: i] * scale
            }
        }
    }
}

private func multiply(_ row: Row, by factor: Float) {
    for i in stride(from: 0, to: row.count, by: 16) { row[lanes: i] = row[lanes: i] * factor }
}

/// softmax(scale * row), in place.
private func normalise(_ row: Row, scale: Float, ones: Row) {
    var best = SIMD16<Float>(repeating: -.infinity)
    let whole = row.count / 16 * 16
    for i in stride(from: 0, to: whole, by: 16) { best = pointwiseMax(best, row[lanes: i]) }
    var largest = best.max()
    for i in whole..<row.count { largest = max(largest, row[i]) }
    for i in stride(from: 0, to: row.count, by: 16) { row[lanes: i] = (row[lanes: i] - largest) * scale }
    exponential(row, row)
    multiply(row, by: 1 / dot(row, ones.slice(0, row.count)))
}

/// Attention without tiles, on the same GEMMs: the weights of all heads, [H, T, T], are made in the forward and
/// kept for the backward, as a model of several layers must. Their slopes are a head's own.
func materialisedSeconds(_ setting: AttentionSetting, _ softmax: MaterialisedSoftmax, tokens: Int,
                         _ pool: Pool) throws -> Double {
    let shape = setting.shape, width = shape.headDim
    let operands = try AttentionOperands(
        shape, tokens: tokens, extra: (shape.heads + pool.threads) * Arena.padded(tokens * tokens) + tokens)
    let (memory, qkv) = (operands.arena, operands.qkv)
    let weights = memory.take(rows: shape.heads * tokens, columns: tokens)
    let slopes = memory.take(rows: pool.threads * tokens, columns: tokens)
    let ones = memory.take(tokens)
    ones.fill(1)
    let scale = 1 / Float(width).squareRoot()
    @Sendable func columns(_ head: Int) -> (query: Int, key: Int, value: Int) {
        let key = (shape.heads + head / shape.group) * width
        return (head * width, key, key + shape.keyHeads * width)
    }
    return medianSeconds(rounds: setting.rounds) { _ in
        operands.dQKV.fill(0)
        pool.run(shape.heads) { head, _ in
            let at = columns(head), p = weights.rows(head * tokens, tokens)
            Gemm.timesTransposed(p, qkv.columns(at.query, width), qkv.columns(at.key, width))
            softmax.forward(p, scale: scale, ones: ones)
            Gemm.times(operands.out.columns(at.query, width), p, qkv.columns(at.value, width))
        }
        pool.run(shape.keyHeads) { keyHead, worker in
            let d = slopes.rows(worker * tokens, tokens)
            for head in (keyHead * shape.group)..<((keyHead + 1) * shape.group) {
                let at = columns(head), p = weights.rows(head * tokens, tokens)
                let dOut = operands.dOut.columns(at.query, width)
                Gemm.transposedTimes(operands.dQKV.columns(at.value, width), p, dOut)
                Gemm.timesTransposed(d, dOut, qkv.columns(at.value, width))
                softmax.backward(d, p, scale: scale)
                Gemm.times(operands.dQKV.columns(at.query, width), d, qkv.columns(at.key, width))
                Gemm.transposedTimes(operands.dQKV.columns(at.key, width), d, qkv.columns(at.query, width))
            }
        }
    }
}
