import Base
import Wire

/// Collectives between the ranks of a job: the blocking, threaded shell round `Executor`.
///
/// Every member of a group calls the same collectives on it in the same order; between groups that share
/// two ranks, those ranks keep one order too. All calls come from one thread. In a group of one every
/// collective is done at once and touches nothing.
///
/// Results are the same bits on all ranks, and from run to run: the order of each sum is a pure function of
/// (collective, count, partition, group), see `Algorithm` and the generators.
@safe public final class Communicator {
    public let world: Group
    public let options: CommunicatorOptions
    private let driver: Driver
    private let link: any Link
    private var programs: [Request: Program] = [:]
    /// Collectives begun so far, by group.
    private var numbers: [UInt32: (group: [Int], count: UInt64)] = [:]
    private var waitNanoseconds: UInt64 = 0
    private var bytesReceivedInWaits = 0
    /// Set while nothing is in flight. Nil costs a branch for each collective.
    public var observer: (any CollectiveObserver)? {
        didSet { driver.withExecutor { $0.observer = observer } }
    }
    /// A byte per rank for barriers, and the rows of `exchange`.
    let scratch: UnsafeMutableRawBufferPointer

    public var rank: Int { world.index }
    public var worldSize: Int { world.size }

    public init(link: any Link, options: CommunicatorOptions = CommunicatorOptions()) {
        world = Group(worldSize: link.worldSize, rank: link.rank)
        self.link = link
        self.options = options
        driver = Driver(Executor(link: link, options: options))
        unsafe scratch = .allocate(byteCount: link.worldSize * Self.exchangeLimit * 8, alignment: 64)
        unsafe scratch.initializeMemory(as: UInt8.self, repeating: 0)
    }

    deinit {
        driver.stop()
        unsafe scratch.deallocate()
    }

    // MARK: Collectives

    /// Sums `buffer` over the group's ranks, element by element; every rank ends with the same bits.
    /// Scaling is the caller's: a loss already divided by the global count needs none.
    public func allReduce(
        _ buffer: UnsafeMutableBufferPointer<Float>, in group: Group? = nil, algorithm: Algorithm? = nil
    ) -> Ticket {
        let request = Request(.allReduce, .float32, count: buffer.count, group: group ?? world,
                              algorithm: algorithm)
        return unsafe submit(request, UnsafeMutableRawBufferPointer(buffer))
    }

    /// Sums `buffer` over the group's ranks; this rank ends with the sum in its own part of `partition` (an
    /// even one by default). The other parts are overwritten with partial sums.
    public func reduceScatter(
        _ buffer: UnsafeMutableBufferPointer<Float>, partition: Partition? = nil, in group: Group? = nil,
        algorithm: Algorithm? = nil
    ) -> Ticket {
        let request = Request(.reduceScatter, .float32, count: buffer.count, group: group ?? world,
                              partition: partition, algorithm: algorithm)
        return unsafe submit(request, UnsafeMutableRawBufferPointer(buffer))
    }

    /// Fills `buffer` with every rank's part; this rank's own part (of `partition`, an even one by default)
    /// is there already.
    public func allGather(
        _ buffer: UnsafeMutableBufferPointer<Float>, partition: Partition? = nil, in group: Group? = nil,
        algorithm: Algorithm? = nil
    ) -> Ticket {
        let request = Request(.allGather, .float32, count: buffer.count, group: group ?? world,
                              partition: partition, algorithm: algorithm)
        return unsafe submit(request, UnsafeMutableRawBufferPointer(buffer))
    }

    /// The same for bytes; `partition` counts bytes.
    public func allGather(
        bytes: UnsafeMutableRawBufferPointer, partition: Partition? = nil, in group: Group? = nil,
        algorithm: Algorithm? = nil
    ) -> Ticket {
        let request = Request(.allGather, .byte, count: bytes.count, group: group ?? world,
                              partition: partition, algorithm: algorithm)
        return unsafe submit(request, bytes)
    }

    /// Copies `bytes` of the world rank `root`, a member of the group, to all others.
    public func broadcast(
        _ bytes: UnsafeMutableRawBufferPointer, from root: Int, in group: Group? = nil,
        algorithm: Algorithm? = nil
    ) -> Ticket {
        let group = group ?? world
        guard let position = group.ranks.firstIndex(of: root) else {
            preconditionFailure("rank \(root) is not a member of the group \(group.ranks)")
        }
        let request = Request(.broadcast, .byte, count: bytes.count, group: group, root: position,
                              algorithm: algorithm)
        return unsafe submit(request, bytes)
    }

    /// Returns when every rank of the group has called it.
    public func barrier(in group: Group? = nil) throws(CollectiveFault) {
        let group = group ?? world
        let tokens = unsafe UnsafeMutableRawBufferPointer(rebasing: scratch[..<group.size])
        let request = Request(.barrier, .byte, count: group.size, group: group)
        let ticket = unsafe submit(request, tokens)
        try ticket.wait()
    }

    func submit(_ request: Request, _ buffer: UnsafeMutableRawBufferPointer) -> Ticket {
        let group = request.group
        precondition(group.ranks[group.index] == rank, "a group seen from another rank")
        guard group.size > 1 else { return Ticket(self, nil) }
        let program = programs[request] ?? compile(request)
        let operation = program.idle.popLast() ?? Operation(program)
        unsafe operation.prepare(base: buffer.baseAddress, number: nextNumber(of: group))
        driver.submit(operation)
        return Ticket(self, operation)
    }

    private func compile(_ request: Request) -> Program {
        precondition(request.group.ranks.allSatisfy { (0..<worldSize).contains($0) },
                     "the group \(request.group.ranks) leaves the world of \(worldSize) ranks")
        let program = Program(request, segmentBytes: options.segmentBytes)
        programs[request] = program
        return program
    }

    private func nextNumber(of group: Group) -> UInt64 {
        let entry = numbers[group.id, default: (group.ranks, 0)]
        precondition(entry.group == group.ranks, "groups \(entry.group) and \(group.ranks) share an id")
        numbers[group.id] = (entry.group, entry.count + 1)
        return entry.count
    }

    // MARK: Progress

    /// One pass of the network without waiting, to be called now and then while computing. While
    /// overlapping the helper does it, and this does nothing.
    public func progress() {
        if !driver.isOverlapping { driver.withExecutor { $0.pass(until: 0) } }
    }

    /// From here to `endOverlap` a helper thread drives the network, so that collectives move while this
    /// thread computes. The helper is made on first use and otherwise rests on a condition.
    public func beginOverlap() { driver.beginOverlap() }

    /// The caller drives the network again. Tickets may be awaited before or after.
    public func endOverlap() { driver.endOverlap() }

    func wait(for operation: Operation) throws(CollectiveFault) {
        let begin = link.now
        defer {
            let end = link.now
            waitNanoseconds += end - begin
            observer?.waited(for: operation.program.request, from: begin, to: end)
        }
        try driver.withExecutor { executor throws(CollectiveFault) in
            let before = executor.bytesReceived
            defer { bytesReceivedInWaits += executor.bytesReceived - before }
            while !operation.isDone {
                if let fault = executor.fault { throw fault }
                executor.pass(until: executor.deadline(since: begin))
                if executor.isBusy, link.now >= executor.deadline(since: begin) { executor.expire() }
            }
        }
        operation.program.idle.append(operation)
    }

    // MARK: Faults and figures

    /// Whether a fault has ended all collectives. The helper finds faults too, hence the hand-over.
    public var hasFailed: Bool { driver.withExecutor { $0.fault != nil } }

    /// Tells all peers that this rank gives up for a reason of its own, so that they name it instead of
    /// waiting. Afterwards every wait here throws, and tickets may be dropped.
    public func abort(_ reason: String, during operation: String) {
        let fault = LinkFault(culprit: rank, host: options.host(of: rank), operation: operation,
                              evidence: reason, reporter: rank)
        driver.withExecutor { $0.fail(fault) }
    }

    /// Ends all collectives with `fault` on this rank, and on the others by `peers`.
    func fail(_ fault: CollectiveFault, telling peers: LinkFault) {
        driver.withExecutor { $0.fail(fault, telling: peers) }
    }

    public var statistics: CommunicationStatistics {
        driver.withExecutor { executor in
            CommunicationStatistics(
                operations: executor.operationsFinished, bytesSent: executor.bytesSent,
                bytesReceived: executor.bytesReceived, bytesReceivedInWaits: bytesReceivedInWaits,
                waitSeconds: Double(waitNanoseconds) * 1e-9)
        }
    }
}

/// What a communicator has done since it was made. Bandwidth as people compare it is bytes of the buffer
/// over seconds times `CollectiveKind.busFactor`.
public struct CommunicationStatistics: Sendable, Equatable {
    public var operations: Int
    /// Payload bytes, without frames.
    public var bytesSent: Int
    public var bytesReceived: Int
    /// The part of them that arrived while the caller was waiting for a ticket.
    public var bytesReceivedInWaits: Int
    /// Time the caller spent waiting for tickets.
    public var waitSeconds: Double

    /// The share of the received bytes that arrived while the caller did something else; 0 without traffic.
    public var hiddenShare: Double {
        bytesReceived == 0 ? 0 : 1 - Double(bytesReceivedInWaits) / Double(bytesReceived)
    }

    /// What was added since `earlier`.
    public func since(_ earlier: CommunicationStatistics) -> CommunicationStatistics {
        CommunicationStatistics(
            operations: operations - earlier.operations, bytesSent: bytesSent - earlier.bytesSent,
            bytesReceived: bytesReceived - earlier.bytesReceived,
            bytesReceivedInWaits: bytesReceivedInWaits - earlier.bytesReceivedInWaits,
            waitSeconds: waitSeconds - earlier.waitSeconds)
    }
}
