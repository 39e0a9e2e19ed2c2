import Base

// The start: listening, connecting, shaking hands. What must be connected to whom is decided by `Roster`,
// what is said by `Handshake`; here are the sockets.
extension Controller {
    /// Half-open connections that came in. Beyond it the oldest is dropped: an honest peer needs a moment
    /// only, so a flood of strangers cannot keep it out.
    static let halfOpenLimit = 64
    private static let firstRetrySeconds = 0.02
    private static let lastRetrySeconds = 0.5

    /// Runs the start in the caller's thread. Returns when every stream stands.
    func start() throws(WireError) {
        try listen()
        while failure == nil {
            connect()
            loop.runOnce()
            step(MonotonicClock.nanoseconds())
            let isWritten = dataStreams.allSatisfy { $0.stream.pendingWrites == 0 }
            guard failure == nil, roster.isComplete, isWritten else { continue }
            if !hasOfferedMemory { offerMemory() }
            if failure == nil, memoryAwaited.isEmpty { return }
        }
        guard let failure else { return }
        tellOthers(failure)
        throw failure
    }

    // MARK: listening

    private func listen() throws(WireError) {
        let wanted = try listenAddress()
        let ports = options.rank == 0 ? options.masterPort...options.masterPort : options.portRange ?? 0...0
        var problem = ""
        for port in ports {
            do throws(UVFailure) {
                listener = try UVListener(loop: loop, address: wanted.with(port: UInt16(port)))
                break
            } catch {
                problem = error.text
                // Without IPv6 in the kernel the address of all interfaces is IPv4's.
                guard error.isAddressMissing, wanted == .anyIPv6 else { continue }
                let all = SocketAddress.anyIPv4.with(port: UInt16(port))
                listener = try? UVListener(loop: loop, address: all)
                if listener != nil { break }
            }
        }
        guard let listener else {
            let shown = ports.count == 1 ? wanted.with(port: UInt16(ports.lowerBound)).description
                : "\(wanted.with(port: 0)), ports \(ports.lowerBound) to \(ports.upperBound)"
            throw .cannotListen(address: shown, problem: problem)
        }
        listener.onAccept = { [unowned self] stream in greet(stream) }
        roster.learn(Place(address: listener.address, hostName: skeinHostName), of: options.rank)
    }

    /// All interfaces only when others need them: a job on the loopback interface stays there.
    private func listenAddress() throws(WireError) -> SocketAddress {
        if let interface = options.interface { return try SocketAddress.ofInterface(interface) }
        if let bind = options.bind { return try SocketAddress.resolve(bind, port: 0)[0] }
        let master = options.masterHost
        if isLoopback(host: master) {
            return try SocketAddress.resolve(master, port: 0)[0]
        }
        return .anyIPv6
    }

    private var skeinHostName: String { Wire.hostName() }

    /// Somebody has connected.
    private func greet(_ stream: UVStream) {
        guard let address = stream.remoteAddress else { return stream.close() }
        let incoming = greetings.filter { $0.target == nil && !$0.handshake.isProven }
        if incoming.count >= Self.halfOpenLimit, let oldest = incoming.first {
            oldest.stream.write(Handshake.busyReply)
            drop(oldest, because: "too many half-open connections")
        }
        let handshake = Handshake(listeningAs: identity, secret: options.secret, address: address.description)
        greetings.append(Greeting(stream: stream, target: nil, address: address, handshake: handshake,
                                  controller: self))
        stream.startReading()
    }

    // MARK: connecting

    private func connect() {
        let now = MonotonicClock.nanoseconds()
        for retry in retries where retry.at <= now { roster.retry(retry.peer, stream: retry.stream) }
        retries.removeAll { $0.at <= now }
        for (peer, stream) in roster.nextConnections() {
            do throws(WireError) {
                connect(peer, stream, to: try address(of: peer))
            } catch {
                // A name may not be known yet where names come with the machines.
                lastProblem = error.description
                again(peer, stream)
            }
        }
    }

    private func address(of peer: Int) throws(WireError) -> SocketAddress {
        if peer != 0, let place = roster.places[peer] {
            // A link-local address is good on the link that leads to rank 0.
            let address = place.address
            guard address.isLinkLocal, let scope = masterAddress?.scope, scope != 0 else { return address }
            return SocketAddress(host: address.host, port: address.port, scope: scope)
        }
        if let masterAddress { return masterAddress }
        let all = try SocketAddress.resolve(options.masterHost, port: UInt16(options.masterPort))
        return all[attempts % all.count]
    }

    private func connect(_ peer: Int, _ number: Int, to address: SocketAddress) {
        let stream = UVStream(loop: loop)
        let handshake = Handshake(connectingTo: peer, stream: number, identity: identity,
                                  secret: options.secret, address: address.description)
        greetings.append(Greeting(stream: stream, target: (peer, number), address: address,
                                  handshake: handshake, controller: self))
        if peer == 0 { lastTried = address }
        stream.connect(to: address)
    }

    private func again(_ peer: Int, _ stream: Int) {
        attempts += 1
        let wait = min(Self.firstRetrySeconds * Double(1 << min(attempts, 10)), Self.lastRetrySeconds)
        retries.append((peer, stream, MonotonicClock.nanoseconds() + UInt64(wait * 1e9)))
    }

    // MARK: what handshakes lead to

    /// The connection is of no use. Strangers are counted and forgotten; what we opened is tried again.
    func drop(_ greeting: Greeting, because reason: String) {
        forget(greeting)
        greeting.stream.close()
        guard let (peer, stream) = greeting.target else {
            strangers += 1
            return
        }
        guard stage == .starting else { return }
        lastProblem = reason
        strangerMet = nil
        again(peer, stream)
    }

    /// A peer that knows the secret, or our own side, is wrong: that ends the start. A mesh that runs is not
    /// disturbed by somebody who comes late and differs. Nor is one that has not proven anything believed: it may be
    /// anybody who got the port first, and leave it again. What it said is told only if nobody better comes.
    func failed(_ greeting: Greeting, _ error: WireError) {
        if greeting.target != nil, !greeting.handshake.isProven {
            drop(greeting, because: error.description)
            strangerMet = error
            return
        }
        forget(greeting)
        greeting.stream.close()
        if stage == .starting, failure == nil { failure = error }
    }

    func establish(_ greeting: Greeting, _ result: HandshakeResult) {
        forget(greeting)
        guard stage == .starting else { return greeting.stream.close() }
        roster.establish(result.rank, stream: result.stream)
        guard result.stream == 0 else {
            dataStreams.append((greeting.stream, result))
            return
        }
        let control = ControlStream(stream: greeting.stream, keys: result, options: options, controller: self)
        controls[result.rank] = control
        attempts = 0
        control.send(.heartbeat)
        if greeting.target?.peer == 0 {
            masterAddress = greeting.address
            control.send(.hello, ControlPayload.hello(ownPlace(seenBy: greeting.stream)))
        }
    }

    /// Where others find this rank: at the address it listens on, or, when that is every address, at the
    /// one by which it reaches rank 0.
    private func ownPlace(seenBy stream: UVStream) -> Place {
        guard let listener else { preconditionFailure("a rank listens before it connects") }
        var address = listener.address
        if address.isWildcard, let local = stream.localAddress { address = local.with(port: address.port) }
        return Place(address: address, hostName: skeinHostName)
    }

    private func forget(_ greeting: Greeting) {
        greetings.removeAll { $0 === greeting }
    }

    func dropLateGreetings(_ now: UInt64) {
        for greeting in greetings where greeting.deadline <= now {
            drop(greeting, because: "no answer to the handshake within \(Int(Handshake.seconds)) s")
        }
    }

    // MARK: time

    func startStep(_ now: UInt64) {
        if now >= nextBeat {
            nextBeat = now + UInt64(options.heartbeatSeconds / Watch.beatsPerDeadline * 1e9)
            for control in controls.values { control.send(.heartbeat) }
        }
        if let (fault, until) = suspicion, now >= until { failure = failure ?? .startFailed(fault, .running) }
        guard failure == nil, now >= startDeadline else { return }
        let seconds = options.startDeadlineSeconds
        if options.rank > 0, masterAddress == nil {
            failure = strangerMet ?? .noMaster(address: masterText, seconds: seconds, problem: lastProblem)
        } else if let peer = roster.missing.first, let place = roster.places[peer] {
            failure = .unreachable(rank: peer, address: place.address.description, problem: lastProblem)
        } else {
            // Everybody is connected, and somebody has not said whether it shares memory.
            let missing = roster.missing.isEmpty ? memoryAwaited.sorted() : roster.missing
            failure = .missing(ranks: missing, seconds: seconds, strangers: strangers)
        }
    }

    /// Rank 0's place as it was given, and what that leads to where it is a name.
    private var masterText: String {
        let given = "\(options.masterHost):\(options.masterPort)"
        guard let address = lastTried, address.description != given else { return given }
        return "\(given), which is \(address)"
    }

    /// Lets the ranks that have come already know why there will be no job, so that all say the same.
    private func tellOthers(_ error: WireError) {
        let fault: LinkFault
        if case .startFailed(let theirs, _) = error {
            fault = theirs
        } else {
            let culprit = switch error {
            case .disagreement(let rank, _, _, _), .unreachable(let rank, _, _): rank
            case .missing(let ranks, _, _): ranks.first ?? options.rank
            default: options.rank
            }
            fault = LinkFault(culprit: culprit, host: hostName(of: culprit), operation: "the start",
                              evidence: error.description, reporter: options.rank)
        }
        let content = ControlPayload.abort(fault, kind: error.kind)
        for control in controls.values { control.send(.abort, content) }
        deliver(except: fault.culprit)
    }
}
