import Base
import Collectives
import Model
import Parallel
import Recipe
import Telemetry
import Tensor
import Trainer

/// From gradients on every rank to new weights on all, by the code that training runs: at stage 0 an all-reduce, then
/// the whole update on every rank; at stage 1 a reduce-scatter, then each rank's share of the update fused with the
/// gathering of the new weights (CoCoNet, 2105.05720, section 3). Clipping is on, so both wait for the norm.
///
/// With R the time of the all-reduce and A that of norm and update of everything, both measured on their own in the
/// same run, nothing fused can beat (R + A) / (R + A / N).
public struct UpdateBench {
    public var megabytes: Int
    public var rounds: Int
    public var transport: Recipe.TransportChoice

    public init(megabytes: Int, rounds: Int, transport: Recipe.TransportChoice = .auto) {
        self.megabytes = megabytes
        self.rounds = rounds
        self.transport = transport
    }

    /// About as many parameters, in layers and an embedding as a model has them.
    private var recipe: Recipe {
        var recipe = Recipe()
        recipe.job.name = "update"
        recipe.model.dim = 512
        recipe.model.heads = 8
        recipe.model.layers = max(1, megabytes / 16)
        recipe.training.maxNorm = 1
        recipe.communication.transport = transport
        return recipe
    }

    /// A line for each of `all-reduce`, `update`, `separate` and `fused`, on rank 0.
    public func run(_ setting: RankSetting, _ emit: (BenchLine) -> Void) throws {
        let recipe = recipe, threads = max(1, Machine.cores() / setting.localWorldSize)
        let layers = recipe.model.layers, whole = megabytes << 18
        let perLayer = ParameterTable(recipe.model, vocabulary: 1).blocks[1].count
        let vocabulary = max(64, (whole - layers * perLayer) / (2 * recipe.model.dim))
        let table = ParameterTable(recipe.model, vocabulary: vocabulary)
        let world = try World(joining: setting, recipe: recipe, dataFingerprint: "\(megabytes)", threads: threads)
        let pool = Pool(threads: threads, spin: setting.localWorldSize * threads <= Machine.cores())
        defer { pool.close() }
        var separate = recipe, fused = recipe
        separate.parallelism.zero = 0
        fused.parallelism.zero = 1
        let (separately, shared) = try (step(table, separate, pool, world), step(table, fused, pool, world))
        let alone = try ShardedStep(table, recipe: separate, pool: pool)
        var seconds: [[Double]] = [[], [], [], []]
        // One after the other in each round: the machine's moods meet all alike.
        for round in 0..<(rounds + 1) {
            for place in seconds.indices {
                try world.barrier()
                let start = MonotonicClock.seconds()
                if place != 1 { try reduce(place == 3 ? shared : separately) }
                if place != 0 { try update(place == 1 ? alone : place == 2 ? separately : shared, round) }
                try world.barrier()
                if round > 0 { seconds[place].append(MonotonicClock.seconds() - start) }
            }
        }
        let medians = seconds.map { $0.sorted()[$0.count / 2] }
        try world.leave()
        guard setting.rank == 0 else { return }
        let (reduced, updated) = (medians[0], medians[1])
        let bound = (reduced + updated) / (reduced + updated / Double(setting.worldSize))
        for (name, time) in zip(["all-reduce", "update", "separate", "fused"], medians) {
            var line = BenchLine(bench: "update", threads: threads, ranks: setting.worldSize, seconds: time)
            line.add("what", name)
            line.add("bytes", 4 * table.count)
            if name == "fused" {
                line.add("speedup", medians[2] / time)
                line.add("bound", bound)
                line.add("of_bound", medians[2] / time / bound)
            }
            emit(line)
        }
    }

    private func step(_ table: ParameterTable, _ recipe: Recipe, _ pool: Pool, _ world: World) throws -> ShardedStep {
        let step = try ShardedStep(table, recipe: recipe, pool: pool, communicator: world.communicator)
        try step.state.initialize(seed: 1)
        return step
    }

    /// What a backward leaves to do when its last block is ready. The gradient is whatever the last round left.
    private func reduce(_ step: ShardedStep) throws {
        step.beginForward(0, of: 1, tokens: .unknown, uses: [])
        _ = step.beginBackward(0, of: 1)
        for block in step.state.table.blocks.indices.reversed() {
            step.gradients.begin(block)
            step.gradients.ready(block)
        }
        step.endBackward(0, of: 1)
        try step.finish()
    }

    private func update(_ step: ShardedStep, _ round: Int) throws {
        let agreed = try step.update.agree(loss: 0, rate: 1e-3, stop: false)
        _ = try step.update.update(number: round + 1, rate: agreed.rate, norm: max(agreed.norm, 1))
        step.changed()
    }
}
