import Base
import Tensor
import Trainer

/// Causal attention without tiles, on the same GEMMs, in three ways that people write it: the weights [H, T, T] are
/// made in the forward and kept for the backward, as a model of several layers must. The name of each is that of the
/// bench line's ratio.
enum MaterialisedAttention: String, CaseIterable {
    /// The standard attention that FlashAttention's paper compares with (2205.14135, algorithms 0 and 3): every
    /// operation is done for all heads before the next one, as by a framework, so scores and slopes go through memory.
    case standard = "materialised_ratio_1k"
    /// The same operations head by head: a head's matrix may stay in the third cache.
    case headByHead = "materialised_by_head_ratio_1k"
    /// Head by head, with a softmax that does each row in one visit and never looks at the future, as llm.c has it.
    case causalRows = "materialised_causal_ratio_1k"

    /// One forward and backward over a document of `tokens`, on operands of its own.
    func run(_ setting: AttentionSetting, tokens: Int, _ pool: Pool) throws -> () -> Void {
        let shape = setting.shape
        let slopes = self == .standard ? shape.heads : pool.threads
        let operands = try AttentionOperands(
            shape, tokens: tokens, extra: (shape.heads + slopes) * Arena.padded(tokens * tokens))
        let work = MaterialisedWork(way: self, shape: shape, operands: operands,
                                    weights: operands.arena.take(rows: shape.heads * tokens, columns: tokens),
                                    slopes: operands.arena.take(rows: slopes * tokens, columns: tokens))
        return { withExtendedLifetime(operands.arena) { work.run(pool) } }
    }

    /// x = softmax(scale * x) with the future masked.
    fileprivate func softmax(_ x: Matrix, scale: Float) {
        if self == .causalRows {
            for t in 0..<x.rows {
                normalise(x.row(t).slice(0, t + 1), scale: scale)
                x.row(t).slice(t + 1, x.columns - t - 1).fill(0)
            }
            return
        }
        for t in 0..<x.rows { multiply(x.row(t), by: scale) }
        for t in 0..<x.rows { x.row(t).slice(t + 1, x.columns - t - 1).fill(-.infinity) }
        for t in 0..<x.rows { normalise(x.row(t), scale: 1) }
    }
}

private struct MaterialisedWork: Sendable {
    let way: MaterialisedAttention
    let shape: AttentionShape
    let operands: AttentionOperands
    let weights: Matrix    // [H * T, T]
    let slopes: Matrix     // [H * T, T], or [threads * T, T] where heads come one by one

    /// What is done to a head, in order. Key heads that several query heads share are summed by the last two.
    private static let forward: [@Sendable (MaterialisedWork, Int, Matrix) -> Void] = [
        { work, head, _ in Gemm.timesTransposed(work.weight(head), work.query(head), work.key(head)) },
        { work, head, _ in work.way.softmax(work.weight(head), scale: work.scale) },
        { work, head, _ in Gemm.times(work.head(work.operands.out, head), work.weight(head), work.value(head)) },
    ]
    private static let backward: [@Sendable (MaterialisedWork, Int, Matrix) -> Void] = [
        { work, head, _ in
            Gemm.transposedTimes(work.value(head, of: work.operands.dQKV), work.weight(head),
                                 work.head(work.operands.dOut, head))
        },
        { work, head, slope in Gemm.timesTransposed(slope, work.head(work.operands.dOut, head), work.value(head)) },
        { work, head, slope in softmaxBackward(slope, work.weight(head), scale: work.scale) },
        { work, head, slope in Gemm.times(work.query(head, of: work.operands.dQKV), slope, work.key(head)) },
        { work, head, slope in Gemm.transposedTimes(work.key(head, of: work.operands.dQKV), slope, work.query(head)) },
    ]

    func run(_ pool: Pool) {
        let tokens = operands.qkv.rows
        operands.dQKV.fill(0)
        for operations in [Self.forward, Self.backward] {
            guard way == .standard else {
                perform(operations, pool) { _, worker in slopes.rows(worker * tokens, tokens) }
                continue
            }
            for operation in operations { perform([operation], pool) { head, _ in slopes.rows(head * tokens, tokens) } }
        }
    }

    /// A task is one key head with its query heads, so that no two workers add to one gradient.
    private func perform(_ operations: [@Sendable (MaterialisedWork, Int, Matrix) -> Void], _ pool: Pool,
                         slope: @Sendable (_ head: Int, _ worker: Int) -> Matrix) {
        pool.run(shape.keyHeads) { keyHead, worker in
            for head in (keyHead * shape.group)..<((keyHead + 1) * shape.group) {
                for operation in operations { operation(self, head, slope(head, worker)) }
            }
        }
    }

    private var scale: Float { 1 / Float(shape.headDim).squareRoot() }
    private func weight(_ head: Int) -> Matrix { weights.rows(head * operands.qkv.rows, operands.qkv.rows) }
    private func head(_ x: Matrix, _ head: Int) -> Matrix { x.columns(head * shape.headDim, shape.headDim) }
    private func query(_ head: Int, of x: Matrix? = nil) -> Matrix { self.head(x ?? operands.qkv, head) }
    private func key(_ head: Int, of x: Matrix? = nil) -> Matrix {
        self.head(x ?? operands.qkv, shape.heads + head / shape.group)
    }
    private func value(_ head: Int, of x: Matrix? = nil) -> Matrix {
        self.head(x ?? operands.qkv, shape.heads + shape.keyHeads + head / shape.group)
    }
}

private func multiply(_ row: Row, by factor: Float) {
    for i in stride(from: 0, to: row.count, by: 16) { row[lanes: i] = row[lanes: i] * factor }
}

/// softmax(scale * row), in place.
private func normalise(_ row: Row, scale: Float) {
    if scale != 1 { multiply(row, by: scale) }
    multiply(row, by: 1 / exponentials(row, minus: maximum(row)))
}

/// d becomes scale * p * (d - p . d), row by row.
private func softmaxBackward(_ d: Matrix, _ p: Matrix, scale: Float) {
    for t in 0..<d.rows {
        let slope = d.row(t), weight = p.row(t)
        let pull = dot(slope, weight)
        for i in stride(from: 0, to: slope.count, by: 16) {
            slope[lanes: i] = (slope[lanes: i] - pull) * weight[lanes: i] * scale
        }
    }
}
