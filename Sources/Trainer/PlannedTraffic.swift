import Base
import Parallel
import Recipe

/// What the exchanges of the training state add to a step's time, reckoned before anything runs.
///
/// The units of a `ShardPlan` go over the link one after the other: gradients as soon as a backward has completed them
/// (PyTorch DDP, 2006.15704, section 3.2.3), parameters of ZeRO's stage 3 while the block before is computed with, and
/// those that an update has changed behind everything. A block takes its share of the operations at the GEMM peak; the
/// link's latency is left out, and so is the update, under which the first changed parameters travel. So the times are
/// bounds from below, but for that.
public struct PlannedTraffic: Sendable, Equatable {
    /// Bytes that rank 0 sends in a step, and receives.
    public let bytes: Int
    /// Seconds for which the link moves them.
    public let seconds: Double
    /// The part of them for which the computation waits.
    public let visibleSeconds: Double

    public var hiddenShare: Double { seconds > 0 ? 1 - visibleSeconds / seconds : 1 }

    /// `gflops`: of one rank. `linkGbit`: Gbit/s of a rank's link, each way. Nil: no number is asked for but `bytes`.
    public init(_ recipe: Recipe, vocabulary: Int, step: StepCost, ranks: Int, gflops: Double, linkGbit: Double)
        throws(BadInput) {
        let table = ParameterTable(recipe.model, vocabulary: vocabulary)
        let plan = try ShardPlan(table, recipe: recipe, worldSize: ranks)
        let traffic = Self.traffic(plan, recipe, step)
        bytes = traffic.bytes
        let rate = linkGbit * 1e9 / 8
        seconds = Double(bytes) / rate
        var line = Timeline(plan, recipe, step, gflops: gflops, rate: rate)
        let computed = line.compute()
        visibleSeconds = max(0, min(seconds, line.end + Double(traffic.updated) / rate - computed))
    }

    /// What rank 0 sends in a step.
    public static func traffic(_ plan: ShardPlan, _ recipe: Recipe, _ step: StepCost) -> ShardTraffic {
        ShardTraffic(plan, rank: 0, microBatches: recipe.turns(step.tasks, tokens: step.tokens, ranks: plan.worldSize),
                     isReproducible: recipe.training.reproducible, gradientBytes: recipe.gradientBytes,
                     weightBytes: recipe.updatedBytes, uses: plan.table.uses(backward: true))
    }
}

extension Recipe {
    /// Turns of a rank in a step of `tokens`: its `tasks` where they are known. Where documents are planned, as many as
    /// it takes when every rank computes with `plannedCap` tokens at a time, which plans come near to but for their
    /// last tasks.
    func turns(_ tasks: Int, tokens: Int, ranks: Int) -> Int {
        plansSequences && ranks > 1 ? (tokens + ranks * plannedCap - 1) / (ranks * plannedCap) : tasks
    }
}

/// A rank's computation and its link through one step, without the gathering of what an update has changed.
private struct Timeline {
    private let plan: ShardPlan
    private let recipe: Recipe
    private let step: StepCost
    private let perFlop: Double
    private let rate: Double
    private let movesEarly: Bool
    private var clock = 0.0
    private var link = 0.0

    /// When both are done.
    var end: Double { max(clock, link) }

    init(_ plan: ShardPlan, _ recipe: Recipe, _ step: StepCost, gflops: Double, rate: Double) {
        self.plan = plan
        self.recipe = recipe
        self.step = step
        self.rate = rate
        perFlop = 1 / gflops / 1e9
        movesEarly = plan.counts.gradients > 1 && !recipe.training.reproducible
    }

    /// Runs through the step. Returns the seconds of computation in it.
    mutating func compute() -> Double {
        let (forward, backward) = flops()
        let order = forward.indices.map { ($0, false) } + forward.indices.reversed().map { ($0, true) }
        var computed = 0.0, arrival = gather(0)
        for task in 0..<step.tasks {
            let tokens = Double(task == step.tasks - 1 ? step.lastTask : step.fullTask)
            let isLast = task == step.tasks - 1
            for (place, (block, isBackward)) in order.enumerated() {
                clock = max(clock, arrival)
                // The next block's weights are asked for when this one begins. The head is used once, in its backward,
                // and the embedding's weights in its forward alone.
                let next = order[(place + 1) % order.count]
                let isUsed = next.1 ? next.0 > 0 : next.0 < forward.count - 1
                if isUsed, place + 1 < order.count || !isLast { arrival = gather(next.0) }
                let seconds = (isBackward ? backward[block] : forward[block]) * tokens * perFlop
                clock += seconds
                computed += seconds
                guard isBackward, isLast || movesEarly,
                      let unit = plan.units.first(where: { $0.blocks.lowerBound == block }) else { continue }
                link = max(link, clock) + gradientBytes(unit) / rate
            }
        }
        return computed
    }

    /// Asks for a block's weights. Returns when they are there.
    private mutating func gather(_ block: Int) -> Double {
        guard plan.counts.parameters > 1 else { return clock }
        link = max(link, clock) + bytes(plan.units[block].range.count, plan.counts.parameters) / rate
        return link
    }

    private func bytes(_ floats: Int, _ sharers: Int) -> Double {
        4 * Double(floats) * Double(sharers - 1) / Double(sharers)
    }

    /// What a rank sends of a unit's gradient when it is complete.
    private func gradientBytes(_ unit: ShardPlan.Unit) -> Double {
        let counts = plan.counts, replicas = plan.worldSize / counts.optimizer
        return Double(recipe.gradientBytes) / 4 * (bytes(unit.range.count, counts.optimizer)
            + 2 * bytes(unit.range.count / counts.optimizer, replicas))
    }

    /// For one token, of each block. The head's forward belongs to its backward: logits are made there, in chunks.
    private func flops() -> (forward: [Double], backward: [Double]) {
        let table = plan.table, shape = table.shape, head = Double(table.vocabulary * shape.dim), layers = shape.layers
        let again = layers > 1 ? table.recomputedFlopsPerToken(context: step.context, recipe.activationCheckpoint.mode)
            / Double(layers - 1) : 0
        let all = (table.flopsPerToken(context: step.context) - 6 * head) / Double(layers)
        let backward = (0..<layers).map { 2 * all / 3 + ($0 + 1 < layers ? again : 0) }
        return ([0] + Array(repeating: all / 3, count: layers) + [0], [0] + backward + [6 * head])
    }
}
