/// A collective in flight. Its buffer belongs to the network until `wait` returns: the holder must neither
/// read nor write it before. A ticket cannot be copied and must be awaited; dropping one traps, unless the
/// communicator has failed (then there is nothing left to wait for).
@safe public struct Ticket: ~Copyable {
    private let communicator: Communicator
    /// Nil: nothing was to be done.
    private let operation: Operation?
    private var isPending: Bool

    init(_ communicator: Communicator, _ operation: Operation?) {
        self.communicator = communicator
        self.operation = operation
        isPending = operation != nil
    }

    /// Returns when this rank's part is done: the result is in the buffer. Drives the network meanwhile.
    public consuming func wait() throws(CollectiveFault) {
        if let operation = take() { try communicator.wait(for: operation) }
    }

    /// The operation, whose wait is now the taker's duty.
    mutating func take() -> Operation? {
        isPending = false
        return operation
    }

    deinit {
        if isPending, !communicator.hasFailed {
            preconditionFailure("a Ticket was dropped without wait(): \(operation?.name ?? "")")
        }
    }
}

/// Tickets in the order they were taken, to be awaited in that order: a step's gradient buckets.
@safe public struct TicketQueue: ~Copyable {
    private let communicator: Communicator
    private var operations: [Operation?] = []
    private var next = 0

    public init(_ communicator: Communicator) { self.communicator = communicator }

    /// Tickets not awaited yet.
    public var count: Int { operations.count - next }

    public mutating func append(_ ticket: consuming Ticket) { operations.append(ticket.take()) }

    /// Awaits the oldest ticket; there must be one.
    public mutating func waitNext() throws(CollectiveFault) {
        precondition(count > 0, "no ticket to wait for")
        let operation = operations[next]
        operations[next] = nil
        next += 1
        if count == 0 {
            operations.removeAll(keepingCapacity: true)
            next = 0
        }
        if let operation { try communicator.wait(for: operation) }
    }

    public mutating func waitAll() throws(CollectiveFault) {
        while count > 0 { try waitNext() }
    }

    deinit {
        if count > 0, !communicator.hasFailed {
            preconditionFailure("a TicketQueue was dropped with \(count) tickets not awaited")
        }
    }
}
