import Base
import Wire

/// Runs collectives over a link: a step function from link events to link calls. It never blocks, knows
/// no thread and no clock but the link's, so a simulation runs the very code that training runs.
///
/// Several operations may be in flight. Two orders are kept across all of them: messages to one peer leave
/// in (start of operation, order in its schedule), and staging segments are given out in that order too.
/// Together with the rules that `Schedule` states, the oldest unfinished operation can always proceed, so
/// operations started in the same order by every rank always finish. Sums are ordered by `Program`'s
/// dependencies, never by arrival.
@safe package final class Executor {
    let link: any Link
    let options: CommunicatorOptions
    let inquiry: StallInquiry
    private let pool: StagingPool
    /// Operations by token; nil is free.
    private var slots: [Operation?] = []
    private var freeSlots: [Int] = []
    /// Unfinished operations, oldest first.
    private(set) var order: [Operation] = []
    /// Per peer, the operations that still have messages to hand over, oldest first.
    private var senders: [[Operation]]
    /// The operations that still have adding receives to post, oldest first.
    private var stagers: [Operation] = []
    private var events: [LinkEvent] = []
    var observer: (any CollectiveObserver)?

    package private(set) var fault: CollectiveFault?
    /// When something last arrived or left, or when an idle executor was last given work.
    private(set) var lastProgress: UInt64
    package private(set) var bytesSent = 0
    package private(set) var bytesReceived = 0
    package private(set) var operationsFinished = 0

    package init(link: any Link, options: CommunicatorOptions) {
        self.link = link
        self.options = options
        pool = StagingPool(segments: options.stagingSegments(worldSize: link.worldSize),
                           segmentBytes: options.segmentBytes)
        inquiry = StallInquiry(link: link)
        senders = Array(repeating: [], count: link.worldSize)
        lastProgress = link.now
        events.reserveCapacity(64)
    }

    package var isBusy: Bool { !order.isEmpty && fault == nil }

    /// Puts an operation in flight behind those already there.
    package func start(_ operation: Operation) {
        guard fault == nil else { return }
        if order.isEmpty { lastProgress = link.now }
        let request = operation.program.request
        link.begin(operation: operation.number, name: request.kind.label, bytes: request.bytes)
        guard operation.unfinished > 0 else {
            operation.isDone = true
            operationsFinished += 1
            return
        }
        operation.slot = freeSlots.popLast() ?? slots.count
        precondition(operation.slot < StallInquiry.tokenSlot, "too many collectives in flight")
        if operation.slot == slots.count { slots.append(nil) }
        slots[operation.slot] = operation
        operation.startedAt = observer == nil ? 0 : link.now
        order.append(operation)
        let program = operation.program
        for message in program.messages.indices
        where !program.messages[message].isSend && operation.blockers[message] == 0 {
            becameReady(message, of: operation)
        }
        if !program.staged.isEmpty {
            stagers.append(operation)
            postStaged()
        }
        for list in program.sends {
            senders[list.peer].append(operation)
            pumpSends(to: list.peer)
        }
    }

    /// The step function.
    package func handle(_ event: LinkEvent) {
        guard fault == nil else { return }
        switch event {
        case .failed(let cause):
            fail(cause)
        case .sent(let raw):
            let token = OperationToken(raw: raw)
            if token.operation == StallInquiry.tokenSlot { return inquiry.sent(token.message) }
            moved()
            sent(token.message, of: running(token))
        case .received(let raw):
            let token = OperationToken(raw: raw)
            if token.operation == StallInquiry.tokenSlot {
                return inquiry.received(from: token.message, awaited: awaited)
            }
            moved()
            received(token.message, of: running(token))
        }
    }

    /// One pass: lets the network run until something happens or until `deadline`, and handles what did.
    /// Only the link's `poll` may wait here.
    package func pass(until deadline: UInt64) {
        events.removeAll(keepingCapacity: true)
        link.poll(into: &events, until: deadline)
        for event in events { handle(event) }
    }

    /// Ends everything: tells all peers and keeps the fault for every waiter.
    func fail(_ cause: LinkFault) {
        guard fault == nil else { return }
        fault = .peer(cause, during: order.first?.name ?? "no collective")
        link.abort(cause)
    }

    /// Ends everything for a reason that is not the network's.
    func fail(_ cause: CollectiveFault, telling peers: LinkFault) {
        guard fault == nil else { return }
        fault = cause
        link.abort(peers)
    }

    private func moved() {
        lastProgress = link.now
        inquiry.withdraw()
    }

    private func running(_ token: OperationToken) -> Operation {
        guard let operation = slots[token.operation] else {
            preconditionFailure("the link reported a message that was never posted")
        }
        return operation
    }

    // MARK: Messages

    private func sent(_ message: Int, of operation: Operation) {
        bytesSent += operation.program.messages[message].length
        finish(message, of: operation)
    }

    private func received(_ message: Int, of operation: Operation) {
        let place = operation.program.messages[message]
        bytesReceived += place.length
        guard place.isStaged else { return finish(message, of: operation) }
        operation.states[message] = .arrived
        if operation.blockers[message] == 0 { sum(message, of: operation) }
    }

    /// All blockers of a message are done.
    private func becameReady(_ message: Int, of operation: Operation) {
        let place = operation.program.messages[message]
        if place.isSend {
            pumpSends(to: place.peer)
        } else if !place.isStaged {
            operation.states[message] = .posted
            unsafe link.receive(into: operation.memory(of: message), from: place.peer,
                                tag: operation.tag(of: message), token: token(message, of: operation))
        } else if operation.states[message] == .arrived {
            sum(message, of: operation)
        }
    }

    /// Hands over as many messages to `peer` as are ready at the head of its line. A message that is not
    /// ready holds up those behind it, also of later operations: the order is what rules out deadlock.
    private func pumpSends(to peer: Int) {
        while let operation = senders[peer].first {
            let program = operation.program
            guard let list = program.sends.firstIndex(where: { $0.peer == peer }) else { return }
            while operation.sendCursors[list] < program.sends[list].messages.count {
                let message = Int(program.sends[list].messages[operation.sendCursors[list]])
                guard operation.blockers[message] == 0 else { return }
                operation.sendCursors[list] += 1
                operation.states[message] = .posted
                unsafe link.send(UnsafeRawBufferPointer(operation.memory(of: message)), to: peer,
                                 tag: operation.tag(of: message), token: token(message, of: operation))
            }
            senders[peer].removeFirst()
        }
    }

    /// Posts adding receives, in order, while there are staging segments.
    private func postStaged() {
        while let operation = stagers.first {
            let program = operation.program
            while operation.stagedCursor < program.staged.count {
                guard let segment = pool.take() else { return }
                let message = Int(program.staged[operation.stagedCursor])
                let place = program.messages[message]
                operation.stagedCursor += 1
                operation.segments[message] = segment
                operation.states[message] = .posted
                unsafe link.receive(into: pool.memory(of: segment, length: place.length), from: place.peer,
                                    tag: operation.tag(of: message), token: token(message, of: operation))
            }
            stagers.removeFirst()
        }
    }

    private func sum(_ message: Int, of operation: Operation) {
        let program = operation.program
        let segment = operation.segments[message]
        let target = unsafe operation.memory(of: message)
        let source = unsafe pool.memory(of: segment, length: target.count)
        if let into = target.baseAddress, let from = source.baseAddress {
            unsafe add(program.request.element, into: into, from: from, bytes: target.count)
        }
        pool.giveBack(segment)
        finish(message, of: operation)
        postStaged()
    }

    private func finish(_ message: Int, of operation: Operation) {
        let program = operation.program
        operation.states[message] = .done
        operation.unfinished -= 1
        if operation.unfinished == 0 {
            operation.isDone = true
            operationsFinished += 1
            if operation.startedAt > 0 {
                observer?.ran(operation.program.request, lane: operation.slot, from: operation.startedAt, to: link.now)
            }
            slots[operation.slot] = nil
            freeSlots.append(operation.slot)
            order.removeAll { $0 === operation }
            return
        }
        for place in program.firstDependent[message]..<program.firstDependent[message + 1] {
            let dependent = Int(program.dependents[Int(place)])
            operation.blockers[dependent] -= 1
            if operation.blockers[dependent] == 0 { becameReady(dependent, of: operation) }
        }
    }

    private func token(_ message: Int, of operation: Operation) -> UInt32 {
        OperationToken(operation: operation.slot, message: message).raw
    }
}
