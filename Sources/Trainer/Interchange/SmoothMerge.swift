import Base
import Model
import Recipe
import Tensor

/// Smooth-SwiGLU by channel, merged into the weights of a model that was trained with it (2409.12517, section 4.4):
/// up's rows are multiplied by s, down's columns divided, so that whoever quantises the exported model meets channels
/// that are alike. s are powers of two: in F32 and BF16 the model computes what it did, to the bit.
///
/// In training s comes from each micro-batch. Here it comes from what the model says by itself: tokens are drawn from
/// its own distribution, from the beginning of a document on, and the linear branch is looked at meanwhile. No data are
/// needed, and the same checkpoint gives the same weights.
struct SmoothMerge {
    /// Tokens that are drawn.
    static let tokens = 256
    private let layers: [Smoothing]
    private let memory: Arena

    /// Nil where the model was not trained so.
    init?(_ model: LoadedModel, pool: Pool) throws {
        guard model.recipe.precision.checked?.smoothing == .channel else { return nil }
        let shape = model.recipe.model, width = shape.hiddenDim, count = Smoothing.floats(width)
        memory = try Arena(name: "factors of Smooth-SwiGLU",
                           capacity: shape.layers * (Arena.padded(count) + Arena.padded(width)))
        let memory = memory
        layers = (0..<shape.layers).map { _ in Smoothing(.channel, count: width, memory: memory.take(count)) }
        let peaks = (0..<shape.layers).map { _ in memory.take(width) }
        for row in peaks { row.fill(0) }
        let decoder = try Decoder(model.table, capacity: Self.tokens + 1, longestPrompt: 1, pool: pool) {
            try model.read($0, into: $1)
        }
        decoder.linearBranch = { layer, up in largerMagnitudes(peaks[layer], up) }
        let sampler = Sampler(temperature: 1, topK: 0, seed: 0), end = Int(model.tokenizer.endOfDocument)
        var token = end
        for index in 0..<Self.tokens {
            token = sampler.choose(decoder.next(token), counter: index)
            if token == end { decoder.reset() }
        }
        for (smoothing, row) in zip(layers, peaks) { smoothing.set(magnitudes: row) }
    }

    /// Merges into a parameter's weights what belongs there.
    func apply(to parameter: ParameterTable.Parameter, _ row: Row) {
        let parts = parameter.name.split(separator: ".")
        guard parts.count > 3, parts[3] == "mlp", let layer = Int(parts[2]) else { return }
        let matrix = Matrix(row, rows: parameter.shape[0], columns: parameter.shape[1])
        switch parts[4] {
        case "up_proj": layers[layer].merge(up: matrix)
        case "down_proj": layers[layer].merge(down: matrix)
        default: break
        }
    }

    /// The least and the largest factor.
    var range: ClosedRange<Float> {
        let all = layers.flatMap { $0.factors.array }
        return (all.min() ?? 1)...(all.max() ?? 1)
    }
}
