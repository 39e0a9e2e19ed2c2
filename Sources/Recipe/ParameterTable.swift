/// Every parameter of a model, declared once. Offsets, gradient blocks, checkpoint names and shapes, decay
/// flags and initial values all derive from this table.
///
/// Names and shapes are Hugging Face Llama's: matrices are [out, in], row-major. Parameters lie one behind the
/// other in one flat vector; q, k and v (and gate and up) of a layer are neighbours without a gap, so that
/// each pair or triple is also one fused matrix. So are the biases of q, k and v, where a model has them.
public struct ParameterTable: Sendable, Equatable {
    public struct Parameter: Sendable, Equatable {
        public let name: String
        public let shape: [Int]
        /// Of the first element in the flat vector.
        public let offset: Int
        public let initial: Initial
        /// Whether weight decay applies: to matrices, not to gains and biases.
        public let decays: Bool
        /// The block whose backward finishes this gradient: see `blocks`.
        public let block: Int

        public var count: Int { shape.reduce(1, *) }
        public var range: Range<Int> { offset..<(offset + count) }
    }

    public enum Initial: Sendable, Equatable {
        case ones, zeros
        /// Normal with mean 0 and this standard deviation.
        case normal(Double)
    }

    public let parameters: [Parameter]
    /// Floats of the flat vector, padding included.
    public let count: Int
    /// The flat range of each block, in the order in which a forward uses them: embedding, layers, head.
    public let blocks: [Range<Int>]
    public let vocabulary: Int
    public let shape: Recipe.ModelShape

    /// Blocks begin on a cache line, and so does every matrix whose width is a multiple of 16.
    static let alignment = 16

    public init(_ shape: Recipe.ModelShape, vocabulary: Int) {
        self.shape = shape
        self.vocabulary = vocabulary
        var builder = Builder()
        let (dim, head) = (shape.dim, shape.headDim)
        // GPT-2's rule: what writes to the residual stream starts smaller, by the root of its number of writers.
        let small = Initial.normal(0.02 / Double(2 * shape.layers).squareRoot())
        builder.add("model.embed_tokens.weight", [vocabulary, dim], .normal(0.02))
        builder.endBlock()
        for layer in 0..<shape.layers {
            let prefix = "model.layers.\(layer)."
            builder.add(prefix + "input_layernorm.weight", [dim], .ones)
            builder.align()
            builder.add(prefix + "self_attn.q_proj.weight", [shape.heads * head, dim], .normal(0.02))
            builder.add(prefix + "self_attn.k_proj.weight", [shape.keyHeads * head, dim], .normal(0.02))
            builder.add(prefix + "self_attn.v_proj.weight", [shape.keyHeads * head, dim], .normal(0.02))
            builder.add(prefix + "self_attn.o_proj.weight", [dim, shape.heads * head], small)
            if shape.hasBias {
                builder.add(prefix + "self_attn.q_proj.bias", [shape.heads * head], .zeros)
                builder.add(prefix + "self_attn.k_proj.bias", [shape.keyHeads * head], .zeros)
                builder.add(prefix + "self_attn.v_proj.bias", [shape.keyHeads * head], .zeros)
            }
            builder.add(prefix + "post_attention_layernorm.weight", [dim], .ones)
            builder.align()
            builder.add(prefix + "mlp.gate_proj.weight", [shape.hiddenDim, dim], .normal(0.02))
            builder.add(prefix + "mlp.up_proj.weight", [shape.hiddenDim, dim], .normal(0.02))
            builder.add(prefix + "mlp.down_proj.weight", [dim, shape.hiddenDim], small)
            builder.endBlock()
        }
        builder.add("model.norm.weight", [dim], .ones)
        builder.align()
        if !shape.tieEmbeddings { builder.add("lm_head.weight", [vocabulary, dim], .normal(0.02)) }
        builder.endBlock()
        parameters = builder.parameters
        blocks = builder.blocks
        count = builder.offset
    }

    /// A table of the same parameters in other shapes, for state that is not shaped as they are; [0]: it has none.
    public func reshaped(_ shape: (_ number: Int) -> [Int]) -> ParameterTable { ParameterTable(self, shape) }

    private init(_ other: ParameterTable, _ shapes: (Int) -> [Int]) {
        (shape, vocabulary) = (other.shape, other.vocabulary)
        var builder = Builder()
        for (number, parameter) in other.parameters.enumerated() {
            while builder.blocks.count < parameter.block { builder.endBlock() }
            builder.align()
            builder.add(parameter.name, shapes(number), parameter.initial)
        }
        builder.endBlock()
        parameters = builder.parameters
        blocks = builder.blocks
        count = builder.offset
    }

    /// The blocks that hold the weights of the head, and their gradients.
    public var headBlocks: [Int] { shape.tieEmbeddings ? [blocks.count - 1, 0] : [blocks.count - 1] }

    /// The blocks whose weights a forward, and the loss or the backward after it, use one after the other.
    public func uses(backward: Bool) -> [Int] {
        let layers = 1..<(blocks.count - 1)
        return [0] + layers + headBlocks + (backward ? layers.reversed() : [])
    }

    /// Values that are trained: without padding.
    public var parameterCount: Int { parameters.reduce(0) { $0 + $1.count } }

    /// Parameters of matrix products, once for each token: all but the embedding's look-up. The count that
    /// FLOPs are reckoned with (Kaplan et al., 2001.08361: 6 a parameter and token).
    public var multipliedCount: Int {
        parameterCount - (shape.tieEmbeddings ? 0 : vocabulary * shape.dim)
    }

    /// Floating-point operations of forward and backward for one token that looks back at `context` tokens in the
    /// mean: 6 a multiplied parameter, and 12 layers x width x context for attention's two products.
    public func flopsPerToken(context: Double) -> Double {
        6 * Double(multipliedCount) + attentionFlopsPerToken(context: context)
    }

    /// Attention's part of it, and the head's.
    func attentionFlopsPerToken(context: Double) -> Double {
        12 * Double(shape.layers * shape.heads * shape.headDim) * context
    }
    func headFlopsPerToken(vocabulary: Int) -> Double { 6 * Double(vocabulary * shape.dim) }

    /// The same in causal rows of `sequence` tokens, whose mean context is half of that.
    public func flopsPerToken(sequence: Int) -> Double { flopsPerToken(context: Double(sequence) / 2) }

    /// Operations of the forward that recomputation does again for one token: they are time, but no progress, so
    /// they never count as achieved. The last layer's are still there, and `full` leaves the down projection out.
    public func recomputedFlopsPerToken(context: Double, _ mode: Recipe.Recomputation) -> Double {
        let (dim, width) = (shape.dim, shape.heads * shape.headDim)
        let gateUp = 2 * Double(2 * shape.hiddenDim * dim)
        let projections = dim * (2 * width + 2 * shape.keyHeads * shape.headDim)
        let attention = 2 * Double(projections) + 4 * Double(width) * context
        let layer: Double = switch mode {
        case .none: 0
        case .selective: gateUp
        case .full: gateUp + attention
        }
        return layer * Double(shape.layers - 1)
    }

    public subscript(_ name: String) -> Parameter {
        guard let found = parameters.first(where: { $0.name == name }) else {
            preconditionFailure("no parameter \(name)")
        }
        return found
    }

    private struct Builder {
        var parameters: [Parameter] = []
        var blocks: [Range<Int>] = []
        var offset = 0
        var blockStart = 0

        mutating func add(_ name: String, _ shape: [Int], _ initial: Initial) {
            parameters.append(Parameter(name: name, shape: shape, offset: offset, initial: initial,
                                        decays: shape.count > 1, block: blocks.count))
            offset += shape.reduce(1, *)
        }

        mutating func align() {
            offset = (offset + ParameterTable.alignment - 1) / ParameterTable.alignment * ParameterTable.alignment
        }

        mutating func endBlock() {
            align()
            blocks.append(blockStart..<offset)
            blockStart = offset
        }
    }
}
