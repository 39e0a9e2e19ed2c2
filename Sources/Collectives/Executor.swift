import Base
import Wire

/// Runs collectives over a link: a step function from link events to link calls. It never blocks, knows
/// no thread and no clock but the link's, so a simulation runs the very code that training runs.
///
/// Several operations may be in flight, of several groups. **The order of operations is one for all groups**: every
/// rank starts those that it takes part in in the order of one global list. Two orders are kept across all of them:
/// messages to one peer leave in (start of operation, order in its schedule), and staging segments are given out in
/// that order too. Together with the rules that `Schedule` states, the oldest unfinished operation of all ranks can
/// always proceed: its members have no older one, so its messages are the next on their streams and its receives the
/// first that were posted. So operations that every rank starts in one order always finish, with any staging of at
/// least one segment. Sums are ordered by `Program`'s dependencies, never by arrival.
@safe package final class Executor: LinkUser {
    let link: any Link
    let options: CommunicatorOptions
    let inquiry = StallInquiry()
    let pool: StagingPool
    /// What leaves in another format than memory's; made when it is needed.
    private var narrowed: StagingPool?
    /// The narrow segment of each message on its way, and the peers that wait for one.
    private var narrowSegments: [UInt32: Int32] = [:]
    private var starved: Set<Int> = []
    /// Operations by token; nil is free.
    private var slots: [Operation?] = []
    private var freeSlots: [Int] = []
    /// Unfinished operations, oldest first.
    private(set) var order: [Operation] = []
    /// Per peer, the operations that still have messages to hand over, oldest first.
    private var senders: [[Operation]]
    /// The operations that still have staged receives to post, oldest first.
    private var stagers: [Operation] = []
    /// Mixed into all fingerprints: messages for another user of this link are not ours.
    private var salt: UInt32 = 0
    var observer: (any CollectiveObserver)?
    let flight = FlightRecorder()
    var notice: (@Sendable (String) -> Void)?

    package private(set) var fault: CollectiveFault?
    /// When something last arrived or left, or when an idle executor was last given work.
    private(set) var lastProgress: UInt64
    /// Since when there has been no operation.
    private var idleSince: UInt64
    /// When a rank that is waited for was last found to compute.
    var excusedAt: UInt64 = 0
    package private(set) var bytesSent = 0
    package private(set) var bytesReceived = 0
    /// Of all-to-alls alone.
    private(set) var bytesExchanged = 0
    package private(set) var operationsFinished = 0
    /// Numbers that were beyond the largest of a narrow format.
    package private(set) var saturated = 0

    package init(link: any Link, options: CommunicatorOptions) {
        self.link = link
        self.options = options
        pool = StagingPool(segments: options.stagingSegments(worldSize: link.worldSize),
                           segmentBytes: options.segmentBytes)
        senders = Array(repeating: [], count: link.worldSize)
        lastProgress = link.now
        idleSince = link.now
        salt = link.attach(self) &* 0x9E37_79B9
    }

    /// Before the executor goes: the link touches no buffer any more.
    package func end() { link.withdraw() }

    package var isBusy: Bool { !order.isEmpty && fault == nil }

    /// Puts an operation in flight behind those already there.
    package func start(_ operation: Operation) {
        guard fault == nil else { return }
        if order.isEmpty { lastProgress = link.now }
        let program = operation.program, request = program.request
        link.begin(operation: operation.tagOperation & 0xFFFF_FFFF, name: request.kind.label, bytes: request.bytes)
        flight.begin(operation, at: link.now)
        guard operation.unfinished > 0 else {
            operationsFinished += 1
            flight.end(operation, at: link.now)
            return operation.finish()
        }
        operation.slot = freeSlots.popLast() ?? slots.count
        precondition(operation.slot < OperationToken.operationLimit, "too many collectives in flight")
        if operation.slot == slots.count { slots.append(nil) }
        slots[operation.slot] = operation
        operation.startedAt = observer == nil ? 0 : link.now
        order.append(operation)
        if !program.staged.isEmpty {
            stagers.append(operation)
            postStaged()
        }
        for list in program.sends { senders[list.peer].append(operation) }
        // What has no blockers; what the steps done here set free is met by itself.
        for message in program.messages.indices
        where program.blockerCounts[message] == 0 && program.messages[message].deed != .send {
            becameReady(message, of: operation)
        }
        for list in program.sends { link.offer(to: list.peer) }
    }

    /// The step function.
    package func handle(_ event: LinkEvent) {
        guard fault == nil else { return }
        switch event {
        case .failed(let cause):
            fail(cause)
        case .sent(let raw):
            moved()
            sent(raw)
        case .received(let raw):
            let token = OperationToken(raw: raw)
            moved()
            received(token.message, of: running(token))
        case .asked(let peer):
            let now = link.now
            link.answer(peer, awaited.map { .waits(for: $0) } ?? .computes(now - min(now, idleSince)))
        case .answered(let peer, let answer):
            inquiry.answered(by: peer, answer)
        }
    }

    /// One pass: lets the network run until something happens or until `deadline`, and handles what did.
    /// Only the link's `poll` may wait here.
    package func pass(until deadline: UInt64) { link.poll(until: deadline) }

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

    private func sent(_ raw: UInt32) {
        let token = OperationToken(raw: raw), operation = running(token)
        bytesSent += operation.program.messages[token.message].wireLength
        if let segment = narrowSegments.removeValue(forKey: raw) {
            narrowed?.giveBack(segment)
            let waiting = starved
            starved.removeAll(keepingCapacity: true)
            for peer in waiting.sorted() { link.offer(to: peer) }
        }
        finish(token.message, of: operation)
    }

    private func received(_ message: Int, of operation: Operation) {
        let place = operation.program.messages[message]
        bytesReceived += place.wireLength
        if operation.program.request.kind == .allToAll { bytesExchanged += place.wireLength }
        guard isStaged(place, of: operation) else { return finish(message, of: operation) }
        operation.states[message] = .arrived
        if operation.blockers[message] == 0 { absorb(message, of: operation) }
    }

    /// All blockers of a step are done.
    private func becameReady(_ message: Int, of operation: Operation) {
        let place = operation.program.messages[message]
        switch place.deed {
        case .send: link.offer(to: place.peer)
        case .combine, .land:
            if isStaged(place, of: operation) {
                if operation.states[message] == .arrived { absorb(message, of: operation) }
                return
            }
            operation.states[message] = .posted
            unsafe link.receive(into: operation.memory(of: message), from: place.peer,
                                tag: tag(of: message, in: operation), token: token(message, of: operation),
                                sum: place.deed == .combine ? operation.program.sum : nil)
        case .prepare:
            operation.states[message] = .posted
            operation.toPrepare.append(message)
        case .copy, .narrow:
            doHere(message, of: operation)
            finish(message, of: operation)
        }
    }

    /// A sum goes by a staging segment unless the link adds it where it belongs.
    private func isStaged(_ place: Program.Message, of operation: Operation) -> Bool {
        place.isStaged && !(place.wireLength == place.length && link.addsInPlace(from: place.peer))
    }

    /// The link can send to `peer`. A message that is not ready holds up those behind it, also of later operations:
    /// the order is what rules out deadlock.
    public func nextMessage(to peer: Int) -> OutgoingMessage? {
        while fault == nil, let operation = senders[peer].first {
            let program = operation.program
            guard let list = program.sends.firstIndex(where: { $0.peer == peer }) else { return nil }
            let messages = program.sends[list].messages
            guard operation.sendCursors[list] < messages.count else {
                senders[peer].removeFirst()
                continue
            }
            let message = Int(messages[operation.sendCursors[list]])
            guard operation.blockers[message] == 0,
                  let bytes = unsafe bytesToSend(message, of: operation) else { return nil }
            operation.sendCursors[list] += 1
            if operation.sendCursors[list] == messages.count { senders[peer].removeFirst() }
            operation.states[message] = .posted
            return unsafe OutgoingMessage(bytes: bytes, tag: tag(of: message, in: operation),
                                          token: token(message, of: operation))
        }
        return nil
    }

    /// The elements as they are, or a narrow copy of them; nil until there is room for one.
    private func bytesToSend(_ message: Int, of operation: Operation) -> UnsafeRawBufferPointer? {
        let place = operation.program.messages[message], own = unsafe operation.outgoing(message)
        guard place.wireLength != place.length, let from = own.baseAddress else { return unsafe own }
        let pool = narrowed ?? StagingPool(segments: options.narrowSegments, segmentBytes: options.segmentBytes)
        narrowed = pool
        guard let segment = pool.take() else {
            starved.insert(place.peer)
            return nil
        }
        narrowSegments[token(message, of: operation)] = segment
        let copy = unsafe pool.memory(of: segment, length: place.wireLength)
        if let into = copy.baseAddress {
            saturated += unsafe narrow(from, into: into, count: place.length / 4, as: operation.program.request.wire)
        }
        return unsafe UnsafeRawBufferPointer(copy)
    }

    /// Posts staged receives, in order, while there are staging segments.
    private func postStaged() {
        while let operation = stagers.first {
            let program = operation.program
            while operation.stagedCursor < program.staged.count {
                let message = Int(program.staged[operation.stagedCursor])
                let place = program.messages[message]
                guard isStaged(place, of: operation) else {
                    operation.stagedCursor += 1
                    continue
                }
                guard let segment = pool.take() else { return }
                operation.stagedCursor += 1
                operation.segments[message] = segment
                operation.states[message] = .posted
                unsafe link.receive(into: pool.memory(of: segment, length: place.wireLength), from: place.peer,
                                    tag: tag(of: message, in: operation), token: token(message, of: operation))
            }
            stagers.removeFirst()
        }
    }

    /// What lies in a staging segment goes where it belongs.
    private func absorb(_ message: Int, of operation: Operation) {
        let request = operation.program.request, place = operation.program.messages[message]
        let segment = operation.segments[message]
        let source = unsafe pool.memory(of: segment, length: place.wireLength)
        let count = place.length / request.element.size
        if let into = unsafe operation.memory(of: message).baseAddress, let from = source.baseAddress {
            if place.deed == .combine {
                unsafe reduce(request.reduction, request.element, wire: request.wire, into: into, from: from,
                              count: count)
            } else {
                unsafe widen(from, into: into, count: count, as: request.wire)
            }
        }
        pool.giveBack(segment)
        finish(message, of: operation)
        postStaged()
    }

    private func doHere(_ message: Int, of operation: Operation) {
        let place = operation.program.messages[message], target = unsafe operation.memory(of: message)
        guard let into = target.baseAddress else { return }
        if place.deed == .narrow {
            let request = operation.program.request
            saturated += unsafe roundInPlace(into, count: place.length / request.element.size, as: request.wire)
        } else if let source = unsafe operation.source {
            unsafe into.copyMemory(from: source + place.from, byteCount: place.length)
        }
    }

    /// The caller has written what step `message` was about.
    func prepared(_ message: Int, of operation: Operation) {
        guard fault == nil else { return }
        lastProgress = link.now
        finish(message, of: operation)
    }

    private func finish(_ message: Int, of operation: Operation) {
        let program = operation.program
        operation.states[message] = .done
        operation.unfinished -= 1
        guard operation.unfinished == 0 else {
            for place in program.firstDependent[message]..<program.firstDependent[message + 1] {
                let dependent = Int(program.dependents[Int(place)])
                operation.blockers[dependent] -= 1
                if operation.blockers[dependent] == 0 { becameReady(dependent, of: operation) }
            }
            return
        }
        operationsFinished += 1
        flight.end(operation, at: link.now)
        if operation.startedAt > 0 {
            observer?.ran(program.request, lane: operation.slot, from: operation.startedAt, to: link.now)
        }
        slots[operation.slot] = nil
        freeSlots.append(operation.slot)
        order.removeAll { $0 === operation }
        if order.isEmpty { idleSince = link.now }
        operation.finish()
    }

    private func token(_ message: Int, of operation: Operation) -> UInt32 {
        OperationToken(operation: operation.slot, message: message).raw
    }

    private func tag(of message: Int, in operation: Operation) -> MessageTag {
        let program = operation.program
        return MessageTag(operation: operation.tagOperation, fingerprint: program.fingerprint &+ salt,
                          segment: program.messages[message].segment)
    }
}
