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
            kept = (0..<degree).map { rank in
                (0..<shares.chunkCount).reduce(0) { floats, chunk in
                    let (all, own) = (shares.columns(of: rank, chunk: chunk), shares.queries(of: rank, chunk: chunk))
                    return floats + padded(tokens * all * head) + padded(tokens * own * head) + padded(tokens * own)
                }
            }.max() ?? 0
            // Own tokens with all ranks' heads, qkv and outputs; all tokens with own heads: gradients of qkv, and of
            // the output.
            buffers = [local * shares.allColumns * head, local * shape.heads * head, tokens * columns * head,
                       tokens * queries * head]
        } else {
            longest = min(sequence, local)
            kept = 0
            // Keys and values that leave, those that come, gradients of them that leave and those that come: several of
            // each, which are under way while one is worked on, and no more than there are other ranks.
            let block = local * 2 * shape.keyHeads * head
            buffers = (0..<Self.ringBuffers).map { $0 % Self.ringDepth < degree - 1 ? block : 0 }
        }
    }

    /// Tasks of groups of any size up to `ranks`, of which each rank holds up to `cap` tokens: the most of each kind.
    /// Buffers are those of Ulysses, then those of the ring.
    public init(anyDegreeUpTo ranks: Int, _ shape: Recipe.ModelShape, cap: Int, sequence: Int) {
        var (kept, longest) = (0, min(sequence, cap))
        var buffers = Array(repeating: 0, count: Self.ulyssesBuffers + Self.ringBuffers)
        for degree in stride(from: 2, through: ranks, by: 1) {
            for method in [Recipe.ContextMethod.ulysses, .ring] {
                guard method == .ring || Self.dealsEvenly(shape, degree) else { continue }
                let own = SequenceMemory(shape, method: method, degree: degree, tokens: degree * cap,
                                         sequence: sequence)
                kept = max(kept, own.kept)
                longest = max(longest, own.longest)
                let first = method == .ulysses ? 0 : Self.ulyssesBuffers
                for (index, floats) in own.buffers.enumerated() {
                    buffers[first + index] = max(buffers[first + index], floats)
                }
            }
        }
        tokens = ranks * cap
        local = Self.local(2 * cap, degree: 2)
        (self.kept, self.longest, self.buffers) = (kept, longest, buffers)
    }

    public static let ulyssesBuffers = 4
    static let ringBuffers = 4 * ringDepth
    /// Ranks whose keys and values are on their way at a time.
    public static let ringDepth = 3

    /// Whether each of `degree` ranks gets as many heads, and no key/value head goes to more of them than it must.
    private static func dealsEvenly(_ shape: Recipe.ModelShape, _ degree: Int) -> Bool {
        shape.heads % degree == 0 && (shape.keyHeads % degree == 0 || degree % shape.keyHeads == 0)
    }

    /// Tokens of one rank at most: two chunks of an even cut.
    public static func local(_ tokens: Int, degree: Int) -> Int {
        degree == 1 ? tokens : (tokens + 2 * degree - 1) / (2 * degree) * 2
    }

    /// Floats of one rank's part in all, the kernels' scratch memory for `threads` threads included. `isRounded`: the
    /// operands of attention's products are bf16.
    public func floats(_ shape: Recipe.ModelShape, threads: Int, isRounded: Bool = false) -> Int {
        buffers.reduce(0) { $0 + padded($1) }
            + MemoryPlan.attentionFloats(shape, longest, threads: threads, isRounded: isRounded)
    }
}

extension Recipe {
    /// Whether each step's plan says how many ranks share which sequence.
    public var plansSequences: Bool { parallelism.contextDegree == 0 }

    /// Ranks that share a sequence; 1 where plans say it, for whatever is reckoned without one.
    public var contextDegree: Int { max(1, parallelism.contextDegree) }

    /// Tokens that a rank holds of a planned task.
    public var plannedCap: Int {
        training.maxTokensPerTask == 0 ? training.localBatchSize * training.sequenceLength : training.maxTokensPerTask
    }

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
    public func elementsPerToken(_ method: ContextMethod, degree: Int? = nil) -> Double {
        let degree = degree ?? contextDegree, ranks = Double(degree)
        guard method == .ulysses else { return 4.5 * Double(model.keyHeads) * (ranks - 1) }
        let shares = HeadShares(heads: model.heads, keyHeads: model.keyHeads, degree: degree)
        return 2 * (ranks - 1) / ranks * Double(shares.allColumns + model.heads)
    }

    /// Bytes that a rank sends in the mean for `tokens` tokens that its group computes, were each row one document: a
    /// forward and a backward of all layers, and what recomputation exchanges again.
    public func sequenceBytes(tokens: Int) -> Int {
        contextDegree > 1 ? sequenceBytes(tokens: tokens, contextMethod, degree: contextDegree) : 0
    }

    /// The same for `degree` ranks that share them as `method` says.
    public func sequenceBytes(tokens: Int, _ method: ContextMethod, degree: Int) -> Int {
        let each = elementsPerToken(method, degree: degree), forward = each * (method == .ulysses ? 1 / 2 : 1 / 3)
        let again = activationCheckpoint.mode == .full ? Double(model.layers - 1) * forward : 0
        let heads = Double(model.layers) * each + again
        return Int(4 * heads * Double(model.headDim) * Double(tokens) / Double(degree))
    }

    /// Tokens that a group computes at once.
    public var tokensPerTask: Int { rowsPerTask * training.sequenceLength }

    /// Tokens of them that one rank holds at most.
    public var tokensPerRank: Int {
        plansSequences ? SequenceMemory.local(2 * plannedCap, degree: 2)
            : SequenceMemory.local(tokensPerTask, degree: contextDegree)
    }

    /// Nil where no sequence is shared.
    public func sequenceMemory(worldSize: Int) -> SequenceMemory? {
        if plansSequences, worldSize > 1 {
            return SequenceMemory(anyDegreeUpTo: worldSize, model, cap: plannedCap,
                                  sequence: training.sequenceLength)
        }
        guard contextDegree > 1 else { return nil }
        return SequenceMemory(model, method: contextMethod, degree: contextDegree, tokens: tokensPerTask,
                              sequence: training.sequenceLength)
    }

    /// Groups of ranks that compute different rows.
    public func groups(worldSize: Int) -> Int { max(1, worldSize / contextDegree) }

    /// Refuses what ranks that share sequences cannot do, or a number of ranks that they do not divide.
    public func requireContext(worldSize: Int) throws(BadInput) {
        try requirePlanner()
        try requireFault(worldSize: worldSize)
        if plansSequences { return try requirePlans(worldSize: worldSize) }
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

    /// Refuses what speaks of plans where none are made.
    func requirePlanner() throws(BadInput) {
        if planner.adapts, !planner.replay.isEmpty {
            throw BadInput("planner.adapt makes plans of its own, and planner.replay = \"\(planner.replay)\" takes "
                + "those of another run; take one of them")
        }
        guard !plansSequences else { return }
        for (key, isSet) in [("planner.adapt", planner.adapts), ("planner.replay", !planner.replay.isEmpty),
                             ("debug.slow_ranks", !debug.slowRanks.isEmpty)] where isSet {
            throw BadInput("\(key) is for planned steps; set parallelism.context_parallel_degree to \"auto\"")
        }
    }

    /// Refuses what ranks that do not have as many tasks cannot do.
    private func requirePlans(worldSize: Int) throws(BadInput) {
        let key = "parallelism.context_parallel_degree = \"auto\""
        if training.reproducible {
            throw BadInput("training.reproducible adds gradients up row by row, and with \(key) ranks share rows; take "
                + "one of them")
        }
        if !debug.slowRanks.isEmpty, debug.slowRanks.count != worldSize {
            throw BadInput("debug.slow_ranks has \(debug.slowRanks.count) numbers for \(worldSize) ranks; give one for "
                + "each")
        }
        let held = plannedCap * worldSize
        if training.sequenceLength > held {
            throw BadInput("training.max_tokens_per_task = \(plannedCap) lets \(worldSize) ranks hold \(held) tokens "
                + "together, and training.seq_len = \(training.sequenceLength); raise it, or use more ranks")
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
