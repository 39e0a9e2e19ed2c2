import Base

/// Over how many ranks each part of the training state is cut; 1: every rank holds all of it.
///
/// ZeRO's stages (1910.02054, section 5) are four of the choices: (1, 1, 1), (1, 1, N), (1, N, N) and (N, N, N). The
/// others are InternEvo's (2401.09149) and AMSP's (2311.00257): whoever holds a piece of the parameters updates it, so
/// each count divides the next one, and the last divides the number of ranks.
public struct ShardCounts: Sendable, Hashable {
    public let parameters: Int
    public let gradients: Int
    public let optimizer: Int

    /// No part is cut.
    public static let whole = ShardCounts(parameters: 1, gradients: 1, optimizer: 1)

    public init(parameters: Int, gradients: Int, optimizer: Int) {
        precondition(parameters >= 1 && gradients % parameters == 0 && optimizer % gradients == 0,
                     "each part of the state is cut at least as finely as the one before it")
        (self.parameters, self.gradients, self.optimizer) = (parameters, gradients, optimizer)
    }

    public init(stage: Int, ranks: Int) {
        self.init(parameters: stage >= 3 ? ranks : 1, gradients: stage >= 2 ? ranks : 1,
                  optimizer: stage >= 1 ? ranks : 1)
    }

    /// For people: "parameters / 1, gradients / 4, optimizer state / 4".
    public var text: String { "parameters / \(parameters), gradients / \(gradients), optimizer state / \(optimizer)" }
}

extension Recipe {
    /// The counts for a job of `worldSize` ranks. Refuses those that do not fit it, or each other.
    public func shardCounts(worldSize: Int) throws(BadInput) -> ShardCounts {
        let own = parallelism, stage = ShardCounts(stage: own.zero, ranks: worldSize)
        func chosen(_ key: Int, _ standard: Int) -> Int { key == 0 ? standard : key }
        let parameters = chosen(own.shardParameters, stage.parameters)
        let gradients = chosen(own.shardGradients, max(stage.gradients, parameters))
        let optimizer = chosen(own.shardOptimizer, max(stage.optimizer, gradients))
        func require(_ divisor: Int, divides whole: Int, _ key: String, _ what: String) throws(BadInput) {
            guard whole % divisor != 0 else { return }
            throw BadInput("parallelism.\(key) = \(divisor) does not divide \(what) = \(whole)")
        }
        try require(parameters, divides: gradients, "shard_parameters", "parallelism.shard_gradients")
        try require(gradients, divides: optimizer, "shard_gradients", "parallelism.shard_optimizer")
        try require(optimizer, divides: worldSize, "shard_optimizer", "the number of ranks")
        return ShardCounts(parameters: parameters, gradients: gradients, optimizer: optimizer)
    }

    /// Bytes of a gradient's number on its way.
    public var gradientBytes: Int {
        switch communication.gradients {
        case .fp32: 4
        case .bf16: 2
        case .fp8: 1
        }
    }

    /// Bytes of an updated weight on its way to those who hold it: fp16 has a scale of fp32 for every 128.
    public var updatedBytes: Double { optimizer.masterWeights == .fp16 ? 2 + 4.0 / 128 : 4 }

    /// Micro-batches of a step over all ranks, where `training.reproducible` cuts them before they are shared out.
    public func grains(worldSize: Int) -> Int {
        let rows = rowsPerStep(worldSize: worldSize)
        return (rows + rowsPerTask - 1) / rowsPerTask
    }

    /// Refuses a number of ranks that `training.reproducible` knows no tree for.
    public func requireGrains(worldSize: Int) throws(BadInput) {
        guard training.reproducible else { return }
        let grains = grains(worldSize: worldSize)
        guard worldSize & (worldSize - 1) == 0, grains % worldSize == 0 else {
            throw BadInput("training.reproducible needs a power of two for a number of ranks, one that divides the "
                + "\(grains) micro-batches of a step (training.global_batch_size over training.local_batch_size); "
                + "there are \(worldSize) ranks")
        }
        guard training.matmul == .own else {
            throw BadInput("training.reproducible promises bits that training.matmul = \"openblas\" does not keep; "
                + "take one of them")
        }
    }
}
