import Parallel
import Recipe
import Testing

/// A model of `layers` layers; its blocks are the embedding, the layers and the head.
func table(_ layers: Int, tied: Bool = false) -> ParameterTable {
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
                        let isBeforeEmbedding = before.lastBlock == 1 && after.range.count >= floats
                        #expect(before.range.count >= floats || isBeforeEmbedding)
                    }
                    for bucket in buckets {
                        #expect(table.blocks[bucket.lastBlock].lowerBound == bucket.range.lowerBound)
                    }
                }
            }
        }
    }
}
