/// What the linear layers take of the activations' memory where their operands are quantised: weights and inputs as
/// `Tensor`'s dot products pack them, and the scales of both operands of each product.
struct QuantisedSlots {
    private let setting: PrecisionSetting
    private let shape: Recipe.ModelShape
    private let tokens: Int

    init(_ setting: PrecisionSetting, _ shape: Recipe.ModelShape, tokens: Int) {
        self.setting = setting
        self.shape = shape
        self.tokens = tokens
    }

    private var dim: Int { shape.dim }
    private var heads: Int { shape.heads * shape.headDim }
    private var fused: Int { (shape.heads + 2 * shape.keyHeads) * shape.headDim }
    private var hidden: Int { shape.hiddenDim }

    /// Of the stage that has the most.
    var weights: Int {
        let attention = max(forward(dim, fused) + forward(heads, dim), backward(fused, dim) + backward(dim, heads))
        let gateUp = forward(dim, 2 * hidden)
        // Its backward may have to make gate and up again.
        return max(attention, gateUp + max(forward(hidden, dim), backward(dim, hidden) + backward(2 * hidden, dim)))
    }

    /// A product of [T, depth] with a weight of depth x width: y, or dX.
    private func forward(_ depth: Int, _ width: Int) -> Int {
        product(depth, width, setting.operands.forwardInput, setting.operands.forwardWeight)
    }

    private func backward(_ depth: Int, _ width: Int) -> Int {
        product(depth, width, setting.operands.inputGradientOutput, setting.operands.inputGradientWeight)
    }

    private func product(_ depth: Int, _ width: Int, _ left: OperandSetting, _ right: OperandSetting) -> Int {
        dotFloats(depth, width) + right.scaleFloats(outer: width, depth: depth)
            + max(left.scaleFloats(outer: tokens, depth: depth), smoothScales)
    }

    /// Of the weight's gradient that has the most: a part of the tokens, packed, and the scales of all.
    var input: Int {
        let layers = [(dim, fused), (heads, dim), (dim, 2 * hidden), (hidden, dim)]
        return layers.map { input, output in
            dotFloats(min(tokens, ActivationSlots.quantisedTokens(width: input)), input)
                + max(setting.operands.weightGradientInput.scaleFloats(outer: input, depth: tokens), smoothScales)
                + setting.operands.weightGradientOutput.scaleFloats(outer: output, depth: tokens)
        }.max() ?? 0
    }

    /// For each layer: the factors of its channels or tokens, and the largest magnitude that is left.
    var smoothing: Int {
        switch setting.smoothing {
        case .none, .auto: 0
        case .channel: hidden + 1
        case .token: tokens + 1
        }
    }

    private var smoothScales: Int { smoothing == 0 ? 0 : smoothScaleFloats(smoothing - 1) }
}

/// A right operand of dot products: pairs of rows, strips of 64 columns.
func dotFloats(_ rows: Int, _ columns: Int) -> Int { packedFloats((rows + 1) / 2 * 2, columns) }

extension Recipe.ModelShape {
    /// Floats that one thread packs a left operand into, where operands are quantised: some tokens of the widest
    /// tensor, or some outputs over as many tokens as a weight's gradient takes at a time.
    public func quantisedTileFloats(tokens: Int) -> Int {
        let widths = [dim, heads * headDim, (heads + 2 * keyHeads) * headDim, 2 * hiddenDim]
        let depth = min(tokens, ActivationSlots.mostQuantisedTokens)
        return max(ActivationSlots.tileRows * dotRowFloats(widths.max() ?? 0), 96 * dotRowFloats(depth))
    }

    /// Linear layers whose operands are rounded: four in each block.
    public var linearLayers: Int { 4 * layers }
}

extension PrecisionSetting {
    /// Tensors of a linear layer whose largest magnitudes are noted: input, weight, gradient of the output.
    public static let tensors = 3

    /// Delayed scales of a model of so many linear layers, one for each such operand.
    public func delayedScales(_ shape: Recipe.ModelShape) -> Int {
        Operand.allCases.count { operands[$0].scaling == .delayed } * shape.linearLayers
    }

    /// Floats that one of them takes in a checkpoint: its history, and where that goes on, its factor, and what it
    /// passed over.
    public var scaleStateFloats: Int { history + 3 }

    /// What quantisation takes beside the activations' slots: for each thread a packed tile and the largest magnitudes
    /// that it has seen, those of all threads, the delayed scales as a checkpoint has them, and the weights that stay
    /// packed. `borrowed`: whose tiles lie elsewhere.
    public func floats(_ shape: Recipe.ModelShape, tokens: Int, threads: Int, keepsWeights: Bool,
                       borrowed: BorrowedLogits) -> Int {
        let noted = Self.tensors * shape.linearLayers
        return padded(threads * shape.quantisedTileFloats(tokens: tokens) - borrowed.tiles)
            + padded(threads * padded(noted))
            + padded(noted) + padded(delayedScales(shape) * scaleStateFloats)
            + (keepsWeights ? shape.layers * keptWeights(shape).reduce(0) { $0 + $1.floats } : 0)
    }

    /// What a model's blocks borrow of its logits' memory. `attention`: floats of attention's scratch; nil where it
    /// belongs to another strategy.
    public func borrowed(_ slots: ActivationSlots, _ shape: Recipe.ModelShape, tokens: Int, threads: Int,
                         attention: Int?) -> BorrowedLogits {
        BorrowedLogits(logits: slots.floats("logits"), taken: slots.weightsInLogits,
                       attention: roundsAttention ? attention ?? 0 : 0,
                       tiles: threads * shape.quantisedTileFloats(tokens: tokens))
    }

    /// What stays packed of a block's weights, in two bytes a number: of each linear layer, in the order of a forward,
    /// the operand of its forward and that of its input's gradient.
    public func keptWeights(_ shape: Recipe.ModelShape) -> [KeptWeight] {
        let dim = shape.dim, heads = shape.heads * shape.headDim
        let fused = (shape.heads + 2 * shape.keyHeads) * shape.headDim
        let layers = [(dim, fused), (heads, dim), (dim, 2 * shape.hiddenDim), (shape.hiddenDim, dim)]
        return layers.flatMap { input, output in
            [KeptWeight(depth: input, columns: output, operands.forwardWeight),
             KeptWeight(depth: output, columns: input, operands.inputGradientWeight)]
        }
    }
}

/// Memory of a packed weight that later micro-batches of the step find again.
public struct KeptWeight: Sendable, Equatable {
    public let scales: Int
    public let packed: Int
    /// A line that says whether it is packed, its scales, and itself.
    public var floats: Int { padded(1) + scales + padded(packed) }

    init(depth: Int, columns: Int, _ operand: OperandSetting) {
        scales = operand.scaleFloats(outer: columns, depth: depth)
        packed = dotFloats(depth, columns) / 2
    }
}

extension Recipe {
    /// Whether weights, which do not change within a step, stay packed from one micro-batch to the next: where there
    /// are several, of so few tokens that packing is a hundredth of the work or more. Not where memory is saved on
    /// weights: where ranks share them out, or keep them in fp16.
    public func keepsPackedWeights(worldSize: Int) -> Bool {
        let isPlanned = plansSequences && worldSize > 1, groups = groups(worldSize: worldSize)
        let share = (rowsPerStep(worldSize: worldSize) + groups - 1) / groups
        return precision.recipe != .fp32 && !isPlanned && share > rowsPerTask && tokensPerRank <= 1_024
            && parallelism.zero < 3 && optimizer.masterWeights == .fp32
    }
}

extension ActivationSlots {
    static let mostQuantisedTokens = 1_024

    /// Tokens whose share of a weight's gradient is summed at a time, where operands are quantised, for an input of so
    /// many columns: as in fp32, but the gradient's packed tile has to stay in a core's cache.
    public static func quantisedTokens(width: Int) -> Int { min(mostQuantisedTokens, packedTokens(width: width)) }
}

/// From one row of a packed left operand to the next.
func dotRowFloats(_ depth: Int) -> Int { ((depth + 1) / 2 * 2 + 15) / 16 * 16 + 16 }
