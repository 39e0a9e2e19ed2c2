import Base
import Recipe
import Tensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The same transformer, one token at a time, for sampling: keys and values of the tokens so far are kept
/// (a "KV cache"), so a token costs its own forward and one look back, not the whole row again.
public final class Decoder {
    public let capacity: Int
    public private(set) var position = 0
    private let weights: Parameters
    private let shape: Recipe.ModelShape
    private let rotaryTable: RotaryTable
    private let keys: [Matrix]           // a layer: [capacity, K * headDim], rotated
    private let values: [Matrix]         // a layer: [capacity, K * headDim]
    private let residual, normed, hidden, attended, qkv, gateUp, logits: Matrix   // one row each
    private let inverse: Row
    private let scores: Row              // [capacity]
    private let arena: Arena

    /// Floats that a decoder of `capacity` tokens takes; nil where the number itself is too large.
    public static func floats(_ table: ParameterTable, capacity: Int) -> Int? {
        let shape = table.shape, headDim = shape.headDim
        // Far beyond any machine, and still far from the largest Int in every product below.
        guard capacity >= 0, capacity < 1 << 40 / max(shape.layers * shape.keyHeads * headDim, 1) else { return nil }
        let keyWidth = shape.keyHeads * headDim, heads = shape.heads * headDim
        let widths = [shape.dim, shape.dim, shape.hiddenDim, heads, heads + 2 * keyWidth, 2 * shape.hiddenDim,
                      table.vocabulary, 1, capacity]
        return widths.reduce(0) { $0 + Arena.padded($1) } + 2 * shape.layers * Arena.padded(capacity * keyWidth)
            + RotaryTable.floats(positions: capacity, headDim: headDim)
    }

    /// Room for `capacity` tokens, of which there must be a number of `floats`. `weights` are only read.
    public init(_ weights: Parameters, capacity: Int) throws(OutOfMemory) {
        self.weights = weights
        self.capacity = capacity
        let shape = weights.table.shape
        self.shape = shape
        let keyWidth = shape.keyHeads * shape.headDim, heads = shape.heads * shape.headDim
        guard let floats = Decoder.floats(weights.table, capacity: capacity) else {
            preconditionFailure("no machine holds \(capacity) tokens")
        }
        arena = try Arena(name: "decoder", capacity: floats)
        let memory = arena
        (residual, normed) = (memory.take(rows: 1, columns: shape.dim), memory.take(rows: 1, columns: shape.dim))
        hidden = memory.take(rows: 1, columns: shape.hiddenDim)
        attended = memory.take(rows: 1, columns: heads)
        qkv = memory.take(rows: 1, columns: heads + 2 * keyWidth)
        gateUp = memory.take(rows: 1, columns: 2 * shape.hiddenDim)
        logits = memory.take(rows: 1, columns: weights.table.vocabulary)
        inverse = memory.take(1)
        scores = memory.take(capacity)
        keys = (0..<shape.layers).map { _ in memory.take(rows: capacity, columns: keyWidth) }
        values = (0..<shape.layers).map { _ in memory.take(rows: capacity, columns: keyWidth) }
        rotaryTable = RotaryTable(memory, positions: capacity, headDim: shape.headDim, theta: shape.ropeTheta)
    }

    /// Takes the next token and returns the logits of the one after it: [V], good until the next call.
    public func next(_ token: Int) -> Row {
        precondition(position < capacity, "the decoder holds \(capacity) tokens")
        residual.row(0).copy(weights.embedding.row(token))
        for index in 0..<shape.layers { layer(index, weights.layers[index]) }
        norm(weights.finalGain)
        Gemm.timesTransposed(logits, normed, weights.head)
        position += 1
        return logits.row(0)
    }

    private func norm(_ gain: Row) {
        rmsNorm(normed, inverse: inverse, x: residual, gain: gain, epsilon: Float(shape.normEpsilon))
    }

    private func layer(_ index: Int, _ layer: Parameters.Layer) {
        let heads = shape.heads * shape.headDim, keyWidth = shape.keyHeads * shape.headDim
        norm(layer.inputGain)
        Gemm.timesTransposed(qkv, normed, layer.qkv)
        rotary(qkv.columns(0, heads + keyWidth), table: rotaryTable, headDim: shape.headDim,
               firstPosition: position, period: capacity)
        keys[index].row(position).copy(qkv.row(0).slice(heads, keyWidth))
        values[index].row(position).copy(qkv.row(0).slice(heads + keyWidth, keyWidth))
        for head in 0..<shape.heads { attend(head, keys[index], values[index]) }
        Gemm.timesTransposed(residual, attended, layer.output, accumulate: true)
        norm(layer.middleGain)
        Gemm.timesTransposed(gateUp, normed, layer.gateUp)
        swiGLU(hidden, gateUp: gateUp)
        Gemm.timesTransposed(residual, hidden, layer.down, accumulate: true)
    }

    /// One head's look back over all tokens so far, the newest included.
    private func attend(_ head: Int, _ keys: Matrix, _ values: Matrix) {
        let width = shape.headDim
        let keyHead = head / (shape.heads / shape.keyHeads)
        let query = qkv.row(0).slice(head * width, width)
        let scale = 1 / Float(width).squareRoot()
        var largest = -Float.infinity
        for t in 0...position {
            scores[t] = dot(query, keys.row(t).slice(keyHead * width, width)) * scale
            largest = max(largest, scores[t])
        }
        var total: Float = 0
        for t in 0...position {
            scores[t] = exp(scores[t] - largest)
            total += scores[t]
        }
        let out = attended.row(0).slice(head * width, width)
        out.fill(0)
        for t in 0...position { addScaled(out, values.row(t).slice(keyHead * width, width), scores[t] / total) }
    }
}

/// How a token is chosen from logits.
public struct Sampler: Sendable {
    /// 0 takes the likeliest token; 1 samples the model's own distribution.
    public var temperature: Double
    /// Only the `topK` likeliest tokens are considered; 0 means all.
    public var topK: Int
    public var rng: CounterRNG

    public init(temperature: Double, topK: Int, seed: Int) {
        self.temperature = temperature
        self.topK = topK
        rng = CounterRNG(seed: UInt64(seed), stream: 0x7361_6D70_6C65)
    }

    /// The token for draw number `counter`. Equal logits are taken in the order of their ids.
    public func choose(_ logits: Row, counter: Int) -> Int {
        let order = logits.array.enumerated().sorted { ($1.element, $0.offset) < ($0.element, $1.offset) }
        guard temperature > 0, let best = order.first?.element else { return order.first?.offset ?? 0 }
        let kept = topK > 0 ? order.prefix(topK) : order[...]
        let weights = kept.map { exp(Double($0.element - best) / temperature) }
        var rest = rng.uniform(at: UInt64(counter)) * weights.reduce(0, +)
        for (candidate, weight) in zip(kept, weights) {
            rest -= weight
            if rest < 0 { return candidate.offset }
        }
        return kept.first?.offset ?? 0
    }
}
