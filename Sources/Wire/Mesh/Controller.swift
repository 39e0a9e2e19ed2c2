import Base
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Owns the control loop: the listener, the handshakes, the control streams and the failure detector.
///
/// Life. `Mesh.join` makes it and drives its loop in the caller's thread until every stream stands. Then
/// the control thread is started, and from that moment only that thread touches this object, until
/// `Mesh` has told it to stop and has waited for its end. A caller that computes for minutes therefore
/// still answers, still beats, and still notices a dead peer; it learns of it at its next poll. A process
/// that is stopped as a whole stops beating, which is the point.
final class Controller {
    enum Stage { case starting, running, stopped }

    let options: MeshOptions
    let identity: Identity
    let loop = UVLoop()
    let shared: Shared
    let startDeadline: UInt64
    var stage = Stage.starting
    var roster: Roster
    var watch: Watch?
    var listener: UVListener?
    /// Incoming and outgoing handshakes, oldest first.
    var greetings: [Greeting] = []
    var controls: [Int: ControlStream] = [:]
    /// Data streams that stand, until the mesh takes them over.
    var dataStreams: [(stream: UVStream, keys: HandshakeResult)] = []
    /// Memory that is offered to higher ranks; memory that is agreed on; and whose word on it is still to come.
    var offeredMemory: [Int: SharedSegment] = [:]
    var sharedMemory: [Int: SharedSegment] = [:]
    var memoryAwaited: Set<Int>
    var hasOfferedMemory = false
    /// Why the start has failed.
    var failure: WireError?
    /// A fault that the peers are being told of.
    private var telling: (fault: LinkFault, until: UInt64)?
    /// A peer that went away during the start, and until when another may explain it.
    var suspicion: (fault: LinkFault, until: UInt64)?
    /// Connections to make again, and when.
    var retries: [(peer: Int, stream: Int, at: UInt64)] = []
    var attempts = 0
    var lastProblem = "nobody listens there"
    /// What somebody without proof said at the last attempt to reach rank 0.
    var strangerMet: WireError?
    /// Where rank 0 was looked for last.
    var lastTried: SocketAddress?
    var masterAddress: SocketAddress?
    var strangers = 0
    /// Peers that said goodbye before this rank had finished starting.
    var earlyGoodbyes: Set<Int> = []
    var nextBeat: UInt64 = 0
    /// Wakes the caller's thread.
    private let caller: UVWaker
    private var thread = pthread_t()

    init(options: MeshOptions, shared: Shared, caller: UVWaker) {
        self.options = options
        self.shared = shared
        self.caller = caller
        identity = options.identity
        memoryAwaited = Set((0..<options.worldSize).filter { $0 != options.rank })
        roster = Roster(rank: options.rank, worldSize: options.worldSize,
                        streamCount: 1 + options.dataStreams)
        startDeadline = MonotonicClock.nanoseconds() + UInt64(options.startDeadlineSeconds * 1e9)
        // A tenth of a second is fine enough for every deadline here, and costs nothing.
        let beat = options.heartbeatSeconds / Watch.beatsPerDeadline
        loop.tick(every: UInt64(max(1, min(100, beat * 1000 / 4))))
    }

    // MARK: the thread

    func startLoop() {
        stage = .running
        let hosts = (0..<options.worldSize).map { roster.places[$0]?.hostName ?? "unknown host" }
        var watch = Watch(rank: options.rank, hosts: hosts, heartbeatSeconds: options.heartbeatSeconds,
                          now: MonotonicClock.nanoseconds())
        for peer in earlyGoodbyes { watch.goodbye(from: peer) }
        self.watch = watch
        shared.leftCount.store(watch.leftCount, ordering: .relaxed)
        thread = startThread { self.run() }
    }

    private func run() {
        // Signals are for the caller's thread: this one only keeps the mesh alive.
        var all = sigset_t()
        unsafe sigfillset(&all)
        unsafe pthread_sigmask(SIG_BLOCK, &all, nil)
        while stage == .running {
            loop.runOnce()
            step(MonotonicClock.nanoseconds())
        }
    }

    /// Tells the thread to end and waits for it. The loop then belongs to the caller again.
    func stopThread() {
        shared.post(.stop)
        loop.waker.wake()
        pthread_join(thread, nil)
    }

    /// How long a rank that goes waits for its last words to arrive.
    private static let farewellSeconds = 0.2

    private func isDelivered(except culprit: Int) -> Bool {
        controls.values.allSatisfy { $0.peer == culprit || $0.stream.isDelivered }
    }

    /// Waits until the others have what was said last, but not for long. For the thread that drives the loop.
    func deliver(except culprit: Int = -1) {
        loop.tick(every: 1)
        let limit = MonotonicClock.nanoseconds() + UInt64(Self.farewellSeconds * 1e9)
        while !isDelivered(except: culprit), MonotonicClock.nanoseconds() < limit { loop.runOnce() }
    }

    /// Ends everything on the loop.
    func close() {
        stage = .stopped
        listener?.close()
        for greeting in greetings { greeting.stream.close() }
        for control in controls.values { control.stream.close() }
        for data in dataStreams { data.stream.close() }
        greetings = []
        controls = [:]
        dataStreams = []
        loop.close()
    }

    // MARK: steps

    /// Called after each pass of the loop: what time and the caller have brought.
    func step(_ now: UInt64) {
        dropLateGreetings(now)
        switch stage {
        case .starting: startStep(now)
        case .running:
            for note in shared.takeNotes() { handle(note, now) }
            perform(watch?.tick(now, operation: shared.operation))
            publish(now)
        case .stopped: break
        }
    }

    private func handle(_ note: Note, _ now: UInt64) {
        switch note {
        case .broke(let peer, let evidence): watch?.broke(peer, evidence: evidence, at: now)
        case .misbehaved(let peer, let evidence):
            perform(watch?.misbehaved(peer, evidence: evidence, operation: shared.operation))
        case .abort(let fault): perform(watch?.abort(fault))
        case .inquire: for control in controls.values { control.send(.inquiry) }
        case .answer(let peer, let answer): controls[peer]?.send(.answer, ControlPayload.answer(answer))
        case .goodbye: for control in controls.values { control.send(.goodbye) }
        case .stop: stage = .stopped
        }
    }

    private func perform(_ action: Watch.Action?) {
        switch action {
        case nil: break
        case .beat: for control in controls.values { control.send(.heartbeat) }
        case .tell(let fault):
            let content = ControlPayload.abort(fault, kind: .running)
            for control in controls.values { control.send(.abort, content) }
            telling = (fault, MonotonicClock.nanoseconds() + UInt64(Self.farewellSeconds * 1e9))
            loop.tick(every: 1)
        }
    }

    /// Lets the caller know of a fault once the others do.
    private func publish(_ now: UInt64) {
        guard let (fault, until) = telling, now >= until || isDelivered(except: fault.culprit) else { return }
        telling = nil
        loop.tick(every: 100)
        shared.publish(fault)
        caller.wake()
    }

    // MARK: what control streams say

    /// A whole frame came from a peer. False when it makes no sense.
    func received(_ type: FrameType, _ content: [UInt8], from control: ControlStream) -> Bool {
        watch?.heard(from: control.peer, at: MonotonicClock.nanoseconds())
        switch type {
        case .heartbeat: return content.isEmpty
        case .goodbye:
            if stage == .starting { earlyGoodbyes.insert(control.peer) }
            watch?.goodbye(from: control.peer)
            shared.leftCount.store(watch?.leftCount ?? 0, ordering: .relaxed)
            caller.wake()
            return content.isEmpty
        case .abort:
            guard let (fault, kind) = ControlPayload.readAbort(content) else { return false }
            if stage == .starting { failure = failure ?? .startFailed(fault, kind) }
            perform(watch?.told(fault))
            return true
        case .hello:
            guard options.rank == 0, let place = ControlPayload.readHello(content) else { return false }
            roster.learn(place, of: control.peer)
            let all = ControlPayload.roster(roster.places)
            for other in controls.values { other.send(.roster, all) }
            return true
        case .roster:
            guard control.peer == 0, let masterAddress else { return false }
            let places = ControlPayload.readRoster(content, worldSize: options.worldSize)
            guard let places else { return false }
            roster.learn(places, masterAddress: masterAddress)
            return true
        case .inquiry:
            if let answer = shared.ask(by: control.peer) {
                control.send(.answer, ControlPayload.answer(answer))
            } else {
                caller.wake()
            }
            return content.isEmpty
        case .answer:
            let answer = ControlPayload.readAnswer(content, worldSize: options.worldSize)
            guard let answer else { return false }
            shared.answered(by: control.peer, answer)
            caller.wake()
            return true
        case .memory: return stage == .starting && hearMemory(content, from: control)
        case .memoryAnswer: return stage == .starting && hearMemoryAnswer(content, from: control)
        case .data, .doorbell: return false
        }
    }

    /// A control stream ended, or carried nonsense.
    func ended(_ control: ControlStream, evidence: String) {
        let now = MonotonicClock.nanoseconds()
        if stage == .starting, !earlyGoodbyes.contains(control.peer) {
            let fault = LinkFault(culprit: control.peer, host: hostName(of: control.peer),
                                  operation: "the start", evidence: evidence, reporter: options.rank)
            let grace = control.hasSpoken ? 0 : UInt64(Watch.graceSeconds * 1e9)
            suspicion = suspicion ?? (fault, now + grace)
        }
        if control.hasSpoken {
            perform(watch?.ended(control.peer, evidence: evidence, operation: shared.operation))
        } else {
            watch?.broke(control.peer, evidence: evidence, at: now)
        }
    }

    func hostName(of peer: Int) -> String { roster.places[peer]?.hostName ?? "never seen" }
}
