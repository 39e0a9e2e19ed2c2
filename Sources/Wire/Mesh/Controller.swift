import Base
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Carries out what the session wants, over libuv, and tells it what the sockets and the clock bring. It decides
/// nothing.
///
/// Life. `Mesh.join` makes it and drives its loop in the caller's thread until every stream stands. Then
/// the control thread is started, and from that moment only that thread touches this object, until
/// `Mesh` has told it to stop and has waited for its end. A caller that computes for minutes therefore
/// still answers, still beats, and still notices a dead peer; it learns of it at its next poll. A process
/// that is stopped as a whole stops beating, which is the point.
@safe final class Controller {
    /// How long a rank that goes waits for its last words to arrive.
    private static let farewellSeconds = 0.2

    let options: MeshOptions
    let loop: UVLoop
    private let shared: Shared
    private let session: Session
    private let listener: UVListener
    /// Open connections by the session's number.
    private var connections: [Int: Connection] = [:]
    /// What is read of a connection passes through here: nobody costs memory before there is something to keep.
    private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: FrameReader.stageByteCount, alignment: 64)
    /// Data streams that stand, until the mesh takes them over.
    var dataStreams: [(stream: UVStream, keys: HandshakeResult)] = []
    /// Memory that is offered to higher ranks, and memory that is agreed on.
    private var offeredMemory: [Int: SharedSegment] = [:]
    var sharedMemory: [Int: SharedSegment] = [:]
    private var hasStarted = false
    private var failure: WireError?
    /// A fault that the peers are being told of.
    private var telling: (fault: LinkFault, until: UInt64)?
    private var isActing = false
    private var isStopped = false
    /// Wakes the caller's thread.
    private let caller: UVWaker
    private var thread = pthread_t()

    init(options: MeshOptions, shared: Shared, caller: UVWaker, loop: UVLoop, listener: UVListener) {
        self.options = options
        self.shared = shared
        self.caller = caller
        self.loop = loop
        self.listener = listener
        session = Session(options, hostName: Wire.hostName(), listening: listener.address,
                          at: MonotonicClock.nanoseconds()) { shared.operation }
        // A tenth of a second is fine enough for every deadline here, and costs nothing.
        let beat = options.heartbeatSeconds / Watch.beatsPerDeadline
        loop.tick(every: UInt64(max(1, min(100, beat * 1000 / 4))))
        listener.onAccept = { [unowned self] stream in take(stream) }
    }

    deinit { unsafe scratch.deallocate() }

    var listeningAddress: SocketAddress { session.listening }
    var strangerCount: Int { session.strangers }
    func hostName(of peer: Int) -> String { session.name(of: peer) }

    // MARK: the start, and the thread

    /// Runs the start in the caller's thread. Returns when every stream stands.
    func start() throws(WireError) {
        step()
        while failure == nil {
            if hasStarted, dataStreams.allSatisfy({ $0.stream.pendingWrites == 0 }) { return }
            loop.runOnce()
            step()
        }
        guard let failure else { return }
        deliver()
        throw failure
    }

    func startLoop() { thread = startThread { self.run() } }

    private func run() {
        // Signals are for the caller's thread: this one only keeps the mesh alive.
        var all = sigset_t()
        unsafe sigfillset(&all)
        unsafe pthread_sigmask(SIG_BLOCK, &all, nil)
        while !isStopped {
            loop.runOnce()
            for note in shared.takeNotes() { handle(note) }
            step()
        }
    }

    /// Called after each pass of the loop.
    private func step() {
        listener.goOn()
        session.tick(MonotonicClock.nanoseconds())
        carryOut()
        publish(MonotonicClock.nanoseconds())
    }

    /// Tells the thread to end and waits for it. The loop then belongs to the caller again.
    func stopThread() {
        shared.post(.stop)
        loop.waker.wake()
        pthread_join(thread, nil)
    }

    private var isDelivered: Bool {
        session.controlConnections.allSatisfy { connections[$0]?.stream.isDelivered ?? true }
    }

    /// Waits until the others have what was said last, but not for long. For the thread that drives the loop.
    func deliver() {
        loop.tick(every: 1)
        let limit = MonotonicClock.nanoseconds() + UInt64(Self.farewellSeconds * 1e9)
        while !isDelivered, MonotonicClock.nanoseconds() < limit { loop.runOnce() }
    }

    /// Lets the caller know of a fault once the others do.
    private func publish(_ now: UInt64) {
        guard let (fault, until) = telling, now >= until || isDelivered else { return }
        telling = nil
        loop.tick(every: 100)
        shared.publish(fault)
        caller.wake()
    }

    /// Ends everything on the loop.
    func close() {
        listener.close()
        for connection in connections.values { connection.stream.close() }
        for data in dataStreams { data.stream.close() }
        connections = [:]
        dataStreams = []
        loop.close()
    }

    // MARK: what the caller says

    private func handle(_ note: Note) {
        switch note {
        case .broke(let peer, let evidence):
            session.broke(peer, evidence: evidence, at: MonotonicClock.nanoseconds())
        case .misbehaved(let peer, let evidence): session.misbehaved(peer, evidence: evidence)
        case .abort(let fault): session.abort(fault)
        case .inquire: session.inquire()
        case .answer(let peer, let answer): session.answer(peer, answer)
        case .goodbye: session.sayGoodbye()
        case .stop: isStopped = true
        }
        carryOut()
    }

    // MARK: what the sockets bring

    private func take(_ stream: UVStream) {
        guard let address = stream.remoteAddress else { return stream.close() }
        let number = session.accepted(from: address, at: MonotonicClock.nanoseconds())
        open(number, stream)
        stream.startReading()
        carryOut()
    }

    private func open(_ number: Int, _ stream: UVStream) {
        let connection = Connection(number: number, stream: stream, controller: self)
        connections[number] = connection
        stream.owner = connection
    }

    fileprivate func didConnect(_ connection: Connection, problem: String?) {
        let now = MonotonicClock.nanoseconds()
        if let problem {
            session.ended(connection.number, evidence: problem, at: now)
        } else {
            session.connected(connection.number, local: connection.stream.localAddress, at: now)
            connection.stream.startReading()
        }
        carryOut()
    }

    fileprivate func destination(for connection: Connection) -> UnsafeMutableRawBufferPointer {
        unsafe UnsafeMutableRawBufferPointer(rebasing: scratch[..<session.wanted(connection.number)])
    }

    fileprivate func didRead(_ count: Int, from connection: Connection) {
        let bytes = unsafe UnsafeRawBufferPointer(rebasing: scratch[..<count])
        unsafe session.received(bytes, from: connection.number, at: MonotonicClock.nanoseconds())
        carryOut()
        if session.wanted(connection.number) == 0 { connection.stream.stopReading() }
    }

    fileprivate func didEnd(_ connection: Connection, evidence: String) {
        session.ended(connection.number, evidence: evidence, at: MonotonicClock.nanoseconds())
        carryOut()
    }

    // MARK: what the session wants

    private func carryOut() {
        guard !isActing else { return }
        isActing = true
        while let action = session.next() { carryOut(action) }
        isActing = false
    }

    private func carryOut(_ action: SessionAction) {
        switch action {
        case .resolve: resolve()
        case .connect(let number, let address):
            let stream = UVStream(loop: loop)
            open(number, stream)
            stream.connect(to: address)
        case .send(let number, let bytes): connections[number]?.stream.write(bytes)
        case .close(let number): connections.removeValue(forKey: number)?.stream.close()
        case .keep(let number, let keys):
            guard let connection = connections.removeValue(forKey: number) else { return }
            connection.stream.stopReading()
            dataStreams.append((connection.stream, keys))
        case .stopListening: listener.close()
        case .makeMemory(let peer):
            let made = SharedSegment.make()
            offeredMemory[peer] = made?.segment
            session.offer(made?.name, to: peer)
        case .openMemory(let peer, let name):
            sharedMemory[peer] = SharedSegment.open(name)
            session.opened(sharedMemory[peer] != nil, from: peer)
        case .settleMemory(let peer, let isShared):
            guard let offered = offeredMemory.removeValue(forKey: peer) else { return }
            offered.closeDescriptor()
            if isShared { sharedMemory[peer] = offered }
        case .started: hasStarted = true
        case .hurry: loop.tick(every: 1)
        case .failed(let error): failure = error
        case .report(let fault):
            telling = (fault, MonotonicClock.nanoseconds() + UInt64(Self.farewellSeconds * 1e9))
        case .left(let count):
            shared.leftCount.store(count, ordering: .relaxed)
            caller.wake()
        case .findPort: session.leads(at: options.meetingPort)
        case .sequel(let sequel):
            shared.sequel = sequel
            caller.wake()
        case .asked(let peer):
            if let answer = shared.ask(by: peer) { session.answer(peer, answer) } else { caller.wake() }
        case .answered(let peer, let answer):
            shared.answered(by: peer, answer)
            caller.wake()
        }
    }

    private func resolve() {
        let now = MonotonicClock.nanoseconds()
        do throws(WireError) {
            session.resolved(try SocketAddress.resolve(options.masterHost, port: UInt16(options.masterPort)), at: now)
        } catch {
            session.unresolved(error.description, at: now)
        }
    }
}

/// A socket and the number that the session knows it by.
private final class Connection: UVStreamOwner {
    let number: Int
    let stream: UVStream
    private unowned let controller: Controller

    init(number: Int, stream: UVStream, controller: Controller) {
        self.number = number
        self.stream = stream
        self.controller = controller
    }

    func didConnect(_ stream: UVStream, problem: String?) { controller.didConnect(self, problem: problem) }
    func destination(for stream: UVStream) -> UnsafeMutableRawBufferPointer { unsafe controller.destination(for: self) }
    func didRead(_ count: Int, from stream: UVStream) { controller.didRead(count, from: self) }
    func didEnd(_ stream: UVStream, evidence: String) { controller.didEnd(self, evidence: evidence) }
}
