/// How a collective differs from the usual: for whoever needs it, and the same on all ranks.
public struct CollectiveStyle: Sendable {
    public var reduction: Reduction
    /// What float32 elements are while they travel.
    public var wire: WireFormat
    /// Nil: what the communicator's `Choice` says.
    public var algorithm: Algorithm?
    /// What the caller means by it: a rank that begins another one of several like operations is found out.
    public var label: UInt32

    public init(reduction: Reduction = .sum, wire: WireFormat = .native, algorithm: Algorithm? = nil,
                label: UInt32 = 0) {
        self.reduction = reduction
        self.wire = wire
        self.algorithm = algorithm
        self.label = label
    }
}

/// What does not change between all-to-alls of one shape, for whoever begins the same one again and again.
public struct AllToAll: Sendable {
    let request: Request

    /// `outgoing` and `incoming` cut this rank's source and buffer into a part for each rank of the group. `label`
    /// tells apart what is otherwise alike.
    public init(_ outgoing: Partition, _ incoming: Partition, in group: Group, label: UInt32 = 0) {
        request = Request(.allToAll, .float32, count: incoming.count, group: group, partition: incoming,
                          outgoing: outgoing, label: label)
    }

    /// Elements of this rank's source, and of its buffer.
    public var sent: Int { request.outgoing?.count ?? 0 }
    public var received: Int { request.count }
}

extension Communicator {
    // MARK: Sums

    /// Sums `buffer` over the group's ranks, element by element; every rank ends with the same bits.
    /// Scaling is the caller's: a loss already divided by the global count needs none.
    public func allReduce(
        _ buffer: UnsafeMutableBufferPointer<Float>, in group: Group? = nil, style: CollectiveStyle = .init()
    ) -> Ticket {
        unsafe submit(request(.allReduce, .float32, buffer.count, group, style), .init(buffer))
    }

    /// The same for whole numbers; sums wrap round.
    public func allReduce(
        _ buffer: UnsafeMutableBufferPointer<Int64>, in group: Group? = nil, style: CollectiveStyle = .init()
    ) -> Ticket {
        unsafe submit(request(.allReduce, .int64, buffer.count, group, style), .init(buffer))
    }

    /// Sums `buffer` over the group's ranks; this rank ends with the sum in its own part of `partition` (an
    /// even one by default). The other parts are overwritten with partial sums.
    public func reduceScatter(
        _ buffer: UnsafeMutableBufferPointer<Float>, partition: Partition? = nil, in group: Group? = nil,
        style: CollectiveStyle = .init()
    ) -> Ticket {
        unsafe submit(request(.reduceScatter, .float32, buffer.count, group, style, partition), .init(buffer))
    }

    /// Sums `buffer` over the group's ranks for the world rank `root`, a member; the others' buffers are overwritten
    /// with partial sums.
    public func reduce(
        _ buffer: UnsafeMutableBufferPointer<Float>, to root: Int, in group: Group? = nil,
        style: CollectiveStyle = .init()
    ) -> Ticket {
        unsafe submit(request(.reduce, .float32, buffer.count, group, style, root: root), .init(buffer))
    }

    // MARK: Copies

    /// Fills `buffer` with every rank's part; this rank's own part (of `partition`, an even one by default)
    /// is there already.
    public func allGather(
        _ buffer: UnsafeMutableBufferPointer<Float>, partition: Partition? = nil, in group: Group? = nil,
        style: CollectiveStyle = .init()
    ) -> Ticket {
        unsafe submit(request(.allGather, .float32, buffer.count, group, style, partition), .init(buffer))
    }

    /// The same for bytes; `partition` counts bytes.
    public func allGather(
        bytes: UnsafeMutableRawBufferPointer, partition: Partition? = nil, in group: Group? = nil,
        style: CollectiveStyle = .init()
    ) -> Ticket {
        unsafe submit(request(.allGather, .byte, bytes.count, group, style, partition), bytes)
    }

    /// The same where this rank's own part is still to be made: `preparing` is given its elements, a segment at a time
    /// in ascending order, and writes them, while segments that are written travel already (CoCoNet, 2105.05720,
    /// section 3: an update overlapped with the gathering of its result). Returns when all parts are there.
    public func allGather(
        _ buffer: UnsafeMutableBufferPointer<Float>, partition: Partition? = nil, in group: Group? = nil,
        style: CollectiveStyle = .init(), preparing: (Range<Int>) -> Void
    ) throws(CollectiveFault) {
        var request = request(.allGather, .float32, buffer.count, group, style, partition)
        request.isPrepared = true
        guard let operation = unsafe begin(request, .init(buffer)) else {
            return preparing(request.owners[request.group.index])
        }
        try prepare(operation, preparing)
        try wait(for: operation)
    }

    /// Several of these, one behind the other, of one group: `preparing` is given an all-gather's number with the
    /// range. While the last segments of one travel, the first of the next are made. `buffer` and `partition` say what
    /// each is.
    public func allGathers(
        _ count: Int, in group: Group, buffer: (Int) -> UnsafeMutableBufferPointer<Float>,
        partition: (Int) -> Partition, preparing: (Int, Range<Int>) -> Void
    ) throws(CollectiveFault) {
        var operations: [Operation?] = []
        operations.reserveCapacity(count)
        for number in 0..<count {
            let memory = unsafe buffer(number)
            var request = request(.allGather, .float32, memory.count, group,
                                  CollectiveStyle(label: UInt32(number + 1)), partition(number))
            request.isPrepared = true
            operations.append(unsafe begin(request, .init(memory)))
        }
        for number in 0..<count {
            guard let operation = operations[number] else {
                let memory = unsafe buffer(number)
                preparing(number, 0..<memory.count)
                continue
            }
            try prepare(operation) { preparing(number, $0) }
        }
        for operation in operations {
            if let operation { try wait(for: operation) }
        }
    }

    /// Copies `bytes` of the world rank `root`, a member of the group, to all others.
    public func broadcast(
        _ bytes: UnsafeMutableRawBufferPointer, from root: Int, in group: Group? = nil,
        style: CollectiveStyle = .init()
    ) -> Ticket {
        unsafe submit(request(.broadcast, .byte, bytes.count, group, style, root: root), bytes)
    }

    /// Part q of `source` becomes part `index` of `buffer` on the q-th rank of the group. `outgoing` and `incoming` cut
    /// this rank's source and buffer; what a rank sends to another must be as long as what that one expects. The two
    /// do not overlap.
    public func allToAll(
        _ source: UnsafeBufferPointer<Float>, _ outgoing: Partition, into buffer: UnsafeMutableBufferPointer<Float>,
        _ incoming: Partition, in group: Group? = nil, style: CollectiveStyle = .init()
    ) -> Ticket {
        unsafe allToAll(source, into: buffer, AllToAll(outgoing, incoming, in: group ?? world, label: style.label))
    }

    /// The same of one that was made before: it allocates nothing.
    public func allToAll(
        _ source: UnsafeBufferPointer<Float>, into buffer: UnsafeMutableBufferPointer<Float>, _ exchange: AllToAll
    ) -> Ticket {
        precondition(source.count == exchange.sent, "the partition covers the source")
        precondition(buffer.count == exchange.received, "the partition covers the buffer")
        return unsafe submit(exchange.request, .init(buffer), source: .init(source))
    }

    /// Collects every rank's part at the world rank `root`: its buffer is the whole, with its own part in place, the
    /// others' buffers are their parts alone. All pass the partition of the whole, in bytes.
    public func gather(
        _ bytes: UnsafeMutableRawBufferPointer, partition: Partition, at root: Int, in group: Group? = nil,
        style: CollectiveStyle = .init()
    ) -> Ticket {
        unsafe move(.gather, bytes, partition, root, group, style)
    }

    /// Hands every rank its part of what the world rank `root` has: its buffer is the whole, the others' buffers are
    /// their parts alone. All pass the partition of the whole, in bytes.
    public func scatter(
        _ bytes: UnsafeMutableRawBufferPointer, partition: Partition, from root: Int, in group: Group? = nil,
        style: CollectiveStyle = .init()
    ) -> Ticket {
        unsafe move(.scatter, bytes, partition, root, group, style)
    }

    /// Sends `bytes` to the world rank `peer`, which receives as many. Messages between two ranks keep their order.
    public func send(_ bytes: UnsafeMutableRawBufferPointer, to peer: Int, label: UInt32 = 0) -> Ticket {
        let request = Request(.transfer, .byte, count: bytes.count, group: pair(from: rank, to: peer), label: label)
        return unsafe submit(request, bytes)
    }

    public func receive(_ bytes: UnsafeMutableRawBufferPointer, from peer: Int, label: UInt32 = 0) -> Ticket {
        let request = Request(.transfer, .byte, count: bytes.count, group: pair(from: peer, to: rank), label: label)
        return unsafe submit(request, bytes)
    }

    /// Returns when every rank of the group has called it.
    public func barrier(in group: Group? = nil) throws(CollectiveFault) {
        let group = group ?? world, count = Schedule.tokenBytes(group.size)
        let tokens = unsafe UnsafeMutableRawBufferPointer(rebasing: scratch[..<count])
        let ticket = unsafe submit(Request(.barrier, .byte, count: count, group: group), tokens)
        try ticket.wait()
    }

    private func move(_ kind: CollectiveKind, _ bytes: UnsafeMutableRawBufferPointer, _ partition: Partition,
                      _ root: Int, _ group: Group?, _ style: CollectiveStyle) -> Ticket {
        let request = request(kind, .byte, partition.count, group, style, partition, root: root)
        precondition(bytes.count == request.ownCount, "the buffer is the whole at the root, a part elsewhere")
        return unsafe submit(request, bytes)
    }

    private func request(_ kind: CollectiveKind, _ element: ElementType, _ count: Int, _ group: Group?,
                         _ style: CollectiveStyle, _ partition: Partition? = nil, root: Int? = nil) -> Request {
        let group = group ?? world
        var position = 0
        if let root {
            guard let found = group.ranks.firstIndex(of: root) else {
                preconditionFailure("rank \(root) is not a member of the group \(group.ranks)")
            }
            position = found
        }
        return Request(kind, element, count: count, group: group, partition: partition, root: position,
                       reduction: style.reduction, wire: style.wire, label: style.label, algorithm: style.algorithm,
                       choice: options.choice)
    }
}
