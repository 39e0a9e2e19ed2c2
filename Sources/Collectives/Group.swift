import Base

/// An ordered set of the world's ranks that does collectives together, seen from one of them.
///
/// Every member builds the same group: the same ranks in the same order. The order is part of the result
/// (it decides who is whose ring neighbour and so the order of sums).
public struct Group: Hashable, Sendable {
    /// World ranks of the members, all different.
    public let ranks: [Int]
    /// This rank's position in `ranks`.
    public let index: Int
    /// Tells the operations of different groups apart in a message's tag: 24 bits, 0 for the world.
    public let id: UInt32

    public var size: Int { ranks.count }

    /// All ranks of the job, in order.
    public init(worldSize: Int, rank: Int) {
        precondition(worldSize > 0 && (0..<worldSize).contains(rank), "rank \(rank) outside 0..<\(worldSize)")
        ranks = Array(0..<worldSize)
        index = rank
        id = 0
    }

    /// Some ranks of the job; `rank` is this process and must be one of them.
    public init(ranks: [Int], rank: Int) {
        precondition(Set(ranks).count == ranks.count, "a group names each rank once, got \(ranks)")
        guard let index = ranks.firstIndex(of: rank) else {
            preconditionFailure("rank \(rank) is not a member of the group \(ranks)")
        }
        self.ranks = ranks
        self.index = index
        var writer = ByteWriter()
        for member in ranks { writer.append(UInt32(member)) }
        id = max(1, CRC32C.checksum(writer.bytes) & 0xFF_FFFF)
    }

    /// The group position `distance` places further round the ring; negative distances walk back.
    func neighbour(_ distance: Int) -> Int { modulo(index + distance, size) }
}

/// The remainder in 0..<divisor, also for negative values.
func modulo(_ value: Int, _ divisor: Int) -> Int {
    let remainder = value % divisor
    return remainder < 0 ? remainder + divisor : remainder
}

/// Who owns which of `count` elements: one contiguous range per group position, in order, without gaps.
/// Ranges may be empty (fewer elements than ranks, or none at all).
public struct Partition: Hashable, Sendable {
    /// Position p owns bounds[p]..<bounds[p + 1]; the first bound is 0.
    public let bounds: [Int]

    /// As even as can be: the first count % parts positions own one element more than the others.
    public init(evenly count: Int, over parts: Int) {
        precondition(count >= 0 && parts > 0, "cannot divide \(count) elements over \(parts) ranks")
        let (share, rest) = count.quotientAndRemainder(dividingBy: parts)
        bounds = (0...parts).map { $0 * share + min($0, rest) }
    }

    /// An explicit one, for shards that follow parameter boundaries or alignment.
    public init(bounds: [Int]) {
        precondition(bounds.count >= 2 && bounds[0] == 0, "a partition begins at element 0")
        precondition(zip(bounds, bounds.dropFirst()).allSatisfy { $0 <= $1 },
                     "partition bounds must not fall")
        self.bounds = bounds
    }

    public var parts: Int { bounds.count - 1 }
    public var count: Int { bounds[bounds.count - 1] }

    public subscript(position: Int) -> Range<Int> { bounds[position]..<bounds[position + 1] }

    /// The part at a position that may have walked past either end of the ring.
    func ringPart(_ position: Int) -> Range<Int> { self[modulo(position, parts)] }
}
