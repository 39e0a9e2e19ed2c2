import Base
import Collectives
import Wire

/// One process of a simulated cluster: a real session and a real executor, carried out over simulated sockets. It
/// joins, does its collectives, says goodbye and ends.
final class ClusterProcess {
    enum Outcome {
        /// All sums were right, and everybody said goodbye.
        case finished
        case startFailed(WireError)
        case failed(LinkFault)
        /// It was killed.
        case gone
        /// A fault, and what the survivors have made of it; nil: they have found nothing out in time.
        case survived(LinkFault, Sequel?)
    }

    let number: Int
    let options: MeshOptions
    let address: SocketAddress
    unowned let cluster: Cluster
    private(set) var outcome: Outcome?
    private(set) var endedAt: UInt64 = 0
    /// Whether it has come so far that every stream stood.
    private(set) var hasStarted = false
    var startedAt: UInt64?
    /// Until when it does not run.
    var stoppedUntil: UInt64 = 0
    var isListening = false
    var isWoken = false
    var backlog: [Socket] = []
    private(set) var session: Session?
    private(set) var sockets: [Int: Socket] = [:]
    private var connecting: Set<Int> = []
    private var data: [(socket: Socket, keys: HandshakeResult)] = []
    private var link: ClusterLink?
    private var executor: Executor?
    private var jobs: [ClusterJob]
    private var running: (operation: Operation, job: ClusterJob, since: UInt64)?
    private var nextJobAt: UInt64 = 0
    private var leftCount = 0
    private var leavesBy: UInt64?
    private var telling: (fault: LinkFault, until: UInt64)?
    private var failing: (error: WireError, until: UInt64)?
    private var isActing = false
    /// In a job that survives: the fault, until when this process waits for what comes of it, and that.
    private var fault: (fault: LinkFault, until: UInt64)?
    private var sequel: Sequel?
    private var closesAt: UInt64 = .max
    /// Whether it has come to the end of its work.
    var isLeaving: Bool { leavesBy != nil }

    init(number: Int, options: MeshOptions, address: SocketAddress, jobs: [ClusterJob], cluster: Cluster) {
        self.number = number
        self.options = options
        self.address = address
        self.jobs = jobs
        self.cluster = cluster
    }

    private var now: UInt64 { cluster.now }

    // MARK: life

    func begin() {
        startedAt = now
        isListening = true
        session = Session(options, hostName: "host\(number)", listening: address, at: now) { [unowned self] in
            running.map { "job \($0.job.number)" } ?? "the time before its first operation"
        }
        cluster.wake(self)
    }

    func end(_ outcome: Outcome) {
        guard self.outcome == nil else { return }
        self.outcome = outcome
        endedAt = now
        isListening = false
        for socket in backlog + sockets.keys.sorted().compactMap({ sockets[$0] }) + data.map(\.socket) {
            cluster.close(socket)
        }
        backlog = []
        sockets = [:]
    }

    /// Does what there is to do, if it runs at all.
    func run() {
        guard outcome == nil, let session else { return }
        for socket in backlog.prefix(16) {
            let number = session.accepted(from: cluster.address(of: socket.peer), at: now)
            sockets[number] = socket
            carryOut()
        }
        backlog.removeFirst(min(16, backlog.count))
        if !backlog.isEmpty { cluster.wake(self) }
        for number in sockets.keys.sorted() { read(number, session) }
        session.tick(now)
        carryOut()
        hear()
        work(session)
    }

    private func read(_ number: Int, _ session: Session) {
        while let socket = sockets[number] {
            let wanted = session.wanted(number)
            guard wanted > 0, socket.available > 0 else { break }
            let bytes = socket.read(wanted)
            unsafe bytes.withUnsafeBytes { unsafe session.received($0, from: number, at: now) }
            carryOut()
        }
        guard let socket = sockets[number], session.wanted(number) > 0, let evidence = cluster.endOf(socket) else {
            return
        }
        session.ended(number, evidence: evidence, at: now)
        carryOut()
        if session.controlConnections.contains(number) { sockets[number] = nil }
    }

    /// A connection that the session asked for stands, or not.
    func connected(_ number: Int, _ socket: Socket?, _ problem: String) {
        let isWanted = connecting.remove(number) != nil && outcome == nil
        guard isWanted, let session else {
            if let socket { cluster.close(socket) }
            return
        }
        if let socket {
            sockets[number] = socket
            session.connected(number, local: address, at: now)
        } else {
            session.ended(number, evidence: problem, at: now)
        }
        carryOut()
    }

    /// What the data streams and the executor have to say to the session.
    func tell(_ word: (Session) -> Void) {
        if let session { word(session) }
        carryOut()
    }

    // MARK: what the session wants

    private func carryOut() {
        guard !isActing, let session else { return }
        isActing = true
        while let action = session.next() { carryOut(action, session) }
        isActing = false
    }

    private func carryOut(_ action: SessionAction, _ session: Session) {
        switch action {
        case .resolve: session.resolved([cluster.masterAddress], at: now)
        case .connect(let number, let address):
            connecting.insert(number)
            cluster.connect(self, number, to: address)
        case .send(let number, let bytes):
            // A control stream's queue has no end, as libuv's.
            if let socket = sockets[number] { cluster.send(bytes[...], on: socket, isBounded: false) }
        case .close(let number):
            connecting.remove(number)
            if let socket = sockets.removeValue(forKey: number) { cluster.close(socket) }
        case .keep(let number, let keys):
            guard let socket = sockets.removeValue(forKey: number) else { return }
            cluster.check(socket, keys, of: self)
            data.append((socket, keys))
        case .stopListening: isListening = false
        case .makeMemory(let peer): session.offer(nil, to: peer)
        case .openMemory(let peer, _): session.opened(false, from: peer)
        case .settleMemory: break
        case .started: hasStarted = true
        case .failed(let error): failing = (error, now + 200_000_000)
        case .hurry: cluster.hurry(self)
        case .report(let fault): telling = (fault, now + 200_000_000)
        case .left(let count): leftCount = count
        case .findPort: session.leads(at: Cluster.masterPort + 1)
        case .sequel(let found):
            sequel = found
            // As a mesh does that is closed: what was said last has a moment to arrive.
            closesAt = now + 200_000_000
        case .asked(let peer):
            if let link, running != nil { link.hear(.asked(by: peer)) } else { session.answer(peer, .computes(0)) }
        case .answered(let peer, let answer): link?.hear(.answered(by: peer, answer))
        }
    }

    private func isDelivered(_ session: Session) -> Bool {
        session.controlConnections.allSatisfy { number in
            sockets[number].map { $0.wire[$0.side].isDelivered || cluster.endOf($0) != nil } ?? true
        }
    }

    /// Faults that everybody has been told of become known here.
    private func hear() {
        guard let session else { return }
        if let (error, until) = failing, now >= until || isDelivered(session) {
            end(.startFailed(error))
        }
        if let (fault, until) = telling, now >= until || isDelivered(session) {
            telling = nil
            if options.survives, leavesBy == nil {
                self.fault = (fault, now + UInt64(Double(options.worldSize + 1) * options.heartbeatSeconds * 1e9))
                return
            }
            if let link { link.fault = fault } else { end(.failed(fault)) }
            if leavesBy != nil { end(.failed(fault)) }
        }
        if let (fault, until) = fault, sequel == nil ? now >= until : now >= closesAt || isDelivered(session) {
            end(.survived(fault, sequel))
        }
    }

    // MARK: the caller

    private func work(_ session: Session) {
        guard outcome == nil, hasStarted, fault == nil else { return }
        if link == nil {
            for number in session.controlConnections {
                if let socket = sockets[number] { cluster.check(socket, nil, of: self) }
            }
            let link = ClusterLink(self, session, data, options: options)
            self.link = link
            executor = Executor(link: link, options: cluster.communication)
            nextJobAt = now
        }
        guard let executor else { return }
        executor.pass(until: 0)
        if let fault = executor.fault {
            if case .peer(let cause, _) = fault { end(.failed(cause)) }
            return
        }
        if let (operation, job, since) = running {
            if operation.isDone {
                running = nil
                cluster.check(job, of: self)
                nextJobAt = now + job.pause
            } else if now >= executor.deadline(since: since) {
                executor.expire()
            }
        }
        if running == nil, now >= nextJobAt { goOn(session, executor) }
    }

    private func goOn(_ session: Session, _ executor: Executor) {
        if let leavesBy {
            if leftCount == options.worldSize - 1 || now >= leavesBy { end(.finished) }
            return
        }
        guard !jobs.isEmpty else {
            leavesBy = now + 10_000_000_000
            session.sayGoodbye()
            return carryOut()
        }
        let job = jobs.removeFirst(), operation = job.operation()
        running = (operation, job, now)
        executor.start(operation)
        cluster.wake(self)
    }
}

/// One collective of a simulated rank, whose result is known: whole numbers, so that every order gives the same sum.
@safe final class ClusterJob {
    let number: Int
    let pause: UInt64
    private let request: Request
    private let segmentBytes: Int
    private let numbers: UnsafeMutableBufferPointer<Float>

    init(number: Int, request: Request, segmentBytes: Int, pause: UInt64) {
        self.number = number
        self.request = request
        self.segmentBytes = segmentBytes
        self.pause = pause
        unsafe numbers = .allocate(capacity: max(request.ownCount, 1))
        let rank = request.group.index
        for place in 0..<request.ownCount { unsafe numbers[place] = Self.term(rank, place, number) }
    }

    deinit { unsafe numbers.deallocate() }

    private static func term(_ rank: Int, _ place: Int, _ number: Int) -> Float {
        Float((rank + 1) * (place % 13 + 1) + number)
    }

    func operation() -> Operation {
        let bytes = unsafe UnsafeMutableRawBufferPointer(start: numbers.baseAddress, count: 4 * request.ownCount)
        return unsafe Operation(request, segmentBytes: segmentBytes, buffer: bytes, group: 0, number: UInt32(number))
    }

    /// The first element that is not the sum over all ranks.
    var wrongPlace: Int? {
        let size = request.group.size
        return (0..<request.ownCount).first { place in
            let expected = (0..<size).reduce(Float(0)) { $0 + Self.term($1, place, number) }
            return unsafe numbers[place] != expected
        }
    }
}
