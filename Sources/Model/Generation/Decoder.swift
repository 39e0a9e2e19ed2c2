import Recipe
import Tensor

/// The same transformer, for writing: a prompt goes through it whole, then one token at a time.
///
/// Products have the trainer's bits: each element is the same chain over the same depth (`PackedMatrix`). Attention of
/// a single token adds in another order than the trainer's tiles, so logits agree to rounding. A prompt's attention is
/// the trainer's own.
///
/// Several texts may be written side by side: each has keys and values of its own, and their next tokens go through
/// the weights together, which are read once for all of them. A text's logits are the bits that it has alone.
public final class Decoder {
    /// Tokens of each text.
    public let capacity: Int
    /// Texts that are written side by side.
    public let texts: Int
    /// Tokens of each text so far.
    private var positions: [Int]
    /// Of the rows of one step, which text each is of.
    private var owners: [Int]
    let model: PackedModel
    let shape: Recipe.ModelShape
    let attentionShape: AttentionShape
    let rotaryTable: RotaryTable
    let caches: [KeyValueCache]
    let prompt: PromptMemory
    let pool: Pool
    private let residual, normed, hidden, attended, qkv, gateUp, logits: Matrix   // a row for each text
    /// [threads, rows of logits], in a decoder that scores.
    let scoring: Matrix?
    private let inverse: Row
    private let arena: Arena
    /// Hears of each token that `next` takes: a layer's number, and SwiGLU's linear branch [F], up's product.
    public var linearBranch: ((Int, Row) -> Void)?

    /// Floats that a decoder of `texts` texts takes, of `capacity` tokens each, of which `prompt` are read at once; nil
    /// where the number itself is too large.
    public static func floats(_ table: ParameterTable, texts: Int = 1, capacity: Int, prompt: Int,
                              threads: Int) -> Int? {
        let shape = table.shape, headDim = shape.headDim
        // Far beyond any machine, and still far from the largest Int in every product below.
        let widest = max(shape.layers * shape.keyHeads * headDim, shape.heads * headDim + 2 * shape.hiddenDim)
        guard capacity >= 0, prompt >= 0, prompt <= capacity, capacity < 1 << 40 / max(widest, 1),
              texts >= 1, texts <= 1 << 16 else { return nil }
        let attention = AttentionShape(shape)
        let widths = [shape.dim, shape.dim, shape.hiddenDim, shape.heads * headDim, attention.fusedColumns,
                      2 * shape.hiddenDim, table.vocabulary, 1]
        return PackedModel.floats(table) + widths.reduce(0) { $0 + Arena.padded(texts * $1) }
            + texts * KeyValueCache.floats(attention, layers: shape.layers, capacity: capacity)
            + PromptMemory.floats(shape, tokens: prompt, threads: threads)
            + RotaryTable.floats(positions: capacity, headDim: headDim)
    }

    /// Room for `capacity` tokens of each text, of which there must be a number of `floats`; at most `longestPrompt`
    /// are read at once. `load` fills a row with a parameter's values. scores: for `score`, beside `scoringFloats`.
    public init(_ table: ParameterTable, texts: Int = 1, capacity: Int, longestPrompt: Int, pool: Pool,
                scores: Bool = false, load: (ParameterTable.Parameter, Row) throws -> Void) throws {
        guard let floats = Decoder.floats(table, texts: texts, capacity: capacity, prompt: longestPrompt,
                                          threads: pool.threads)
        else { preconditionFailure("no machine holds \(texts) texts of \(capacity) tokens") }
        self.capacity = capacity
        self.texts = texts
        positions = Array(repeating: 0, count: texts)
        owners = Array(repeating: 0, count: texts)
        self.pool = pool
        let shape = table.shape
        self.shape = shape
        attentionShape = AttentionShape(shape)
        let scoringFloats = scores ? Decoder.scoringFloats(table, threads: pool.threads) : 0
        arena = try Arena(name: "decoder", capacity: floats + scoringFloats)
        let memory = arena
        model = try PackedModel(table, memory: memory, load: load)
        func each(_ columns: Int) -> Matrix { memory.take(rows: texts, columns: columns) }
        (residual, normed, hidden) = (each(shape.dim), each(shape.dim), each(shape.hiddenDim))
        (attended, qkv) = (each(shape.heads * shape.headDim), each(attentionShape.fusedColumns))
        (gateUp, logits, inverse) = (each(2 * shape.hiddenDim), each(table.vocabulary), memory.take(texts))
        let headShape = attentionShape
        caches = (0..<texts).map { _ in
            KeyValueCache(headShape, layers: shape.layers, capacity: capacity, memory: memory)
        }
        prompt = PromptMemory(shape, tokens: longestPrompt, threads: pool.threads, memory: memory)
        scoring = scores ? memory.take(rows: pool.threads, columns: scoringFloats / pool.threads) : nil
        rotaryTable = RotaryTable(memory, positions: capacity, headDim: shape.headDim, theta: shape.ropeTheta,
                                  scaling: shape.rotaryScaling)
    }

    /// Tokens of a text so far.
    public func position(of text: Int = 0) -> Int { positions[text] }

    /// Forgets all tokens of a text.
    public func reset(text: Int = 0) { positions[text] = 0 }

    /// Takes a text's next token and returns the logits of the one after it: [V], good until the next call.
    public func next(_ token: Int, text: Int = 0) -> Row {
        place(token, text, row: 0)
        step(rows: 1)
        return logits.row(0)
    }

    /// Takes the next tokens of several texts, each at most once, and returns the logits of those after them, a row
    /// each in the same order: [n, V], good until the next call.
    public func next(_ tokens: [(text: Int, token: Int)]) -> Matrix {
        precondition(tokens.count <= texts, "a token for each text at most")
        for (row, next) in tokens.enumerated() { place(next.token, next.text, row: row) }
        step(rows: tokens.count)
        return logits.rows(0, tokens.count)
    }

    private func place(_ token: Int, _ text: Int, row: Int) {
        precondition(positions[text] < capacity, "the decoder holds \(capacity) tokens of a text")
        precondition(!owners[..<row].contains(text), "two tokens of one text")
        owners[row] = text
        model.embed(token, to: residual.row(row))
    }

    private func step(rows: Int) {
        guard rows > 0 else { return }
        for index in model.layers.indices { layer(index, model.layers[index], rows) }
        for row in 0..<rows { positions[owners[row]] += 1 }
        _ = finish(residual.rows(0, rows))
    }

    /// The logits behind the residual stream of `last`, a row each.
    func finish(_ last: Matrix) -> Matrix {
        norm(last, model.finalGain)
        multiply(normed.rows(0, last.rows), model.head, into: logits, stage: "head")
        return logits.rows(0, last.rows)
    }

    /// After a prompt was read at once.
    func advance(_ text: Int, by tokens: Int) { positions[text] += tokens }

    private func norm(_ x: Matrix, _ gain: Row) {
        rmsNorm(normed.rows(0, x.rows), inverse: inverse.slice(0, x.rows), x: x, gain: gain,
                epsilon: Float(shape.normEpsilon))
    }

    private func multiply(_ x: Matrix, _ weight: PackedMatrix, into y: Matrix, stage: StaticString,
                          accumulate: Bool = false) {
        let y = y.rows(0, x.rows), flops = 2 * x.rows * weight.rows * weight.columns
        pool.run(weight.tiles, stage: stage, flops: flops) { tile, _ in
            weight.multiply(x, into: y, tile: tile, accumulate: accumulate)
        }
    }

    private func layer(_ index: Int, _ layer: PackedModel.Layer, _ rows: Int) {
        func own(_ matrix: Matrix) -> Matrix { matrix.rows(0, rows) }
        norm(own(residual), layer.inputGain)
        multiply(own(normed), layer.qkv, into: qkv, stage: "qkv")
        for row in 0..<rows { remember(index, layer, row) }
        attend(index, rows)
        multiply(own(attended), layer.output, into: residual, stage: "attention output", accumulate: true)
        norm(own(residual), layer.middleGain)
        multiply(own(normed), layer.gateUp, into: gateUp, stage: "mlp")
        if let linearBranch {
            for row in 0..<rows { linearBranch(index, gateUp.row(row).slice(shape.hiddenDim, shape.hiddenDim)) }
        }
        swiGLU(own(hidden), gateUp: own(gateUp))
        multiply(own(hidden), layer.down, into: residual, stage: "mlp", accumulate: true)
    }

    /// Turns a row's queries and keys to their position, and keeps its keys and values.
    private func remember(_ index: Int, _ layer: PackedModel.Layer, _ row: Int) {
        let own = qkv.rows(row, 1), position = positions[owners[row]]
        if let bias = layer.qkvBias { add(own.row(0), bias) }
        rotary(own.columns(0, (shape.heads + shape.keyHeads) * shape.headDim), table: rotaryTable,
               headDim: shape.headDim, firstPosition: position, period: capacity)
        caches[owners[row]].store(own.row(0), layer: index, position: position)
    }

    private func attend(_ index: Int, _ rows: Int) {
        let (heads, qkv, attended) = (shape.keyHeads, qkv, attended)
        let (caches, owners, positions) = (caches, owners, positions)
        pool.run(rows * heads, stage: "attention") { tile, _ in
            let row = tile / heads, text = owners[row]
            caches[text].attend(attended.row(row), qkv: qkv.row(row), layer: index, keyHead: tile % heads,
                                count: positions[text] + 1)
        }
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
