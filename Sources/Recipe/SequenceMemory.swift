import Base

/// What ranks that share sequences hold for it beside the rest of a step: a pure function of the recipe, as the slots
/// of the activations are. All in floats.
public struct SequenceMemory: Sendable, Equatable {
    /// Tokens of a task, and the most that one rank of its group holds of them.
    public let tokens: Int
    public let local: Int
    /// What each layer keeps of the others' tokens for its backward.
    public let kept: Int
    /// Where messages come and go.
    public let buffers: [Int]
    /// Tokens of the longest segment that a rank's attention kernels meet.
    public let longest: Int

    /// Tasks of up to `tokens` tokens, in rows of up to `sequence`, by groups of `degree` ranks.
    public init(_ shape: Recipe.ModelShape, method: Recipe.ContextMethod, degree: Int, tokens: Int, sequence: Int) {
        self.tokens = tokens
        local = Self.local(tokens, degree: degree)
        let head = shape.headDim
        if method == .ulysses {
            let shares = HeadShares(heads: shape.heads, keyHeads: shape.keyHeads, degree: degree)
            let columns = (0..<degree).map { shares.columns(of: $0) }.max() ?? 0
            let queries = (0..<degree).map { shares.queries(of: $0) }.max() ?? 0
            longest = min(sequence, tokens)
            kept = padded(tokens * columns * head) + padded(tokens * queries * head) + padded(tokens * queries)
            // Own tokens with all ranks' heads; all tokens with own heads: the gradient of qkv, and of the output.
            buffers = [local * shares.allColumns * head, tokens * columns * head, tokens * queries * head]
        } else {
            longest = min(sequence, local)
            kept = 0
            // Keys and values that leave, those that come, and gradients of them that leave, twice each, since one is
            // under way while the next is worked on; and gradients that come.
            buffers = Array(repeating: local * 2 * shape.keyHeads * head, count: 7)
        }
    }

    /// Tokens of one rank at most: two chunks of an even cut.
    public static func local(_ tokens: Int, degree: Int) -> Int {
        degree == 1 ? tokens : (tokens + 2 * degree - 1) / (2 * degree) * 2
    }

    /// Floats of one rank's part in all, the kernels' scratch memory for `threads` threads included.
    public func floats(_ shape: Recipe.ModelShape, threads: Int) -> Int {
        buffers.reduce(0) { $0 + padded($1) } + MemoryPlan.attentionFloats(shape, longest, threads: threads)
    }
}

extension Recipe {
    /// Ranks that share a sequence.
    public var contextDegree: Int { parallelism.contextDegree }

    /// How they share it: what moves fewer elements, of ways in which every rank has as much to do.
    public var contextMethod: ContextMethod {
        guard parallelism.contextMethod == .auto else { return parallelism.contextMethod }
        guard model.heads % contextDegree == 0 else { return .ring }
        let moved = [ContextMethod.ulysses, .ring].map { elementsPerToken($0) }
        return moved[0] <= moved[1] ? .ulysses : .ring
    }

    /// Heads that the ranks of a group send, all together, for a token of one long document: forward and backward of
    /// one layer. Ulysses: queries, keys and values there, outputs back; as much for the gradients. Ring: each rank
    /// needs all keys and values of those behind it and half of those before it (the mask is causal), forward and
    /// backward, and sends back gradients of as many.
    public func elementsPerToken(_ method: ContextMethod) -> Double {
        let ranks = Double(contextDegree)
        guard method == .ulysses else { return 4.5 * Double(model.keyHeads) * (ranks - 1) }
        let shares = HeadShares(heads: model.heads, keyHeads: model.keyHeads, degree: contextDegree)
        return 2 * (ranks - 1) / ranks * Double(shares.allColumns + model.heads)
    }

    /// Bytes that a rank sends in the mean for `tokens` tokens that its group computes, were each row one document: a
    /// forward and a backward of all layers, and what recomputation exchanges again.
    public func sequenceBytes(tokens: Int) -> Int {
        guard contextDegree > 1 else { return 0 }
        let forward = elementsPerToken(contextMethod) * (contextMethod == .ulysses ? 1 / 2 : 1 / 3)
        let again = activationCheckpoint.mode == .full ? Double(model.layers - 1) * forward : 0
        let heads = Double(model.layers) * elementsPerToken(contextMethod) + again
        return Int(4 * heads * Double(model.headDim) * Double(tokens) / Double(contextDegree))
    }

    /// Tokens that a group computes at once.
    public var tokensPerTask: Int { rowsPerTask * training.sequenceLength }

    /// Tokens of them that one rank holds at most.
    public var tokensPerRank: Int { SequenceMemory.local(tokensPerTask, degree: contextDegree) }

    /// Nil where no sequence is shared.
    public var sequenceMemory: SequenceMemory? {
        guard contextDegree > 1 else { return nil }
        return SequenceMemory(model, method: contextMethod, degree: contextDegree, tokens: tokensPerTask,
                              sequence: training.sequenceLength)
    }

    /// Groups of ranks that compute different rows.
    public func groups(worldSize: Int) -> Int { max(1, worldSize / contextDegree) }

    /// Refuses what ranks that share sequences cannot do, or a number of ranks that they do not divide.
    public func requireContext(worldSize: Int) throws(BadInput) {
        let degree = contextDegree
        guard degree > 1 else { return }
        guard worldSize % degree == 0 else {
            throw BadInput("parallelism.context_parallel_degree = \(degree) does not divide the number of ranks = "
                + "\(worldSize); start a multiple of \(degree) ranks, or set it to 1")
        }
        if training.reproducible {
            throw BadInput("training.reproducible adds gradients up row by row, and with "
                + "parallelism.context_parallel_degree = \(degree) ranks share rows; take one of them")
        }
        if contextMethod == .ulysses, model.heads < degree {
            throw BadInput("parallelism.context_parallel_method = \"ulysses\" deals out model.n_heads = \(model.heads) "
                + "heads, and \(degree) ranks share them; set it to \"ring\", or lower "
                + "parallelism.context_parallel_degree")
        }
        let shortest = shortestRow
        if shortest < degree {
            throw BadInput("parallelism.context_parallel_degree = \(degree) leaves some ranks without a token of a row "
                + "of \(shortest); lower it, or make rows longer")
        }
    }

    /// Inputs of the shortest row that a step can have.
    private var shortestRow: Int {
        let bucket = data.layout == .decompose ? data.minimumLength : training.sequenceLength
        let warmup = training.lengthWarmup
        switch warmup.method {
        case .none, .window: return bucket
        case .truncate, .reshape:
            let first = warmup.growth == .discrete ? Int(warmup.lengths.min() ?? Double(bucket)) : warmup.start
            return min(bucket, first)
        }
    }
}
