import Recipe

/// How a gradient is cut for the network: runs of neighbouring blocks, in the order in which a backward finishes
/// them (last block first), each large enough that its latency is small beside its transfer.
public struct BucketPlan: Sendable, Equatable {
    public struct Bucket: Sendable, Equatable {
        /// Of the flat vector.
        public let range: Range<Int>
        public let blocks: Range<Int>
        /// The block whose completion completes the bucket: its lowest.
        public var lastBlock: Int { blocks.lowerBound }
    }

    public let buckets: [Bucket]

    /// `bucketFloats`: a bucket is closed once it holds as many. The default is 4 MiB: on loopback and on gigabit
    /// Ethernet alike, an all-reduce of that size runs near the full rate, and the last bucket, which nothing can
    /// hide, stays small. A function of the table alone, so that all ranks cut alike.
    public init(_ table: ParameterTable, bucketFloats: Int = 1 << 20) {
        var buckets: [Bucket] = []
        var end = table.blocks.count
        for block in table.blocks.indices.reversed() {
            let range = table.blocks[block].lowerBound..<table.blocks[end - 1].upperBound
            // An embedding that is a bucket by itself goes by itself: see `SparseRows`.
            let isAlone = block == 1 && table.blocks[0].count >= bucketFloats
            if range.count >= bucketFloats || block == 0 || isAlone {
                buckets.append(Bucket(range: range, blocks: block..<end))
                end = block
            }
        }
        self.buckets = buckets
    }
}
