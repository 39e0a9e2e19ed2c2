import Base

// The start: who is connected to whom is decided by `Roster`, what is said by `Handshake`; here the two meet, and what
// comes to nothing is tried again or given up.
extension Session {
    private static let firstRetrySeconds = 0.02
    private static let lastRetrySeconds = 0.5

    // MARK: connecting

    func startTick() {
        guard watch.fault == nil else { return }
        for retry in retries where retry.at <= now { roster.retry(retry.peer, stream: retry.stream) }
        retries.removeAll { $0.at <= now }
        for (peer, stream) in roster.nextConnections() {
            if let address = address(of: peer) { connect(peer, stream, to: address) } else { act(.resolve) }
        }
        if now >= startDeadline { fail(whatIsMissing) }
        completeIfDone()
    }

    /// Nil for rank 0 as long as it has not been met.
    private func address(of peer: Int) -> SocketAddress? {
        guard peer != 0, let place = roster.places[peer] else { return masterAddress }
        // A link-local address is good on the link that leads to rank 0.
        let address = place.address
        guard address.isLinkLocal, let scope = masterAddress?.scope, scope != 0 else { return address }
        return SocketAddress(host: address.host, port: address.port, scope: scope)
    }

    /// Rank 0's addresses, in the order that the system prefers; one after the other is tried.
    package func resolved(_ addresses: [SocketAddress], at now: UInt64) {
        self.now = now
        guard stage == .starting else { return }
        let address = addresses[attempts % addresses.count]
        lastTried = address
        connect(0, 0, to: address)
    }

    /// A name may not be known yet where names come with the machines.
    package func unresolved(_ problem: String, at now: UInt64) {
        self.now = now
        lastProblem = problem
        again(0, 0)
    }

    private func connect(_ peer: Int, _ stream: Int, to address: SocketAddress) {
        let connection = newConnection()
        let handshake = Handshake(connectingTo: peer, stream: stream, identity: identity, secret: options.secret,
                                  address: address.description)
        greetings[connection] = Greeting(connection: connection, target: (peer, stream), address: address,
                                         handshake: handshake, deadline: now + Greeting.patience)
        act(.connect(connection, address))
    }

    private func again(_ peer: Int, _ stream: Int) {
        attempts += 1
        let wait = min(Self.firstRetrySeconds * Double(1 << min(attempts, 10)), Self.lastRetrySeconds)
        retries.append((peer, stream, now + UInt64(wait * 1e9)))
    }

    // MARK: handshakes

    /// A connection that shakes hands has brought bytes.
    func greet(_ connection: Int, _ bytes: [UInt8]) {
        guard let greeting = greetings[connection] ?? meet(connection) else { return }
        greeting.bytes += bytes
        guard greeting.bytes.count == greeting.handshake.wanted else { return }
        let message = greeting.bytes
        greeting.bytes = []
        let wasProven = greeting.handshake.isProven
        let step = greeting.handshake.receive(message)
        if greeting.handshake.isProven, !wasProven {
            gate.leave(connection)
            greeting.deadline = now + Greeting.patience
        } else if step.outcome == nil {
            gate.advance(connection, to: .knowing)
        }
        follow(step, greeting)
    }

    /// A connection that came in says its first byte: from now on there is something to keep of it.
    private func meet(_ connection: Int) -> Greeting? {
        guard let address = silent.removeValue(forKey: connection) else { return nil }
        gate.advance(connection, to: .speaking)
        let handshake = Handshake(listeningAs: identity, secret: options.secret, address: address.description)
        // Its time is the gate's until it has proven itself.
        let greeting = Greeting(connection: connection, target: nil, address: address, handshake: handshake,
                                deadline: .max)
        greetings[connection] = greeting
        return greeting
    }

    private func follow(_ step: Handshake.Step, _ greeting: Greeting) {
        if !step.send.isEmpty { act(.send(greeting.connection, step.send)) }
        switch step.outcome {
        case nil:
            // The other side counts on this stream as soon as it has our answer, so it is not given up from here.
            if greeting.handshake.awaitsConfirmation { greeting.deadline = .max }
        case .proven(let rank, let stream):
            let verdict = verdict(on: rank, stream: stream)
            greeting.proven = (rank, stream)
            follow(greeting.handshake.answer(verdict), greeting)
        case .established(let result): establish(greeting, result)
        case .stranger(let reason): drop(greeting, because: reason)
        case .busy: drop(greeting, because: "it has too many half-open connections")
        case .failed(let error): failed(greeting, error)
        }
    }

    private func verdict(on rank: Int, stream: Int) -> Handshake.Verdict {
        if let reason = roster.refusal(of: rank, stream: stream) { return .refused(reason) }
        let isUnderWay = greetings.values.contains {
            $0.handshake.awaitsConfirmation && $0.proven?.rank == rank && $0.proven?.stream == stream
        }
        return isUnderWay ? .later : .welcome
    }

    private func forget(_ greeting: Greeting) {
        greetings[greeting.connection] = nil
        gate.leave(greeting.connection)
    }

    /// A connection that came in and said nothing goes.
    func turnAway(_ connection: Int) {
        if let greeting = greetings[connection] { return drop(greeting, because: "too many half-open connections") }
        gate.leave(connection)
        silent[connection] = nil
        strangers += 1
        act(.close(connection))
    }

    /// The connection is of no use. Strangers are counted and forgotten; what we opened is tried again.
    func drop(_ greeting: Greeting, because reason: String) {
        forget(greeting)
        act(.close(greeting.connection))
        guard let (peer, stream) = greeting.target else {
            if !greeting.handshake.isProven { strangers += 1 }
            return
        }
        guard stage == .starting else { return }
        lastProblem = reason
        strangerMet = nil
        again(peer, stream)
    }

    /// A peer that knows the secret, or our own side, is wrong: that ends the start. One that has not proven anything
    /// is not believed: it may be anybody who got the port first, and leave it again. What it said is told only if
    /// nobody better comes.
    private func failed(_ greeting: Greeting, _ error: WireError) {
        if greeting.target != nil, !greeting.handshake.isProven {
            drop(greeting, because: error.description)
            strangerMet = error
            return
        }
        forget(greeting)
        act(.close(greeting.connection))
        fail(error)
    }

    private func establish(_ greeting: Greeting, _ result: HandshakeResult) {
        forget(greeting)
        roster.establish(result.rank, stream: result.stream)
        guard result.stream == 0 else {
            act(.keep(greeting.connection, result))
            return completeIfDone()
        }
        peers[greeting.connection] = result.rank
        controls[result.rank] = ControlChannel(connection: greeting.connection, keys: result, session: self)
        attempts = 0
        watch.meet(result.rank, at: now)
        say(.heartbeat, to: result.rank)
        // Who comes while a fault waits to be reported has not been told of it.
        if let fault = watch.fault { say(.abort, ControlPayload.abort(fault, kind: faultKind), to: result.rank) }
        if greeting.target?.peer == 0 {
            masterAddress = greeting.address
            lastLocal = greeting.local
            say(.hello, ControlPayload.hello(ownPlace(seenBy: greeting.local)), to: 0)
        }
        completeIfDone()
    }

    /// Where others find this rank: at the address it listens on, or, when that is every address, at the one by which
    /// it reaches rank 0.
    func ownPlace(seenBy local: SocketAddress?) -> Place {
        var address = listening
        if address.isWildcard, let local { address = local.with(port: address.port) }
        return Place(address: address, hostName: hostName)
    }

    // MARK: the end of the start

    func completeIfDone() {
        guard stage == .starting, watch.fault == nil, roster.isComplete else { return }
        if !hasOfferedMemory {
            act(.stopListening)
            for connection in silent.keys.sorted() + greetings.keys.sorted() { turnAway(connection) }
            offerMemory()
        }
        guard stage == .starting, watch.fault == nil, memoryAwaited.isEmpty else { return }
        stage = .running
        act(.started)
    }

    private var whatIsMissing: WireError {
        let seconds = options.startDeadlineSeconds
        if options.rank > 0, masterAddress == nil {
            return strangerMet ?? .noMaster(address: masterText, seconds: seconds, problem: lastProblem)
        }
        if let peer = roster.missing.first, let place = roster.places[peer] {
            guard peer < options.rank else {
                return .notReached(by: peer, host: place.hostName, address: ownPlace(seenBy: lastLocal)
                    .address.description, seconds: seconds)
            }
            return .unreachable(rank: peer, address: place.address.description, problem: lastProblem)
        }
        // Everybody is connected, and somebody has not said whether it shares memory.
        let missing = roster.missing.isEmpty ? memoryAwaited.sorted() : roster.missing
        return .missing(ranks: missing, seconds: seconds, strangers: strangers)
    }

    /// Rank 0's place as it was given, and what that leads to where it is a name.
    private var masterText: String {
        let given = "\(options.masterHost):\(options.masterPort)"
        guard let address = lastTried, address.description != given else { return given }
        return "\(given), which is \(address)"
    }

    /// Gives the start up, and lets the ranks that have come already know why.
    func fail(_ error: WireError) {
        guard stage == .starting, ownFailure == nil else { return }
        let culprit = switch error {
        case .disagreement(let rank, _, _, _), .unreachable(let rank, _, _), .notReached(let rank, _, _, _): rank
        case .missing(let ranks, _, _): ranks.first ?? options.rank
        case .noMaster: 0
        default: options.rank
        }
        let fault = LinkFault(culprit: culprit, host: name(of: culprit), operation: "the start",
                              evidence: error.description, reporter: options.rank)
        ownFailure = (error, fault)
        perform(watch.abort(fault))
    }

    /// What others are told of this rank's fault.
    var faultKind: FaultKind {
        guard let (error, fault) = ownFailure, watch.fault == fault else { return toldKind }
        return error.kind
    }

    /// It stays at this fault. Of a start that was given up here for a reason that the caller can mend, or by this
    /// rank's own finding, the caller hears that reason in its own words.
    func report(_ fault: LinkFault) {
        guard stage == .starting else {
            act(.report(fault))
            return beginAgreement(fault)
        }
        stage = .over
        if let (error, own) = ownFailure, error.kind == .badInput || own == fault { return act(.failed(error)) }
        act(.failed(.startFailed(fault, faultKind)))
    }
}
