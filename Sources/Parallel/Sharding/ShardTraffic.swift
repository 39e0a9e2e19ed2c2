import Collectives
import Recipe

/// Bytes that a rank sends in a step for its training state, reckoned from the plan: what the papers' volumes come to
/// here. With F the bytes of the parameters and M micro-batches, a world of N ranks moves (N - 1) / N of
///
///     stage 0, 1       2 F                 (reduce-scatter and all-gather)
///     stage 2          (M + 1) F           ZeRO, 1910.02054 section 7: gradients of every micro-batch
///     stage 3          3 M F               parameters twice and gradients once a micro-batch
///     reproducible     2 F, 2 F, (2 M + 1) F   for whole partial gradients travel once
///
/// Stage 3 moves less by the layers that still lie in their slots when they are wanted again.
public struct ShardTraffic: Sendable, Equatable {
    /// Bytes of gradients, of parameters behind the update, and of parameters that are gathered for use.
    public let gradients: Int
    public let updated: Int
    public let gathered: Int

    public var bytes: Int { gradients + updated + gathered }

    /// `microBatches`: of each rank. `uses`: the blocks that a micro-batch uses one after the other.
    /// `gradientBytes`, `weightBytes`: of a gradient's number on its way, and of an updated weight's.
    public init(_ plan: ShardPlan, rank: Int, microBatches: Int, isReproducible: Bool, gradientBytes: Int = 4,
                weightBytes: Double = 4, uses: [Int]) {
        let counts = plan.counts
        func rest(_ ranges: [Range<Int>], of wholes: [Range<Int>]) -> Int {
            zip(ranges, wholes).reduce(0) { $0 + $1.1.count - $1.0.count }
        }
        let units = plan.units.map(\.range), own = plan.optimizerRanges(of: rank)
        let (gradient, parameter) = (plan.gradientRanges(of: rank), plan.parameterRanges(of: rank))
        let rounds = counts.gradients > 1 && !isReproducible ? microBatches : 1
        let replicas = plan.worldSize / counts.optimizer
        let owned = own.reduce(0) { $0 + $1.count }
        gradients = gradientBytes * (rounds * rest(gradient, of: units) + rest(own, of: gradient)
            + 2 * owned * (replicas - 1) / replicas)
        // In a ring a rank passes on everything but the last share.
        updated = Int(weightBytes * Double(rest(own, of: parameter)))
        var gathered = 0
        if counts.parameters > 1 {
            let slots = BlockSlots.slots(plan.table, copies: 2)
            var held = Array(repeating: -1, count: (slots.max() ?? 0) + 1)
            for _ in 0..<microBatches {
                for block in uses where held[slots[block]] != block {
                    held[slots[block]] = block
                    gathered += plan.units[block].range.count - parameter[block].count
                }
            }
        }
        self.gathered = 4 * gathered
    }
}
