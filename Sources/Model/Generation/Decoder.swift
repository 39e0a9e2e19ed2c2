import Recipe
import Tensor

/// The same transformer, for writing: a prompt goes through it whole, then one token at a time.
///
/// Products have the trainer's bits: each element is the same chain over the same depth (`PackedMatrix`). Attention of
/// a single token adds in another order than the trainer's tiles, so logits agree to rounding. A prompt's attention is
/// the trainer's own.
public final class Decoder {
    public let capacity: Int
    public private(set) var position = 0
    let model: PackedModel
    let shape: Recipe.ModelShape
    let attentionShape: AttentionShape
    let rotaryTable: RotaryTable
    let cache: KeyValueCache
    let prompt: PromptMemory
    let pool: Pool
    private let residual, normed, hidden, attended, qkv, gateUp, logits: Matrix   // one row each
    /// [threads, rows of logits], in a decoder that scores.
    let scoring: Matrix?
    private let inverse: Row
    private let arena: Arena
    /// Hears of each token that `next` takes: a layer's number, and SwiGLU's linear branch [F], up's product.
    public var linearBranch: ((Int, Row) -> Void)?

    /// Floats that a decoder of `capacity` tokens takes, of which `prompt` are read at once; nil where the number
    /// itself is too large.
    public static func floats(_ table: ParameterTable, capacity: Int, prompt: Int, threads: Int) -> Int? {
        let shape = table.shape, headDim = shape.headDim
        // Far beyond any machine, and still far from the largest Int in every product below.
        let widest = max(shape.layers * shape.keyHeads * headDim, shape.heads * headDim + 2 * shape.hiddenDim)
        guard capacity >= 0, prompt >= 0, prompt <= capacity, capacity < 1 << 40 / max(widest, 1) else { return nil }
        let attention = AttentionShape(shape)
        let widths = [shape.dim, shape.dim, shape.hiddenDim, shape.heads * headDim, attention.fusedColumns,
                      2 * shape.hiddenDim, table.vocabulary, 1]
        return PackedModel.floats(table) + widths.reduce(0) { $0 + Arena.padded($1) }
            + KeyValueCache.floats(attention, layers: shape.layers, capacity: capacity)
            + PromptMemory.floats(shape, tokens: prompt, threads: threads)
            + RotaryTable.floats(positions: capacity, headDim: headDim)
    }

    /// Room for `capacity` tokens, of which there must be a number of `floats`; at most `longestPrompt` are read at
    /// once. `load` fills a row with a parameter's values. scores: for `score`, beside `scoringFloats`.
    public init(_ table: ParameterTable, capacity: Int, longestPrompt: Int, pool: Pool, scores: Bool = false,
                load: (ParameterTable.Parameter, Row) throws -> Void) throws {
        guard let floats = Decoder.floats(table, capacity: capacity, prompt: longestPrompt, threads: pool.threads)
        else { preconditionFailure("no machine holds \(capacity) tokens") }
        self.capacity = capacity
        self.pool = pool
        let shape = table.shape
        self.shape = shape
        attentionShape = AttentionShape(shape)
        let scoringFloats = scores ? Decoder.scoringFloats(table, threads: pool.threads) : 0
        arena = try Arena(name: "decoder", capacity: floats + scoringFloats)
        let memory = arena
        model = try PackedModel(table, memory: memory, load: load)
        func one(_ columns: Int) -> Matrix { memory.take(rows: 1, columns: columns) }
        (residual, normed, hidden) = (one(shape.dim), one(shape.dim), one(shape.hiddenDim))
        (attended, qkv) = (one(shape.heads * shape.headDim), one(attentionShape.fusedColumns))
        (gateUp, logits, inverse) = (one(2 * shape.hiddenDim), one(table.vocabulary), memory.take(1))
        cache = KeyValueCache(attentionShape, layers: shape.layers, capacity: capacity, memory: memory)
        prompt = PromptMemory(shape, tokens: longestPrompt, threads: pool.threads, memory: memory)
        scoring = scores ? memory.take(rows: pool.threads, columns: scoringFloats / pool.threads) : nil
        rotaryTable = RotaryTable(memory, positions: capacity, headDim: shape.headDim, theta: shape.ropeTheta,
                                  scaling: shape.rotaryScaling)
    }

    /// Forgets all tokens.
    public func reset() { position = 0 }

    /// Takes the next token and returns the logits of the one after it: [V], good until the next call.
    public func next(_ token: Int) -> Row {
        precondition(position < capacity, "the decoder holds \(capacity) tokens")
        model.embed(token, to: residual.row(0))
        for index in model.layers.indices { layer(index, model.layers[index]) }
        position += 1
        return finish(residual)
    }

    /// The logits behind the last token's residual stream, which is one row.
    func finish(_ last: Matrix) -> Row {
        norm(last, model.finalGain)
        multiply(normed, model.head, into: logits, stage: "head")
        return logits.row(0)
    }

    /// After a prompt was read at once.
    func advance(by tokens: Int) { position += tokens }

    private func norm(_ x: Matrix, _ gain: Row) {
        rmsNorm(normed, inverse: inverse, x: x, gain: gain, epsilon: Float(shape.normEpsilon))
    }

    private func multiply(_ x: Matrix, _ weight: PackedMatrix, into y: Matrix, stage: StaticString,
                          accumulate: Bool = false) {
        let (x, y) = (x.row(0), y.row(0))
        pool.run(weight.tiles, stage: stage, flops: 2 * weight.rows * weight.columns) { tile, _ in
            weight.multiply(x, into: y, tile: tile, accumulate: accumulate)
        }
    }

    private func layer(_ index: Int, _ layer: PackedModel.Layer) {
        let (position, cache, row, out) = (position, cache, qkv.row(0), attended.row(0))
        norm(residual, layer.inputGain)
        multiply(normed, layer.qkv, into: qkv, stage: "qkv")
        if let bias = layer.qkvBias { add(row, bias) }
        rotary(qkv.columns(0, (shape.heads + shape.keyHeads) * shape.headDim), table: rotaryTable,
               headDim: shape.headDim, firstPosition: position, period: capacity)
        cache.store(row, layer: index, position: position)
        pool.run(shape.keyHeads, stage: "attention") { keyHead, _ in
            cache.attend(out, qkv: row, layer: index, keyHead: keyHead, count: position + 1)
        }
        multiply(attended, layer.output, into: residual, stage: "attention output", accumulate: true)
        norm(residual, layer.middleGain)
        multiply(normed, layer.gateUp, into: gateUp, stage: "mlp")
        linearBranch?(index, gateUp.row(0).slice(shape.hiddenDim, shape.hiddenDim))
        swiGLU(hidden, gateUp: gateUp)
        multiply(hidden, layer.down, into: residual, stage: "mlp", accumulate: true)
    }
}

extension Recipe.ModelShape {
    /// The recipe's keys as the rotation takes them.
    var rotaryScaling: RotaryScaling {
        switch ropeScaling {
        case .none: .none
        case .linear: .linear(factor: ropeFactor)
        case .llama3: .llama3(factor: ropeFactor, low: ropeLowFactor, high: ropeHighFactor,
                              originalLength: Double(ropeOriginalLength))
        }
    }
}

extension AttentionShape {
    init(_ shape: Recipe.ModelShape) {
        self.init(heads: shape.heads, keyHeads: shape.keyHeads, headDim: shape.headDim)
    }
}
