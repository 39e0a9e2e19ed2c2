import Parallel
import Recipe

/// What summing the gradients over the ranks adds to a step's time, reckoned before anything runs.
///
/// The buckets of `BucketPlan` go over the link one after the other, each as soon as the last micro-batch's backward
/// has completed it (PyTorch DDP, 2006.15704, section 3.2.3). A block's backward takes its share of the operations at
/// the GEMM peak; the link's latency is left out. So both times are bounds from below.
public struct PlannedTraffic: Sendable, Equatable {
    /// Bytes that each rank sends in a step, and receives: 2 (N - 1) / N of the gradient's, the least that an
    /// all-reduce takes and what a ring takes.
    public let bytes: Int
    /// Seconds for which the link moves them.
    public let seconds: Double
    /// The part of them after the end of the backward.
    public let visibleSeconds: Double

    public var hiddenShare: Double { seconds > 0 ? 1 - visibleSeconds / seconds : 1 }

    /// `gflops`: of one rank. `linkGbit`: Gbit/s of a rank's link, each way.
    public init(_ recipe: Recipe, vocabulary: Int, step: StepCost, ranks: Int, gflops: Double, linkGbit: Double) {
        let table = ParameterTable(recipe.model, vocabulary: vocabulary)
        let rate = linkGbit * 1e9 / 8
        let blockSeconds = Self.backwardFlops(table, recipe, context: step.context).map {
            $0 * Double(step.lastTask) / gflops / 1e9
        }
        var computed = 0.0, sent = 0.0, next = blockSeconds.count
        for bucket in BucketPlan(table).buckets {
            while next > bucket.lastBlock {
                next -= 1
                computed += blockSeconds[next]
            }
            sent = max(sent, computed) + Double(Self.bytes(bucket.range.count, ranks)) / rate
        }
        bytes = Self.bytes(table.count, ranks)
        seconds = Double(bytes) / rate
        visibleSeconds = max(0, min(seconds, sent - computed))
    }

    /// Bytes of an all-reduce of `floats` that one rank sends.
    public static func bytes(_ floats: Int, _ ranks: Int) -> Int { 4 * floats * 2 * (ranks - 1) / ranks }

    /// For one token, of each block. The head's forward belongs to the backward: logits are made there, in chunks.
    private static func backwardFlops(_ table: ParameterTable, _ recipe: Recipe, context: Double) -> [Double] {
        let shape = table.shape, head = Double(table.vocabulary * shape.dim), layers = shape.layers
        let again = layers > 1
            ? table.recomputedFlopsPerToken(context: context, recipe.activationCheckpoint.mode) / Double(layers - 1) : 0
        let all = table.flopsPerToken(context: context) - 6 * head
        let layer = 2 * all / 3 / Double(layers)
        return [0] + (0..<layers).map { $0 + 1 < layers ? layer + again : layer } + [6 * head]
    }
}
