import Collectives
import Model
import Parallel
import Recipe
import Simulation
import Tensor
import Testing

/// A model of `layers` layers; its blocks are the embedding, the layers and the head.
private func table(_ layers: Int, tied: Bool = false) -> ParameterTable {
    var shape = Recipe().model
    (shape.dim, shape.layers, shape.heads, shape.ffnDim, shape.tieEmbeddings) = (16, layers, 2, 24, tied)
    return ParameterTable(shape, vocabulary: 37)
}

@Suite struct BucketPlanTests {
    /// Whatever the size: buckets cover the flat vector once, from its end to its beginning, along blocks, and only
    /// the last may be smaller than asked.
    @Test func bucketsCoverEveryBlockOnce() {
        for layers in 1...7 {
            for tied in [false, true] {
                let table = table(layers, tied: tied)
                for floats in [1, 100, 1_000, 2_600, 5_000, 1 << 20] {
                    let buckets = BucketPlan(table, bucketFloats: floats).buckets
                    #expect(buckets.first?.range.upperBound == table.blocks.last?.upperBound)
                    #expect(buckets.last?.range.lowerBound == 0 && buckets.last?.lastBlock == 0)
                    for (before, after) in zip(buckets, buckets.dropFirst()) {
                        #expect(after.range.upperBound == before.range.lowerBound)
                        #expect(after.lastBlock < before.lastBlock)
                        #expect(before.range.count >= floats)
                    }
                    for bucket in buckets {
                        #expect(table.blocks[bucket.lastBlock].lowerBound == bucket.range.lowerBound)
                    }
                }
            }
        }
    }
}

@Suite struct GradientReducerTests {
    /// Ranks add up whole numbers, so the sum is exact whatever its order; blocks become ready last first, while the
    /// network already moves, and what a later block writes is not yet on the wire.
    @Test(arguments: [1, 2, 3, 4]) func everyRankEndsWithTheSum(ranks: Int) throws {
        let table = table(3)
        let results = onThreads(ranks: ranks) { communicator -> Bool in
            let arena = try Arena(name: "gradients", capacity: table.count)
            let gradients = Parameters(table, flat: arena.take(table.count))
            let plan = BucketPlan(table, bucketFloats: 2_000)
            let reducer = GradientReducer(plan, gradients: gradients, communicator: communicator)
            for step in 1...3 {
                gradients.flat.fill(0)
                for isLast in [false, true] {
                    reducer.begin(isLast: isLast)
                    for block in table.blocks.indices.reversed() {
                        for index in table.blocks[block] {
                            gradients.flat[index] += Float((index % 50) * step + communicator.rank)
                        }
                        reducer.ready(block)
                    }
                }
                try reducer.finish()
                let others = ranks * (ranks - 1) / 2
                for index in 0..<table.count
                where gradients.flat[index] != Float(2 * ((index % 50) * step * ranks + others)) { return false }
            }
            return true
        }
        for result in results { #expect(try result.get()) }
    }
}
