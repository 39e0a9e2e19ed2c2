import Base

/// The collectives. The raw value is part of a message's fingerprint.
public enum CollectiveKind: UInt8, Sendable, Hashable, CaseIterable {
    case allReduce = 1
    case reduceScatter = 2
    case allGather = 3
    case broadcast = 4
    case barrier = 5

    public var name: String { label.description }

    /// The name as the link takes it: told with every operation, it must not cost an allocation.
    public var label: StaticString {
        switch self {
        case .allReduce: "all-reduce"
        case .reduceScatter: "reduce-scatter"
        case .allGather: "all-gather"
        case .broadcast: "broadcast"
        case .barrier: "barrier"
        }
    }

    /// Bus bandwidth per algorithm bandwidth, as nccl-tests defines it (its doc/PERFORMANCE.md): with S the
    /// bytes of the whole buffer and t the seconds of one collective, algorithm bandwidth is S / t and bus
    /// bandwidth is S / t times this factor. All-reduce: 2 (n - 1) / n; reduce-scatter and all-gather:
    /// (n - 1) / n; broadcast: 1. It is what each rank's link carries, so it can be held against the
    /// hardware's speed at any world size. A barrier moves nothing.
    public func busFactor(worldSize: Int) -> Double {
        let n = Double(worldSize)
        return switch self {
        case .allReduce: 2 * (n - 1) / n
        case .reduceScatter, .allGather: (n - 1) / n
        case .broadcast: 1
        case .barrier: 0
        }
    }
}

public enum ElementType: UInt8, Sendable, Hashable {
    case byte = 1
    case float32 = 2

    public var size: Int { self == .byte ? 1 : 4 }
    var name: String { self == .byte ? "bytes" : "float32" }
}

/// Which generator makes the schedule. The raw value is part of a message's fingerprint.
public enum Algorithm: UInt8, Sendable, Hashable, CaseIterable {
    case ring = 1
    case recursiveDoubling = 2
    case direct = 3
    case tree = 4
    case chain = 5

    /// The default: a pure function of its arguments, because it decides the order of sums.
    ///
    /// Small messages are bound by the number of hops, large ones by the bytes that each rank sends.
    public static func standard(for kind: CollectiveKind, bytes: Int, groupSize: Int) -> Algorithm {
        switch kind {
        case .allReduce: bytes <= 16 << 10 ? .recursiveDoubling : .ring
        case .reduceScatter, .allGather: bytes <= 64 << 10 && groupSize <= 16 ? .direct : .ring
        case .broadcast: bytes <= 64 << 10 ? .tree : .chain
        case .barrier: .direct
        }
    }

    /// Whether there is a generator for `kind`.
    public func serves(_ kind: CollectiveKind) -> Bool {
        switch kind {
        case .allReduce: self == .ring || self == .recursiveDoubling
        case .reduceScatter, .allGather: self == .ring || self == .direct
        case .broadcast: self == .tree || self == .chain
        case .barrier: self == .direct
        }
    }
}

/// Everything that decides a schedule. Ranks whose requests differ must not exchange a byte.
public struct Request: Hashable, Sendable {
    public var kind: CollectiveKind
    public var algorithm: Algorithm
    public var element: ElementType
    /// Elements in the whole buffer.
    public var count: Int
    /// Who owns what; nil divides evenly.
    public var partition: Partition?
    /// Group position of a broadcast's source; 0 for the others.
    public var root: Int
    public var group: Group

    public init(
        _ kind: CollectiveKind, _ element: ElementType, count: Int, group: Group,
        partition: Partition? = nil, root: Int = 0, algorithm: Algorithm? = nil
    ) {
        self.kind = kind
        self.element = element
        self.count = count
        self.partition = partition
        self.root = root
        self.group = group
        self.algorithm = algorithm
            ?? .standard(for: kind, bytes: count * element.size, groupSize: group.size)
        precondition(self.algorithm.serves(kind), "\(self.algorithm) is no algorithm for \(kind.name)")
        precondition((0..<group.size).contains(root), "the root is a position in the group")
        if let partition {
            precondition(partition.parts == group.size, "a partition has one part per rank of the group")
            precondition(partition.count == count, "the partition covers the buffer")
        }
    }

    public var bytes: Int { count * element.size }

    /// This rank's schedule, in segments of at most `segmentBytes`.
    public func schedule(segmentBytes: Int) -> Schedule {
        let limit = max(1, segmentBytes / element.size)
        let owners = partition ?? Partition(evenly: count, over: group.size)
        let (size, index) = (group.size, group.index)
        switch (kind, algorithm) {
        case (.allReduce, .ring):
            return .ringAllReduce(owners, index: index, segmentLimit: limit)
        case (.allReduce, _):
            return .recursiveDoubling(count: count, size: size, index: index, segmentLimit: limit)
        case (.reduceScatter, .ring):
            return .ringReduceScatter(owners, index: index, segmentLimit: limit)
        case (.reduceScatter, _):
            return .directReduceScatter(owners, index: index, segmentLimit: limit)
        case (.allGather, .ring):
            return .ringAllGather(owners, index: index, segmentLimit: limit)
        case (.allGather, _), (.barrier, _):
            return .directAllGather(owners, index: index, segmentLimit: limit)
        case (.broadcast, .tree):
            return .treeBroadcast(count: count, root: root, size: size, index: index, segmentLimit: limit)
        case (.broadcast, _):
            return .chainBroadcast(count: count, root: root, size: size, index: index, segmentLimit: limit)
        }
    }

    /// What a message's tag carries: a hash of everything that decides the schedule.
    public func fingerprint(segmentBytes: Int) -> UInt32 {
        var writer = ByteWriter()
        writer.append(kind.rawValue)
        writer.append(algorithm.rawValue)
        writer.append(element.rawValue)
        writer.append(UInt64(count))
        writer.append(UInt64(segmentBytes))
        writer.append(UInt32(root))
        writer.append(UInt32(group.size))
        for rank in group.ranks { writer.append(UInt32(rank)) }
        for bound in partition?.bounds ?? [] { writer.append(UInt64(bound)) }
        return CRC32C.checksum(writer.bytes)
    }

    /// For people: "all-reduce of 1,048,576 float32 (4.0 MiB)".
    public var name: String {
        guard kind != .barrier else { return kind.name }
        return "\(kind.name) of \(Units.grouped(count)) \(element.name) (\(Units.bytes(bytes)))"
    }
}
