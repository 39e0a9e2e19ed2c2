import Synchronization

/// An ordered set of the world's ranks that does collectives together, seen from one of them.
///
/// The order is part of the result (it decides who is whose ring neighbour and so the order of sums). A group that
/// does collectives has an id that all its members agree on: 0 is the world, a communicator counts the others as
/// they are made (`Communicator.makeGroup`), and pairs that exchange a message have theirs by their ranks. So two
/// groups never have one id, and nothing of a group is left when its last copy is gone.
public struct Group: Hashable, Sendable {
    /// World ranks of the members, all different.
    public let ranks: [Int]
    /// This rank's position in `ranks`.
    public let index: Int
    /// Nil for a group of which only schedules are wanted.
    let identity: GroupIdentity?

    public var size: Int { ranks.count }
    /// The world's is 0.
    public var id: UInt32? { identity?.id }

    /// All ranks of the job, in order.
    public init(worldSize: Int, rank: Int) {
        precondition(worldSize > 0 && (0..<worldSize).contains(rank), "rank \(rank) outside 0..<\(worldSize)")
        ranks = Array(0..<worldSize)
        index = rank
        identity = nil
    }

    /// Some ranks of the job; `rank` is this process and must be one of them. For schedules alone:
    /// `Communicator.makeGroup` makes one that can do collectives.
    public init(ranks: [Int], rank: Int) { self.init(ranks: ranks, rank: rank, identity: nil) }

    init(ranks: [Int], rank: Int, identity: GroupIdentity?) {
        precondition(Set(ranks).count == ranks.count, "a group names each rank once, got \(ranks)")
        guard let index = ranks.firstIndex(of: rank) else {
            preconditionFailure("rank \(rank) is not a member of the group \(ranks)")
        }
        self.ranks = ranks
        self.index = index
        self.identity = identity
    }

    /// Schedules depend on who is in a group, not on its id.
    public static func == (a: Group, b: Group) -> Bool { a.index == b.index && a.ranks == b.ranks }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(index)
        hasher.combine(ranks)
    }

    /// The group position `distance` places further round the ring; negative distances walk back.
    func neighbour(_ distance: Int) -> Int { modulo(index + distance, size) }
}

/// What a group of a communicator has besides its members.
final class GroupIdentity: Sendable {
    /// Groups that are counted are below this; above are the pairs, by their ranks.
    static let firstPair: UInt32 = 1 << 31

    let id: UInt32
    /// Collectives begun so far, the same on every member.
    private let count = Atomic<UInt32>(0)

    init(id: UInt32) { self.id = id }

    /// What messages of the next collective carry: the id, and the collective's number.
    func nextOperation() -> UInt64 {
        UInt64(id) << 32 | UInt64(count.wrappingAdd(1, ordering: .relaxed).oldValue)
    }
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
