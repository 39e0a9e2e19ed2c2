import Base

extension Recipe {
    /// What single keys cannot know: whether they fit together. The error names the keys, and where at least one of
    /// them was given.
    func validate(_ resolved: ResolvedRecipe) throws(BadInput) {
        do throws(BadInput) {
            try checkTogether(resolved)
        } catch {
            throw resolved.placed(error)
        }
    }

    private func checkTogether(_ resolved: ResolvedRecipe) throws(BadInput) {
        func at(_ key: String) -> String {
            let origin = resolved.origin(key)
            return origin == .standard ? key : "\(origin): \(key)"
        }
        if model.headWidth == 0, model.dim % model.heads != 0 {
            throw BadInput("\(at("model.n_heads")) = \(model.heads) does not divide model.dim = \(model.dim)")
        }
        if model.headWidth % 2 != 0 {
            throw BadInput("\(at("model.head_dim")) = \(model.headWidth): heads are rotated in pairs; make it even")
        }
        if model.headDim % 2 != 0 {
            throw BadInput("\(at("model.n_heads")): heads of \(model.headDim) cannot be rotated in pairs; "
                + "model.dim / model.n_heads must be even")
        }
        if model.heads % model.keyHeads != 0 {
            throw BadInput("\(at("model.n_kv_heads")) = \(model.keyHeads) does not divide "
                + "model.n_heads = \(model.heads)")
        }
        if model.ropeScaling == .llama3, model.ropeHighFactor <= model.ropeLowFactor {
            throw BadInput("\(at("model.rope_high_freq_factor")) = \(model.ropeHighFactor) must be more than "
                + "model.rope_low_freq_factor = \(model.ropeLowFactor)")
        }
        let held = training.maxTokensPerTask * contextDegree
        if training.maxTokensPerTask != 0, held < training.sequenceLength, !plansSequences {
            let share = contextDegree == 1 ? "training.seq_len = \(training.sequenceLength)"
                : "\((training.sequenceLength + contextDegree - 1) / contextDegree), a "
                    + "parallelism.context_parallel_degree'th of training.seq_len"
            throw BadInput("\(at("training.max_tokens_per_task")) = \(training.maxTokensPerTask) is less than one row; "
                + "make it at least \(share)")
        }
        try validateName(at("job.name"), job.name)
        if metrics.tensorBoard { try validateName(at("metrics.save_tb_folder"), metrics.tensorBoardFolder) }
        if !metrics.prometheus.isEmpty, !metrics.prometheus.hasSuffix(".prom") {
            throw BadInput("\(at("metrics.prometheus")) = \"\(metrics.prometheus)\" must end in .prom, since the "
                + "collector reads no other files")
        }
        try validateNetwork(at)
        try validateFault(at)
        try validateElastic(at)
        try validateDecomposition(at)
        try validateLengthWarmup(at)
        try validatePrecision(at)
        if optimizer.name == .soap, optimizer.moments != .fp32 {
            throw BadInput("\(at("optimizer.moments")) = \"\(optimizer.moments.rawValue)\" is not for soap, whose "
                + "second moment lies along axes that turn; set it to \"fp32\", or take another optimizer.name")
        }
        if training.reproducible, communication.gradients != .fp32 {
            throw BadInput("\(at("comm.gradients")) = \"\(communication.gradients.rawValue)\" rounds what ranks send, "
                + "not what they keep, so sums depend on the number of ranks; training.reproducible promises that they "
                + "do not: take one of them")
        }
        // Beyond these the sums of a memory plan would overflow, and positions in a batch do not fit 32 bits.
        let tokens = Double(rowsPerTask) * Double(training.sequenceLength)
        if tokens >= Double(Int32.max) {
            throw BadInput("\(at("training.max_tokens_per_task")): \(Units.count(tokens)) tokens would be computed at "
                + "once; set it to less than 2^31")
        }
        let widths = Double(model.dim) * 6 + Double(model.hiddenDim) * 3
        if Double(model.layers) * widths * (tokens + Double(model.dim)) > 1e17 {
            throw BadInput("\(at("model.n_layers")): a model of \(model.layers) layers of width \(model.dim) fits no "
                + "machine; lower model.n_layers, model.dim or model.ffn_dim")
        }
    }

    private func validateNetwork(_ at: (String) -> String) throws(BadInput) {
        if !communication.bind.isEmpty, !communication.interface.isEmpty {
            throw BadInput("\(at("comm.interface")) = \"\(communication.interface)\" and comm.bind = "
                + "\"\(communication.bind)\" both say where to listen; keep one of them")
        }
        if !communication.portRange.isEmpty, communication.ports == nil {
            throw BadInput("\(at("comm.port_range")) = \"\(communication.portRange)\" is no range of ports; write for "
                + "example \"29400-29500\"")
        }
    }

    /// The name becomes a folder's name, so it must be one.
    private func validateName(_ place: String, _ name: String) throws(BadInput) {
        let allowed = name.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                || [0x2D, 0x2E, 0x5F].contains(byte)
        }
        if name.isEmpty || !allowed || name.hasPrefix(".") {
            throw BadInput("\(place) = \"\(name)\" cannot name a folder; use letters, digits, '-', '_' and '.'")
        }
    }

    /// Rows of the embedding for a tokenizer of so many ids.
    public func vocabulary(ofTokens tokens: Int) throws(BadInput) -> Int {
        guard model.vocabularySize != 0 else { return tokens }
        guard model.vocabularySize >= tokens else {
            throw BadInput("model.vocab_size = \(model.vocabularySize) is less than the \(tokens) ids of "
                + "data.tokenizer; make it at least \(tokens), or 0")
        }
        return model.vocabularySize
    }

    /// Rows of one micro-batch on one rank, or on the ranks that share sequences.
    public var rowsPerTask: Int {
        let cap = training.maxTokensPerTask == 0 ? training.localBatchSize
            : training.maxTokensPerTask * contextDegree / training.sequenceLength
        return max(1, min(training.localBatchSize, cap))
    }

    /// Rows of one optimizer step over all `worldSize` ranks.
    public func rowsPerStep(worldSize: Int) -> Int {
        training.globalBatchSize == 0 ? training.localBatchSize * groups(worldSize: worldSize)
            : training.globalBatchSize
    }

    /// Refuses a job in which some rank would have no row of a step. To be asked before ranks join each other.
    public func requireRows(worldSize: Int) throws(BadInput) {
        let rows = rowsPerStep(worldSize: worldSize), groups = plansSequences ? 1 : groups(worldSize: worldSize)
        guard rows >= groups else {
            let whom = contextDegree == 1 ? "ranks" : "groups of \(contextDegree) ranks"
            throw BadInput("training.global_batch_size = \(rows) leaves some of \(groups) \(whom) without a row; "
                + "make it at least \(groups)")
        }
        let shortest = data.layout == .decompose ? data.minimumLength : training.sequenceLength
        let most = Double(training.steps) * Double(rows) * Double(training.sequenceLength / max(shortest, 1))
        guard most < Double(UInt32.max) else {
            throw BadInput("training.steps = \(training.steps) could take \(Units.count(most)) rows of "
                + "\(shortest) tokens, and a position counts up to \(Units.grouped(Int(UInt32.max))); lower "
                + "training.steps, or make rows longer")
        }
    }

    /// The learning rate of a step (0 is the first): linear warm-up by steps, then, over the last `decay_ratio` of the
    /// steps, the decay by tokens down to `min_lr_factor` (2108.06084, section 3). `inputs`: how many tokens the first
    /// so many steps take, in any unit; where all steps take as many, the steps themselves will do.
    public func learningRate(at step: Int, inputs: (Int) -> Int = { $0 }) -> Double {
        let peak = optimizer.learningRate
        if step < schedule.warmupSteps { return peak * Double(step + 1) / Double(schedule.warmupSteps) }
        let stable = training.steps - Int((schedule.decayRatio * Double(training.steps)).rounded())
        let first = max(schedule.warmupSteps, stable)
        if step < first || stable == training.steps { return peak }
        let begin = inputs(first)
        let decaying = max(1, inputs(max(first, training.steps - 1)) - begin)
        let progress = min(1, Double(inputs(step) - begin) / Double(decaying))
        let low = schedule.minimumFactor
        switch schedule.decay {
        case .none: return peak
        case .linear: return peak * (1 - (1 - low) * progress)
        case .cosine: return peak * (low + (1 - low) * 0.5 * (1 + cosine(Double.pi * progress)))
        }
    }
}

extension Recipe.Communication {
    /// `comm.port_range` as numbers; nil where it is empty, or no range.
    public var ports: ClosedRange<Int>? {
        let ends = portRange.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
        guard ends.count == 2, let low = ends[0], let high = ends[1], low >= 1, low <= high,
              high <= 65_535 else { return nil }
        return low...high
    }
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

private func cosine(_ x: Double) -> Double { cos(x) }
