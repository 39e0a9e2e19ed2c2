import Base
import Wire

/// Collectives between the ranks of a job: the blocking, threaded shell round `Executor`.
///
/// Every member of a group calls the same collectives on it, and all ranks begin the collectives of all groups in one
/// common order, each those that it takes part in. All calls come from one thread. In a group of one every
/// collective is done at once and touches nothing.
///
/// Results are the same bits on all ranks, and from run to run: the order of each sum is a pure function of
/// (collective, count, partition, group), see `Algorithm` and the generators.
@safe public final class Communicator {
    public let world: Group
    public private(set) var options: CommunicatorOptions
    let driver: Driver
    let link: any Link
    private var programs = ProgramCache()
    /// Groups made so far, the world not counted.
    private var groupCount: UInt32 = 0
    /// Of the pairs that have exchanged a message: at most two for each peer.
    private var pairs: [UInt32: GroupIdentity] = [:]
    private var waitNanoseconds: UInt64 = 0
    private var bytesReceivedInWaits = 0
    private var bytesExchangedInWaits = 0
    /// Set while nothing is in flight. Nil costs a branch for each collective.
    public var observer: (any CollectiveObserver)? {
        didSet { driver.withExecutor { $0.observer = observer } }
    }
    /// The tokens of barriers, and the rows of `exchange`.
    let scratch: UnsafeMutableRawBufferPointer

    public var rank: Int { world.index }
    public var worldSize: Int { world.size }

    public init(link: any Link, options: CommunicatorOptions = CommunicatorOptions()) {
        world = Group(ranks: Array(0..<link.worldSize), rank: link.rank, identity: GroupIdentity(id: 0))
        self.link = link
        self.options = options
        driver = Driver(Executor(link: link, options: options))
        unsafe scratch = .allocate(byteCount: link.worldSize * Self.exchangeLimit * 8, alignment: 64)
        unsafe scratch.initializeMemory(as: UInt8.self, repeating: 0)
    }

    deinit {
        driver.stop()
        driver.end()
        programs.close()
        unsafe scratch.deallocate()
    }

    func submit(_ request: Request, _ buffer: UnsafeMutableRawBufferPointer,
                source: UnsafeRawBufferPointer? = nil) -> Ticket {
        guard let operation = unsafe begin(request, buffer, source: source) else { return Ticket(self, nil) }
        return Ticket(self, operation)
    }

    /// Nil where nothing is to be done: a group of one is its own sum.
    func begin(_ request: Request, _ buffer: UnsafeMutableRawBufferPointer,
               source: UnsafeRawBufferPointer? = nil) -> Operation? {
        let group = request.group
        precondition(group.ranks[group.index] == rank, "a group seen from another rank")
        guard group.size > 1 || request.kind == .allToAll else { return nil }
        guard let identity = group.identity ?? (group == world ? world.identity : nil) else {
            preconditionFailure("a group that does collectives is made by makeGroup")
        }
        let program = programs.program(for: request, segmentBytes: options.segmentBytes)
        let operation = program.idle.popLast() ?? Operation(program)
        program.running += 1
        unsafe operation.prepare(base: buffer.baseAddress, source: source?.baseAddress,
                                 tagOperation: identity.nextOperation())
        driver.submit(operation)
        return operation
    }

    /// The measured part of the table of algorithms from here on; the same on all ranks.
    public func use(rules: [Choice.Rule]) { options.choice.rules = rules }

    /// Told in words when a rank is waited for very long that says it computes. Set while nothing is in flight.
    public var notice: (@Sendable (String) -> Void)? {
        didSet { driver.withExecutor { $0.notice = notice } }
    }

    // MARK: Groups

    /// A group of some ranks of the world, seen from this one; nil if it is none of them. **Every rank of the world
    /// makes the same groups in the same order**, members or not: so all count alike, no message is needed, and no two
    /// groups ever have one id. A group is forgotten with its last copy.
    public func makeGroup(_ ranks: [Int]) -> Group? { makeGroups([ranks]) }

    /// Makes several groups without a common rank, and returns the one that this rank is in.
    public func makeGroups(_ lists: [[Int]]) -> Group? {
        var own: Group?
        for ranks in lists {
            precondition(ranks.allSatisfy { (0..<worldSize).contains($0) },
                         "the group \(ranks) leaves the world of \(worldSize) ranks")
            precondition(groupCount < GroupIdentity.firstPair - 1, "groups cannot be counted any further")
            groupCount += 1
            guard ranks.contains(rank) else { continue }
            precondition(own == nil, "rank \(rank) is in two of the groups \(lists)")
            own = Group(ranks: ranks, rank: rank, identity: GroupIdentity(id: groupCount))
        }
        return own
    }

    /// The two ends of messages from one rank to another, in this order.
    func pair(from: Int, to: Int) -> Group {
        precondition(from != to && [from, to].allSatisfy { (0..<worldSize).contains($0) },
                     "no message goes from rank \(from) to rank \(to)")
        let id = GroupIdentity.firstPair + UInt32(from * worldSize + to)
        let identity = pairs[id] ?? GroupIdentity(id: id)
        pairs[id] = identity
        return Group(ranks: [from, to], rank: rank, identity: identity)
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

    /// Returns when `operation` is done.
    func wait(for operation: Operation) throws(CollectiveFault) {
        if operation.isDone { return recycle(operation) }
        let begin = link.now
        defer {
            let end = link.now
            waitNanoseconds += end - begin
            observer?.waited(for: operation.program.request, from: begin, to: end)
        }
        try driver.withExecutor { executor throws(CollectiveFault) in
            let before = (executor.bytesReceived, executor.bytesExchanged)
            defer {
                bytesReceivedInWaits += executor.bytesReceived - before.0
                bytesExchangedInWaits += executor.bytesExchanged - before.1
            }
            while !operation.isDone {
                if let fault = executor.fault { throw fault }
                executor.pass(until: executor.deadline(since: begin))
                if executor.isBusy, link.now >= executor.deadline(since: begin) { executor.expire() }
            }
        }
        recycle(operation)
    }

    /// Has the caller make all that `operation` waits for, with a pass of the network behind each segment.
    func prepare(_ operation: Operation, _ preparing: (Range<Int>) -> Void) throws(CollectiveFault) {
        try driver.withExecutor { executor throws(CollectiveFault) in
            while let step = operation.toPrepare.first {
                if let fault = executor.fault { throw fault }
                operation.toPrepare.removeFirst()
                preparing(operation.elements(of: step))
                executor.prepared(step, of: operation)
                executor.pass(until: 0)
            }
        }
    }

    private func recycle(_ operation: Operation) {
        operation.program.running -= 1
        operation.program.idle.append(operation)
    }

    // MARK: Faults and figures

    /// Whether a fault has ended all collectives. The helper finds faults too, hence the hand-over.
    public var hasFailed: Bool { driver.withExecutor { $0.fault != nil } }

    /// Tells all peers that this rank gives up for a reason of its own, so that they name it instead of
    /// waiting. Afterwards every wait here throws, and tickets may be dropped.
    public func abort(_ reason: String, during operation: String) {
        let fault = LinkFault(culprit: rank, host: link.hosts[rank], operation: operation,
                              evidence: reason, reporter: rank)
        driver.withExecutor { $0.fail(fault) }
    }

    /// Ends all collectives with `fault` on this rank, and on the others by `peers`.
    func fail(_ fault: CollectiveFault, telling peers: LinkFault) {
        driver.withExecutor { $0.fail(fault, telling: peers) }
    }

    func host(of rank: Int) -> String { link.hosts[rank] }

    /// Programs that are kept: bounded, whatever a run asks for.
    package var programCount: Int { programs.count }

    public var statistics: CommunicationStatistics {
        driver.withExecutor { executor in
            CommunicationStatistics(
                operations: executor.operationsFinished, bytesSent: executor.bytesSent,
                bytesReceived: executor.bytesReceived, bytesReceivedInWaits: bytesReceivedInWaits,
                exchangedBytes: executor.bytesExchanged, exchangedInWaits: bytesExchangedInWaits,
                waitSeconds: Double(waitNanoseconds) * 1e-9, saturated: executor.saturated)
        }
    }
}
