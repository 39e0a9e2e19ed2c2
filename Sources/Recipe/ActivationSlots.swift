/// Every block of floats that a forward and backward of at most `tokens` tokens needs, by name: a pure
/// function of the recipe, so that memory is known before any is asked for. `Model` carves its arena in this
/// order; `skein plan` adds it up.
public struct ActivationSlots: Sendable, Equatable {
    public struct Slot: Sendable, Equatable {
        public let name: String
        public let floats: Int
        /// How many of it exist: one for each layer, or one in all.
        public let copies: Int
        public let isPerLayer: Bool
        public var bytes: Int { floats * copies * 4 }
    }

    /// Rows of a token tile: the pool's unit of work. What a layer does with them stays in a core's own cache, and
    /// sixteen threads have work at a thousand tokens; weights are packed once for all tiles. A function of nothing, so
    /// that sums do not depend on the number of threads.
    public static let tileRows = 64

    /// Tokens that a weight's gradient takes at a time, for an input of so many columns: their packed copy is about
    /// 2 MiB, which all threads read from the shared cache.
    public static func packedTokens(width: Int) -> Int { max(512, (1 << 19) / width / 512 * 512) }

    public let slots: [Slot]
    public let head: HeadCut
    public let tokens: Int
    /// Floats of the blocks' packed weights that lie at the front of the logits' memory: all of them where the head is
    /// cut by words, which then packs its own elsewhere; otherwise none.
    public let weightsInLogits: Int

    /// `recomputation`: what layers share one slot of, because the backward makes it again layer by layer. `exchanged`:
    /// floats that each layer keeps of other ranks' tokens, where ranks share sequences. `precision`: of the linear
    /// layers; nil: fp32.
    public init(_ shape: Recipe.ModelShape, vocabulary: Int, tokens: Int,
                recomputation: Recipe.Recomputation = .none, exchanged: Int = 0, precision: PrecisionSetting? = nil) {
        self.tokens = tokens
        let dim = shape.dim, heads = shape.heads * shape.headDim
        let fused = (shape.heads + 2 * shape.keyHeads) * shape.headDim
        let tiles = (tokens + Self.tileRows - 1) / Self.tileRows
        head = HeadCut(vocabulary: vocabulary, tokens: tokens)
        var slots: [Slot] = []
        func layer(_ name: String, _ floats: Int) {
            slots.append(Slot(name: name, floats: floats, copies: shape.layers, isPerLayer: true))
        }
        func once(_ name: String, _ floats: Int) {
            slots.append(Slot(name: name, floats: floats, copies: 1, isPerLayer: false))
        }
        /// For each layer, unless the backward has the means to make it again.
        func kept(_ name: String, _ floats: Int, isMadeAgain: Bool) {
            isMadeAgain ? once(name, floats) : layer(name, floats)
        }
        // From forward to backward. The gradient of gateUp takes its own place in the backward.
        let full = recomputation == .full
        layer("input", tokens * dim)
        kept("inputInverse", tokens, isMadeAgain: full)
        kept("qkv", tokens * fused, isMadeAgain: full)
        if exchanged > 0 { kept("exchanged", exchanged, isMadeAgain: full) }
        kept("attended", tokens * heads, isMadeAgain: full)
        kept("logSum", tokens * shape.heads, isMadeAgain: full)
        kept("middle", tokens * dim, isMadeAgain: full)
        kept("middleInverse", tokens, isMadeAgain: full)
        kept("gateUp", tokens * 2 * shape.hiddenDim, isMadeAgain: recomputation != .none)
        // Shared by all layers, and by forward and backward.
        once("final", tokens * dim)
        once("finalInverse", tokens)
        once("normed", tokens * dim)
        once("hidden", tokens * shape.hiddenDim)
        once("dResidual", tokens * dim)
        once("dNormed", tokens * dim)
        once("dQKV", tokens * fused)
        once("dAttended", tokens * heads)
        once("dGains", tiles * dim)
        if shape.hasBias { once("dBiases", tiles * fused) }
        let quantised = precision.map { QuantisedSlots($0, shape, tokens: tokens) }
        let weights = max(Self.packedWeights(shape, head), quantised?.weights ?? 0)
        weightsInLogits = head.isByWords ? weights : 0
        once("packedWeights", weights - weightsInLogits)
        once("packedInput", max(Self.packedInput(shape, head, tokens: tokens), quantised?.input ?? 0))
        once("headShares", head.shares(dim: dim))
        once("headSums", head.sums)
        once("logits", max(head.logits, weightsInLogits))
        if let quantised, quantised.smoothing > 0 { layer("smoothing", quantised.smoothing) }
        self.slots = slots
    }

    /// Of the stage that has the most: a half of a block forward or backward, or the head of a small vocabulary.
    private static func packedWeights(_ shape: Recipe.ModelShape, _ head: HeadCut) -> Int {
        let dim = shape.dim, heads = shape.heads * shape.headDim, hidden = shape.hiddenDim
        let fused = (shape.heads + 2 * shape.keyHeads) * shape.headDim
        let attention = max(packedFloats(dim, fused) + packedFloats(heads, dim),
                            packedFloats(fused, dim) + packedFloats(dim, heads))
        let gateUp = packedFloats(dim, 2 * hidden)
        // Its backward may have to make gate and up again.
        let backward = packedFloats(dim, hidden) + packedFloats(2 * hidden, dim)
        let feedForward = gateUp + max(packedFloats(hidden, dim), backward)
        let words = head.vocabulary
        let whole = head.isByWords ? 0 : packedFloats(dim, words) + packedFloats(words, dim)
        return max(attention, feedForward, whole)
    }

    private static func packedInput(_ shape: Recipe.ModelShape, _ head: HeadCut, tokens: Int) -> Int {
        let widths = [shape.dim, shape.heads * shape.headDim, shape.hiddenDim]
        let layers = widths.map { packedFloats(min(tokens, packedTokens(width: $0)), $0) }
        return max(layers.max() ?? 0, head.isByWords ? packedFloats(head.chunkRows, shape.dim) : 0)
    }

    public func floats(_ name: String) -> Int {
        guard let slot = slots.first(where: { $0.name == name }) else { preconditionFailure("no slot \(name)") }
        return slot.floats
    }

    /// Floats of all slots, each rounded up to a cache line.
    public var totalFloats: Int { slots.reduce(0) { $0 + ($1.floats + 15) / 16 * 16 * $1.copies } }
}
