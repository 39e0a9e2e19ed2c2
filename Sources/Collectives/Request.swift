import Base

/// Everything that decides a schedule. Ranks whose requests differ must not exchange a byte.
public struct Request: Hashable, Sendable {
    public var kind: CollectiveKind
    public var algorithm: Algorithm
    public var element: ElementType
    public var reduction: Reduction
    public var wire: WireFormat
    /// Elements in the whole buffer. Of an all-to-all: in what this rank receives.
    public var count: Int
    /// Who owns what; nil divides evenly. Of an all-to-all: what this rank receives from whom.
    public var partition: Partition?
    /// What this rank sends to whom; of an all-to-all only.
    public var outgoing: Partition?
    /// Group position of the one that is not like the others; 0 where there is none.
    public var root: Int
    public var group: Group
    /// An all-gather whose own part the caller makes segment by segment while the first ones travel already.
    public var isPrepared: Bool
    /// What the caller means by it: two operations that are otherwise alike must not be mixed up.
    public var label: UInt32

    public init(
        _ kind: CollectiveKind, _ element: ElementType, count: Int, group: Group, partition: Partition? = nil,
        outgoing: Partition? = nil, root: Int = 0, reduction: Reduction = .sum, wire: WireFormat = .native,
        isPrepared: Bool = false, label: UInt32 = 0, algorithm: Algorithm? = nil, choice: Choice = Choice()
    ) {
        self.kind = kind
        self.element = element
        self.count = count
        self.partition = partition
        self.outgoing = outgoing
        self.root = root
        self.group = group
        self.reduction = reduction
        self.wire = wire
        self.isPrepared = isPrepared
        self.label = label
        self.algorithm = algorithm ?? choice.algorithm(for: kind, bytes: count * element.size, groupSize: group.size,
                                                       wire: wire)
        check()
    }

    private func check() {
        precondition(algorithm.serves(kind, groupSize: group.size),
                     "\(algorithm.name) is no algorithm for \(kind.name) over \(group.size) ranks")
        precondition((0..<group.size).contains(root), "the root is a position in the group")
        precondition(wire == .native || element == .float32, "only float32 travels in another format")
        precondition(wire == .native || [.allReduce, .reduceScatter, .allGather].contains(kind) && algorithm == .direct,
                     "a narrow format goes straight from rank to rank")
        precondition(!kind.reduces || element != .byte, "bytes have no sum")
        precondition(!isPrepared || kind == .allGather, "only an all-gather is prepared")
        precondition((outgoing != nil) == (kind == .allToAll), "an all-to-all, and nothing else, has two partitions")
        precondition(kind != .allToAll || partition != nil, "an all-to-all, and nothing else, has two partitions")
        for cut in [partition, outgoing].compactMap({ $0 }) {
            precondition(cut.parts == group.size, "a partition has one part per rank of the group")
        }
        if let partition { precondition(partition.count == count, "the partition covers the buffer") }
    }

    var owners: Partition { partition ?? Partition(evenly: count, over: group.size) }

    /// Bytes of the whole buffer.
    public var bytes: Int { count * element.size }

    /// Elements of this rank's buffer: a gather's and a scatter's is whole at the root alone.
    public var ownCount: Int {
        kind == .gather || kind == .scatter ? (group.index == root ? count : owners[group.index].count) : count
    }

    /// This rank's schedule, in segments of at most `segmentBytes`.
    public func schedule(segmentBytes: Int) -> Schedule {
        var schedule = Schedule(size: group.size, index: group.index, count: count,
                                segmentLimit: max(1, segmentBytes / element.size),
                                reduction: reduction, isNarrow: wire != .native)
        switch (kind, algorithm) {
        case (.allReduce, .ring): schedule.ringAllReduce(owners)
        case (.allReduce, .direct): schedule.directAllReduce(owners)
        case (.allReduce, .halvingDoubling): schedule.halvingDoubling()
        case (.allReduce, _): schedule.recursiveDoubling()
        case (.reduceScatter, .ring): schedule.ringReduceScatter(owners)
        case (.reduceScatter, .halvingDoubling): schedule.halvingReduceScatter(owners)
        case (.reduceScatter, _): schedule.directReduceScatter(owners)
        case (.allGather, _):
            schedule.prepare(owners[group.index], byCaller: isPrepared)
            switch algorithm {
            case .ring: schedule.ringAllGather(owners, firstRound: 0)
            case .halvingDoubling: schedule.doublingAllGather(owners, firstRound: 0)
            default: schedule.directAllGather(owners, firstRound: 0)
            }
        case (.barrier, _): schedule.tokens()
        case (.broadcast, .tree): schedule.treeBroadcast(root: root)
        case (.broadcast, _): schedule.chainBroadcast(root: root)
        case (.reduce, .tree): schedule.treeReduce(root: root)
        case (.reduce, _): schedule.chainReduce(root: root)
        case (.allToAll, _): schedule.pairwiseAllToAll(outgoing ?? owners, owners)
        case (.gather, _): schedule.gather(owners, root: root)
        case (.scatter, _): schedule.scatter(owners, root: root)
        case (.transfer, _): schedule.transfer(root: root)
        }
        return schedule
    }

    /// What a message's tag carries: a hash of everything that decides the schedule. Of an all-to-all each rank knows
    /// its own lengths alone, which the messages' lengths confirm.
    public func fingerprint(segmentBytes: Int) -> UInt32 {
        var writer = ByteWriter()
        for value in [kind.rawValue, algorithm.rawValue, element.rawValue, reduction.rawValue, wire.rawValue] {
            writer.append(value)
        }
        writer.append(UInt64(segmentBytes))
        writer.append(label)
        writer.append(UInt32(root))
        writer.append(UInt32(group.size))
        for rank in group.ranks { writer.append(UInt32(rank)) }
        if kind != .allToAll {
            writer.append(UInt64(count))
            for bound in partition?.bounds ?? [] { writer.append(UInt64(bound)) }
        }
        return CRC32C.checksum(writer.bytes)
    }

    /// For people: "all-reduce of 1,048,576 float32 (4.0 MiB)".
    public var name: String {
        guard kind != .barrier else { return kind.name }
        return "\(kind.name) of \(Units.grouped(count)) \(element.name) (\(Units.bytes(bytes)))"
    }
}
