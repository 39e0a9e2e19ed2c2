import Base
import Tensor
import Trainer

/// What attention is measured on.
public struct AttentionSetting: Sendable {
    public var sequence = 4_096
    public var heads = 8
    public var headDim = 64
    /// Key/value heads.
    public var keyHeads = 8
    public var threads = 1
    public var rounds = 5
    /// Documents packed into one row; empty: one of `sequence` tokens.
    public var lengths: [Int] = []

    public init() {}

    var documents: [Int] { lengths.isEmpty ? [sequence] : lengths }
    var shape: AttentionShape { AttentionShape(heads: heads, keyHeads: keyHeads, headDim: headDim) }

    /// What the bench holds at once: the operands of its row, of one with the same squares, and of its yardsticks.
    public var floats: Int {
        let each = 2 * (shape.fusedColumns + heads * headDim) + heads
        let longest = documents.reduce(0, +), rows = documents.count > 1 ? 2 : 1
        return rows * (longest * each + threads * shape.scratchFloats(segment: longest))
            + 4 * 1_024 * (each + 2 * 1_024 * max(heads, threads))
    }
}

/// Forward and backward of causal attention. FLOPs are those of an exact algorithm without recomputation: 2 products
/// forward and 4 backward over half of each document's square, 6 length^2 x heads x headDim in all.
///
/// Beside it, timed in turn: for packed documents, one document with the same sum of squares, which is what packing
/// promises; and over one document of 1,024 tokens, as ratios to this attention, our own materialised softmaxes and
/// the bare products that it cannot do without.
public func benchAttention(_ setting: AttentionSetting) throws -> BenchLine {
    let pool = Pool(threads: setting.threads)
    defer { pool.close() }
    let run = try attentionRun(setting, setting.documents, pool)
    let seconds = medianSeconds(rounds: setting.rounds) { _ in run() }
    let squares = setting.documents.reduce(0) { $0 + $1 * $1 }
    var line = BenchLine(bench: "attention", threads: setting.threads, seconds: seconds)
    line.add("sequence", setting.documents.reduce(0, +))
    line.add("documents", setting.documents.count)
    line.add("heads", setting.heads)
    line.add("head_dim", setting.headDim)
    line.add("kv_heads", setting.keyHeads)
    line.add("gflops", 6 * Double(squares) * Double(setting.heads * setting.headDim) / seconds / 1e9)
    line.add("peak_bytes", Machine.peakResidentBytes)
    if setting.documents.count > 1 {
        let one = try attentionRun(setting, [Int(Double(squares).squareRoot().rounded())], pool)
        line.add("over_prediction", medianRatios(rounds: setting.rounds, to: one, [run])[0])
    }
    let tiled = try attentionRun(setting, [1_024], pool)
    let materialised = try MaterialisedAttention.allCases.map { try $0.run(setting, tokens: 1_024, pool) }
    let products = try productsRun(setting, tokens: 1_024, pool)
    let ratios = medianRatios(rounds: setting.rounds, to: tiled, materialised + [products])
    for (way, ratio) in zip(MaterialisedAttention.allCases, ratios) { line.add(way.rawValue, ratio) }
    line.add("products_ratio_1k", ratios[materialised.count])
    return line
}

private func normalMatrix(_ memory: Arena, _ rows: Int, _ columns: Int, stream: UInt64) -> Matrix {
    let rng = CounterRNG(seed: 3, stream: stream)
    let made = memory.take(rows: rows, columns: columns)
    for index in 0..<made.all.count { made.all[index] = Float(rng.normalPair(at: UInt64(index)).0) }
    return made
}

/// Operands of one row of `tokens`.
struct AttentionOperands {
    let arena: Arena
    let qkv, out, dOut, dQKV, logSum: Matrix

    init(_ shape: AttentionShape, tokens: Int, extra: Int) throws {
        let wide = shape.heads * shape.headDim
        let sizes = [2 * tokens * shape.fusedColumns, 2 * tokens * wide, tokens * shape.heads, extra, 128]
        arena = try Arena(name: "bench attention", capacity: sizes.reduce(0) { $0 + Arena.padded($1) })
        qkv = normalMatrix(arena, tokens, shape.fusedColumns, stream: 0)
        dOut = normalMatrix(arena, tokens, wide, stream: 1)
        out = arena.take(rows: tokens, columns: wide)
        dQKV = arena.take(rows: tokens, columns: shape.fusedColumns)
        logSum = arena.take(rows: shape.heads, columns: tokens)
    }
}

/// One forward and backward over `documents` packed into a row, on operands of its own.
private func attentionRun(_ setting: AttentionSetting, _ documents: [Int], _ pool: Pool) throws -> () -> Void {
    let shape = setting.shape
    let floats = shape.scratchFloats(segment: documents.max() ?? 0)
    let operands = try AttentionOperands(shape, tokens: documents.reduce(0, +), extra: pool.threads * floats)
    let scratch = operands.arena.take(rows: pool.threads, columns: floats)
    var starts: [Int32] = [0]
    for length in documents { starts.append(starts[starts.count - 1] + Int32(length)) }
    return { [starts] in
        Targets.lend(starts, count: starts.count) { starts in
            attention(operands.out, logSum: operands.logSum, qkv: operands.qkv, shape: shape,
                      segments: Segments(starts), scratch: scratch, pool: pool)
            attentionBackward(operands.dQKV, dOut: operands.dOut, out: operands.out, logSum: operands.logSum,
                              qkv: operands.qkv, shape: shape, segments: Segments(starts), scratch: scratch, pool: pool)
        }
        withExtendedLifetime(operands.arena) {}
    }
}

/// The seven products of a forward and a backward over half of `tokens`' square, as multiply-adds on tiles that never
/// leave the first cache: the time that attention would take if softmax, copies and the diagonal's corners were free.
private func productsRun(_ setting: AttentionSetting, tokens: Int, _ pool: Pool) throws -> () -> Void {
    let shape = setting.shape, rows = 96, columns = 64
    let floats = Arena.padded(rows * shape.headDim) + Arena.padded(shape.headDim * columns)
        + Arena.padded(rows * columns)
    let memory = try Arena(name: "bench attention", capacity: pool.threads * floats)
    let tiles = (0..<pool.threads).map { _ in
        (queries: memory.take(rows: rows, columns: shape.headDim),
         keys: memory.take(rows: shape.headDim, columns: columns), scores: memory.take(rows: rows, columns: columns))
    }
    let products = 7 * tokens * tokens / 2 / (rows * columns)
    return {
        withExtendedLifetime(memory) {
            pool.run(shape.heads) { _, worker in
                let (queries, keys, scores) = tiles[worker]
                for _ in 0..<products { tileGemm(scores, queries, keys, accumulate: false) }
            }
        }
    }
}
