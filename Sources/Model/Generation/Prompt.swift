import Recipe
import Tensor

/// Memory for reading a prompt at once. T tokens; workers have a token tile's rows each.
struct PromptMemory: Sendable {
    let tokens: Int
    let residual: Matrix         // [T, D]
    let qkv: Matrix              // [T, C]
    let attended: Matrix         // [T, H * headDim]
    let logSum: Matrix           // [H, T]
    let attention: Matrix        // [threads, scratch]
    let workers: Matrix          // [threads, tile rows x (D + 3F + 1)]

    private static func workerFloats(_ shape: Recipe.ModelShape) -> Int {
        let rows = ActivationSlots.tileRows
        return Arena.padded(rows * shape.dim) + Arena.padded(rows * 2 * shape.hiddenDim)
            + Arena.padded(rows * shape.hiddenDim) + Arena.padded(rows)
    }

    static func floats(_ shape: Recipe.ModelShape, tokens: Int, threads: Int) -> Int {
        let attention = AttentionShape(shape)
        return Arena.padded(tokens * shape.dim) + Arena.padded(tokens * attention.fusedColumns)
            + Arena.padded(tokens * shape.heads * shape.headDim) + Arena.padded(shape.heads * tokens)
            + Arena.padded(threads * attention.scratchFloats(segment: tokens))
            + Arena.padded(threads * workerFloats(shape))
    }

    init(_ shape: Recipe.ModelShape, tokens: Int, threads: Int, memory: Arena) {
        let attention = AttentionShape(shape)
        self.tokens = tokens
        residual = memory.take(rows: tokens, columns: shape.dim)
        qkv = memory.take(rows: tokens, columns: attention.fusedColumns)
        attended = memory.take(rows: tokens, columns: shape.heads * shape.headDim)
        logSum = memory.take(rows: shape.heads, columns: tokens)
        self.attention = memory.take(rows: threads, columns: attention.scratchFloats(segment: tokens))
        workers = memory.take(rows: threads, columns: Self.workerFloats(shape))
    }

    /// One worker's rows for `count` tokens: normed [n, D], gateUp [n, 2F], hidden [n, F], inverse [n].
    func worker(_ number: Int, _ shape: Recipe.ModelShape, _ count: Int)
        -> (normed: Matrix, gateUp: Matrix, hidden: Matrix, inverse: Row) {
        let rows = ActivationSlots.tileRows, all = workers.row(number)
        let gateUp = Arena.padded(rows * shape.dim), hidden = gateUp + Arena.padded(rows * 2 * shape.hiddenDim)
        let inverse = hidden + Arena.padded(rows * shape.hiddenDim)
        return (Matrix(all.slice(0, count * shape.dim), rows: count, columns: shape.dim),
                Matrix(all.slice(gateUp, count * 2 * shape.hiddenDim), rows: count, columns: 2 * shape.hiddenDim),
                Matrix(all.slice(hidden, count * shape.hiddenDim), rows: count, columns: shape.hiddenDim),
                all.slice(inverse, count))
    }
}

extension Decoder {
    /// Reads a text's tokens before all others, as many as there is memory for, and returns the logits of the one after
    /// them: [V], good until the next call. The trainer's forward, tile by tile, that keeps keys and values and nothing
    /// else.
    public func read(_ tokens: [Int], text: Int = 0) -> Row {
        stream(tokens, text: text)
        return finish(prompt.residual.rows(tokens.count - 1, 1)).row(0)
    }

    /// The residual stream of all of them, in `prompt.residual`.
    func stream(_ tokens: [Int], text: Int = 0) {
        precondition(position(of: text) == 0, "a prompt comes before all other tokens")
        precondition(!tokens.isEmpty && tokens.count <= prompt.tokens, "a prompt of 1 to \(prompt.tokens) tokens")
        let count = tokens.count, tiles = Tiles(tokens: count)
        for (index, token) in tokens.enumerated() { model.embed(token, to: prompt.residual.row(index)) }
        for index in model.layers.indices {
            project(index, model.layers[index], tiles, caches[text])
            Targets.lend([0, Int32(count)], count: 2) { starts in
                attention(prompt.attended.rows(0, count), logSum: Matrix(prompt.logSum.all, rows: shape.heads,
                                                                         columns: count),
                          qkv: prompt.qkv.rows(0, count), shape: attentionShape, segments: Segments(starts),
                          scratch: prompt.attention, pool: pool)
            }
            feedForward(model.layers[index], tiles)
        }
        advance(text, by: count)
    }

    private func project(_ index: Int, _ layer: PackedModel.Layer, _ tiles: Tiles, _ cache: KeyValueCache) {
        let (shape, prompt, table, capacity) = (shape, prompt, rotaryTable, capacity)
        let flops = 2 * tiles.tokens * layer.qkv.rows * layer.qkv.columns
        pool.run(tiles.count, stage: "qkv", flops: flops) { tile, worker in
            let (start, count) = tiles.range(tile)
            let own = prompt.worker(worker, shape, count), qkv = prompt.qkv.rows(start, count)
            rmsNorm(own.normed, inverse: own.inverse, x: prompt.residual.rows(start, count), gain: layer.inputGain,
                    epsilon: Float(shape.normEpsilon))
            Gemm.times(qkv, own.normed, layer.qkv)
            if let bias = layer.qkvBias { addToRows(qkv, bias) }
            rotary(qkv.columns(0, (shape.heads + shape.keyHeads) * shape.headDim), table: table,
                   headDim: shape.headDim, firstPosition: start, period: capacity)
            for row in 0..<count { cache.store(qkv.row(row), layer: index, position: start + row) }
        }
    }

    private func feedForward(_ layer: PackedModel.Layer, _ tiles: Tiles) {
        let (shape, prompt) = (shape, prompt)
        let products = [layer.output, layer.gateUp, layer.down].reduce(0) { $0 + $1.rows * $1.columns }
        pool.run(tiles.count, stage: "mlp", flops: 2 * tiles.tokens * products) { tile, worker in
            let (start, count) = tiles.range(tile)
            let own = prompt.worker(worker, shape, count), residual = prompt.residual.rows(start, count)
            Gemm.times(residual, prompt.attended.rows(start, count), layer.output, accumulate: true)
            rmsNorm(own.normed, inverse: own.inverse, x: residual, gain: layer.middleGain,
                    epsilon: Float(shape.normEpsilon))
            Gemm.times(own.gateUp, own.normed, layer.gateUp)
            swiGLU(own.hidden, gateUp: own.gateUp)
            Gemm.times(residual, own.hidden, layer.down, accumulate: true)
        }
    }
}
