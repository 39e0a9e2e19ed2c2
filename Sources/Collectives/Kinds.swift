/// The collectives. The raw value is part of a message's fingerprint.
public enum CollectiveKind: UInt8, Sendable, Hashable, CaseIterable {
    case allReduce = 1
    case reduceScatter = 2
    case allGather = 3
    case broadcast = 4
    case barrier = 5
    case allToAll = 6
    case reduce = 7
    case gather = 8
    case scatter = 9
    /// One message from one rank to another.
    case transfer = 10

    public var name: String { label.description }

    /// The name as the link takes it: told with every operation, it must not cost an allocation.
    public var label: StaticString {
        switch self {
        case .allReduce: "all-reduce"
        case .reduceScatter: "reduce-scatter"
        case .allGather: "all-gather"
        case .broadcast: "broadcast"
        case .barrier: "barrier"
        case .allToAll: "all-to-all"
        case .reduce: "reduce"
        case .gather: "gather"
        case .scatter: "scatter"
        case .transfer: "transfer"
        }
    }

    /// Whether elements are combined; the others only move them.
    public var reduces: Bool { self == .allReduce || self == .reduceScatter || self == .reduce }

    /// Whether one rank of the group is not like the others.
    public var hasRoot: Bool {
        switch self {
        case .broadcast, .reduce, .gather, .scatter, .transfer: true
        case .allReduce, .reduceScatter, .allGather, .barrier, .allToAll: false
        }
    }

    /// Bus bandwidth per algorithm bandwidth, as nccl-tests defines it (its doc/PERFORMANCE.md): with S the
    /// bytes of the whole buffer and t the seconds of one collective, algorithm bandwidth is S / t and bus
    /// bandwidth is S / t times this factor. All-reduce: 2 (n - 1) / n; reduce-scatter, all-gather, all-to-all,
    /// gather and scatter: (n - 1) / n; broadcast and reduce: 1. It is what each rank's link carries, so it can be
    /// held against the hardware's speed at any world size. A barrier moves nothing.
    public func busFactor(worldSize: Int) -> Double {
        let n = Double(worldSize)
        return switch self {
        case .allReduce: 2 * (n - 1) / n
        case .reduceScatter, .allGather, .allToAll, .gather, .scatter: (n - 1) / n
        case .broadcast, .reduce, .transfer: 1
        case .barrier: 0
        }
    }
}

public enum ElementType: UInt8, Sendable, Hashable {
    case byte = 1
    case float32 = 2
    case int64 = 3

    public var size: Int {
        switch self {
        case .byte: 1
        case .float32: 4
        case .int64: 8
        }
    }

    var name: String {
        switch self {
        case .byte: "bytes"
        case .float32: "float32"
        case .int64: "int64"
        }
    }
}

/// What is made of two elements that meet.
public enum Reduction: UInt8, Sendable, Hashable {
    case sum = 0
    /// The larger one; not-a-number where either is.
    case maximum = 1
}

/// What elements are while they travel. The raw value is part of a message's fingerprint.
public enum WireFormat: UInt8, Sendable, Hashable {
    /// As they are in memory.
    case native = 0
    /// float32 rounded to bfloat16 (nearest, ties to even): half the bytes. Sums are made in float32. What a rank
    /// gathers from itself is rounded too, so that all ranks hold the same bits.
    case bfloat16 = 1
    /// The same in OCP's E4M3, a quarter of the bytes: numbers beyond 448 become 448, and are counted
    /// (`CommunicationStatistics.saturated`); what is not finite becomes not-a-number. Scales are the caller's.
    case e4m3 = 2

    /// Bytes of an element on its way; nil: as in memory.
    var width: Int? {
        switch self {
        case .native: nil
        case .bfloat16: 2
        case .e4m3: 1
        }
    }
}

/// Which generator makes the schedule. The raw value is part of a message's fingerprint.
public enum Algorithm: UInt8, Sendable, Hashable, CaseIterable {
    case ring = 1
    case recursiveDoubling = 2
    case direct = 3
    case tree = 4
    case chain = 5
    case halvingDoubling = 6
    case pairwise = 7

    /// As people write it: `halving-doubling`.
    public var name: String {
        switch self {
        case .ring: "ring"
        case .recursiveDoubling: "recursive-doubling"
        case .direct: "direct"
        case .tree: "tree"
        case .chain: "chain"
        case .halvingDoubling: "halving-doubling"
        case .pairwise: "pairwise"
        }
    }

    public init?(name: String) {
        guard let found = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = found
    }

    /// Whether there is a generator for `kind` over `groupSize` ranks.
    public func serves(_ kind: CollectiveKind, groupSize: Int) -> Bool {
        let isPowerOfTwo = groupSize & (groupSize - 1) == 0
        return switch kind {
        case .allReduce: self == .ring || self == .recursiveDoubling || self == .direct || self == .halvingDoubling
        case .reduceScatter, .allGather: self == .ring || self == .direct || self == .halvingDoubling && isPowerOfTwo
        case .broadcast, .reduce: self == .tree || self == .chain
        case .barrier: self == .recursiveDoubling
        case .allToAll: self == .pairwise
        case .gather, .scatter, .transfer: self == .direct
        }
    }

    /// Whether sums follow one balanced binary tree over the group's positions, the same for each element, for every
    /// algorithm of which this is true, in any segments: x0 + x1, x2 + x3, ..., then (x0 + x1) + (x2 + x3), ...
    public func isCanonical(_ kind: CollectiveKind, groupSize: Int) -> Bool {
        guard kind.reduces, serves(kind, groupSize: groupSize) else { return false }
        if groupSize <= 2 { return true }
        return groupSize & (groupSize - 1) == 0 && (self == .recursiveDoubling || self == .halvingDoubling)
    }
}
