import Base

/// What the session wants done, in this order. Connections have numbers that the session gives.
package enum SessionAction {
    /// Find rank 0's addresses, and tell `resolved` or `unresolved`.
    case resolve
    /// Connect; `connected` tells that it stands, `ended` that it came to nothing.
    case connect(Int, SocketAddress)
    case send(Int, [UInt8])
    case close(Int)
    /// This data stream stands. The session has no more to do with it, and nothing of it may be read yet.
    case keep(Int, HandshakeResult)
    /// Nobody is missing, so nobody else is let in.
    case stopListening
    /// Make memory to share with this rank, and tell `offer`.
    case makeMemory(Int)
    /// Open what this rank has offered, and tell `opened`.
    case openMemory(Int, SharedSegment.Name)
    /// It is settled whether memory is shared with this rank.
    case settleMemory(Int, Bool)
    /// Every stream to every rank stands.
    case started
    /// There will be no job. All that are connected have been told; let them hear it before this process goes.
    case failed(WireError)
    /// A fault is known, and will be reported in a moment: tick more often.
    case hurry
    /// The job has failed. All have been told; let them hear it before this rank reports it.
    case report(LinkFault)
    /// So many peers have said goodbye.
    case left(Int)
    /// This rank leads those that go on after a fault: find a port to meet at, and tell `leads`.
    case findPort
    /// How it goes on after a fault, or that it does not.
    case sequel(Sequel)
    /// This rank wants to know what ours is doing.
    case asked(by: Int)
    case answered(by: Int, LinkAnswer)
}

/// One rank's part in starting a job, keeping it and leaving it: rendezvous, handshakes, roster, heartbeats, faults and
/// goodbyes. A step function: events come in by its methods, always with the time, and what is to be done comes out by
/// `next`. It knows no socket, no clock and no thread. `Controller` carries it out over libuv; a simulation does so for
/// a whole job in virtual time, with the same bytes.
///
/// It is composed of `Gate` (who may stand at the door), `Handshake` (who that is), `Roster` (who is where, and which
/// streams stand), `Watch` (who lives, and whose fault it is) and `Agreement` (who goes on after one). Here they meet;
/// Session+Start.swift has the start, Session+Control.swift what control streams say, Session+Agreement.swift what
/// survivors say to each other.
package final class Session {
    package enum Stage { case starting, running, over }

    let options: MeshOptions
    let identity: Identity
    let hostName: String
    /// Where this rank listens.
    let listening: SocketAddress
    /// What the caller is doing, for the text of faults.
    let operation: () -> String
    package internal(set) var stage = Stage.starting
    var now: UInt64

    var gate = Gate()
    var roster: Roster
    var watch: Watch
    var agreement: Agreement
    /// Connections that came in and have said nothing: no more is kept of them than where they come from.
    var silent: [Int: SocketAddress] = [:]
    var greetings: [Int: Greeting] = [:]
    /// Peers by the connection of their control stream; control streams by peer.
    var peers: [Int: Int] = [:]
    var controls: [ControlChannel?]
    private var connectionCount = 0
    private var actions: [SessionAction] = []
    private var nextAction = 0

    // The start.
    let startDeadline: UInt64
    var retries: [(peer: Int, stream: Int, at: UInt64)] = []
    var attempts = 0
    var lastProblem = "nobody listens there"
    /// What somebody without proof said at the last attempt to reach rank 0.
    var strangerMet: WireError?
    /// Where rank 0 was looked for last, and where it was found.
    var lastTried: SocketAddress?
    var masterAddress: SocketAddress?
    /// This rank's own address on the way to rank 0.
    var lastLocal: SocketAddress?
    /// Why this rank itself gives up the start, and the fault that the others are told of; and the kind of what they
    /// told.
    var ownFailure: (error: WireError, fault: LinkFault)?
    var toldKind = FaultKind.running
    /// Whose word on shared memory is still to come.
    var memoryAwaited: Set<Int>
    var memoryOffered: Set<Int> = []
    var hasOfferedMemory = false
    private var lastTick: UInt64

    /// Connections that came in and did not know the secret, or took too long to show it.
    package internal(set) var strangers = 0

    package init(_ options: MeshOptions, hostName: String, listening: SocketAddress, at now: UInt64,
                 operation: @escaping () -> String) {
        self.options = options
        self.hostName = hostName
        self.listening = listening
        self.operation = operation
        self.now = now
        identity = options.identity
        roster = Roster(rank: options.rank, worldSize: options.worldSize, streamCount: 1 + options.dataStreams)
        controls = Array(repeating: nil, count: options.worldSize)
        memoryAwaited = Set((0..<options.worldSize).filter { $0 != options.rank })
        startDeadline = now + UInt64(options.startDeadlineSeconds * 1e9)
        lastTick = now
        watch = Watch(rank: options.rank, worldSize: options.worldSize, heartbeatSeconds: options.heartbeatSeconds,
                      now: now)
        agreement = Agreement(rank: options.rank, worldSize: options.worldSize,
                              heartbeatSeconds: options.heartbeatSeconds)
        roster.learn(Place(address: listening, hostName: hostName), of: options.rank)
    }

    // MARK: actions

    /// The next thing to do; nil when there is nothing.
    package func next() -> SessionAction? {
        guard nextAction < actions.count else {
            actions.removeAll(keepingCapacity: true)
            nextAction = 0
            return nil
        }
        nextAction += 1
        return actions[nextAction - 1]
    }

    func act(_ action: SessionAction) { actions.append(action) }

    func newConnection() -> Int {
        connectionCount += 1
        return connectionCount
    }

    // MARK: what connections bring

    /// Somebody has connected. Costs no more than its number until it speaks.
    package func accepted(from address: SocketAddress, at now: UInt64) -> Int {
        self.now = now
        let connection = newConnection()
        guard stage == .starting else {
            act(.close(connection))
            return connection
        }
        silent[connection] = address
        let late = gate.admit(connection, from: address, until: now + Greeting.patience)
        if let late {
            act(.send(late, Handshake.busyReply))
            turnAway(late)
        }
        return connection
    }

    /// A connection that the session asked for stands; `local` is its near end.
    package func connected(_ connection: Int, local: SocketAddress?, at now: UInt64) {
        self.now = now
        guard let greeting = greetings[connection] else { return }
        greeting.local = local
        greeting.isConnected = true
        act(.send(connection, greeting.handshake.open()))
    }

    /// How many bytes of a connection may be read now, at most. None: nothing of it is to be read.
    package func wanted(_ connection: Int) -> Int {
        if peers[connection] != nil { return FrameReader.stageByteCount }
        if let greeting = greetings[connection] { return greeting.handshake.wanted - greeting.bytes.count }
        return silent[connection] == nil ? 0 : Handshake.openingByteCount
    }

    /// At most as many bytes as were wanted have come.
    package func received(_ bytes: UnsafeRawBufferPointer, from connection: Int, at now: UInt64) {
        self.now = now
        precondition(bytes.count <= wanted(connection), "no more is read than is wanted")
        if let peer = peers[connection], let control = controls[peer] {
            do throws(FrameFault) {
                try unsafe control.read(bytes)
            } catch {
                controlEnded(control, evidence: error.description)
            }
        } else {
            unsafe greet(connection, Array(bytes))
        }
    }

    /// The connection came to nothing, or has ended.
    package func ended(_ connection: Int, evidence: String, at now: UInt64) {
        self.now = now
        if let peer = peers[connection], let control = controls[peer] {
            controlEnded(control, evidence: evidence)
        } else if let greeting = greetings[connection] {
            drop(greeting, because: evidence)
        } else if silent[connection] != nil {
            turnAway(connection)
        }
    }

    // MARK: time

    /// To be called after connections have been read, several times in a heartbeat's interval.
    package func tick(_ now: UInt64) {
        self.now = now
        let gap = now - min(lastTick, now)
        lastTick = now
        // This rank was stopped, or starved: what it has not read yet is not late.
        if gap > Greeting.patience / 3 {
            agreement.forgive(gap)
            gate.extend(by: gap)
            for greeting in greetings.values where greeting.deadline < .max { greeting.deadline += gap }
        }
        for connection in gate.late(at: now) {
            if let greeting = greetings[connection] {
                drop(greeting, because: Greeting.late)
            } else {
                turnAway(connection)
            }
        }
        let late = greetings.values.filter { $0.deadline <= now }.sorted { $0.connection < $1.connection }
        for greeting in late { drop(greeting, because: greeting.lateness) }
        if stage == .starting { startTick() }
        perform(watch.tick(now, operation: doing))
        carryOn(agreement.tick(now))
    }

    /// What this rank is at, for the text of faults.
    var doing: String { stage == .starting ? "the start" : operation() }

    func perform(_ action: Watch.Action?) {
        switch action {
        case nil: break
        case .beat: sayToAll(.heartbeat)
        case .tell(let fault):
            sayToAll(.abort, ControlPayload.abort(fault, kind: faultKind))
            act(.hurry)
        case .report(let fault): report(fault)
        }
    }

    func say(_ type: FrameType, _ content: [UInt8] = [], to peer: Int) {
        guard let control = controls[peer], !control.hasEnded else { return }
        act(.send(control.connection, control.frame(type, content)))
    }

    func sayToAll(_ type: FrameType, _ content: [UInt8] = []) {
        for peer in controls.indices { say(type, content, to: peer) }
    }

    /// The control streams that stand, or stood.
    package var controlConnections: [Int] { controls.compactMap { $0?.connection } }

    package func name(of peer: Int) -> String { roster.places[peer]?.hostName ?? "never seen" }
}

/// A connection that shakes hands. One that came in is one from its first byte on.
final class Greeting {
    /// For proving itself, and once more for an answer.
    static let patience = UInt64(Handshake.seconds * 1e9)
    static let late = "no answer to the handshake within \(Int(Handshake.seconds)) s"

    /// A system that has nobody at a port says so; only what drops packets stays silent.
    static let silence = "no answer within \(Int(Handshake.seconds)) s, as where a firewall drops packets"
    var lateness: String { target != nil && !isConnected ? Self.silence : Self.late }

    let connection: Int
    /// Where this rank is connecting to; nil for a connection that came in.
    let target: (peer: Int, stream: Int)?
    let address: SocketAddress
    var handshake: Handshake
    var deadline: UInt64
    /// What has come of the bytes that the handshake wants; at most that many.
    var bytes: [UInt8] = []
    /// This end's address, once connected, where the system tells it.
    var local: SocketAddress?
    var isConnected = false
    /// Who it has proven to be, for one that came in.
    var proven: (rank: Int, stream: Int)?

    init(connection: Int, target: (peer: Int, stream: Int)?, address: SocketAddress, handshake: Handshake,
         deadline: UInt64) {
        self.connection = connection
        self.target = target
        self.address = address
        self.handshake = handshake
        self.deadline = deadline
    }
}
