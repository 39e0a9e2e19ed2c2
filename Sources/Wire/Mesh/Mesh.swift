import Base
import Synchronization
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The network between the ranks of a job: TCP from each to each, authenticated, checked, watched.
///
/// The caller owns a mesh and calls it from one thread at a time; data moves only inside these calls, and
/// without a hand-over between threads. A second thread of the mesh's own (`Controller`) keeps the
/// control streams: it beats, listens for strangers and notices failures while the caller computes.
public final class Mesh: Link {
    /// How long `poll` looks for news without going to sleep: some times the 56 us that waking up costs, because a rank
    /// that sleeps makes its peer wait and so sleep, too, and so on.
    public static let spinNanoseconds: UInt64 = 200_000
    /// How much a stream sends before others have their turn.
    static let pumpByteCount = 1 << 20
    /// How often a rank that does not spin lets others run before it sleeps.
    private static let yields = 8
    /// Where all messages go through memory, sockets are looked at in one of so many looks, while looks follow each
    /// other without a pause: to ask the kernel takes as long as a small message does.
    private static let looksAtMemory = 16

    public let rank: Int
    public let worldSize: Int
    public private(set) var hosts: [String]
    /// Where this rank listened until all had come; nil in a world of one.
    package private(set) var listeningAddress: SocketAddress?
    /// Connections that came in during the start and did not show that they know the secret.
    package private(set) var strangerCount = 0
    private let options: MeshOptions
    private let loop: UVLoop
    private let shared: Shared
    /// Nil for a world of one, and after the end.
    private var controller: Controller?
    /// [peer][stream - 1]; empty for this rank itself.
    private var streams: [[DataStream]]
    /// By peer.
    private let inboxes: [Inbox]
    /// By peer; nil where messages go by TCP.
    private var paths: [SharedPath?]
    /// Looks since the sockets' turn.
    private var looks = 0
    private weak var user: (any LinkUser)?
    private var userCount: UInt32 = 0
    /// What the user is to hear, and whether it is being told.
    private var ready: [LinkEvent] = []
    private var isTelling = false
    /// How many events the user has heard.
    private var told = 0
    /// Streams that had more to send than one call's worth.
    private var unfinished: [DataStream] = []
    private let isWoken = Atomic<Bool>(false)
    private var hasFailed = false
    private var hasSaidGoodbye = false
    private var isOver = false

    /// Joins the job: returns when this rank is connected to all others, or throws what stands in the way.
    /// Blocks up to `startDeadlineSeconds`. SIGPIPE is ignored from here on, because writing to a socket
    /// whose peer died must be an error and not a signal.
    public static func join(_ options: MeshOptions) throws(WireError) -> Mesh {
        try options.check()
        _ = signal(SIGPIPE, SIG_IGN)
        let mesh = Mesh(options)
        guard options.worldSize > 1 else { return mesh }
        if options.protection == .sealed { keepFreedMemory() }
        let loop = UVLoop(), listener = try UVListener.open(options, on: loop)
        let controller = Controller(options: options, shared: mesh.shared, caller: mesh.loop.waker, loop: loop,
                                    listener: listener)
        do throws(WireError) {
            try controller.start()
        } catch {
            controller.close()
            throw error
        }
        mesh.take(controller)
        return mesh
    }

    private init(_ options: MeshOptions) {
        self.options = options
        rank = options.rank
        worldSize = options.worldSize
        hosts = Array(repeating: hostName(), count: options.worldSize)
        loop = UVLoop()
        shared = Shared()
        streams = Array(repeating: [], count: options.worldSize)
        inboxes = (0..<options.worldSize).map { _ in Inbox(earlyByteCount: options.earlyByteCount) }
        paths = Array(repeating: nil, count: options.worldSize)
        ready.reserveCapacity(1024)
    }

    /// Moves the data streams to the caller's loop and starts the control thread.
    private func take(_ controller: Controller) {
        for (stream, keys) in controller.dataStreams.sorted(by: { $0.keys.stream < $1.keys.stream }) {
            let own = UVStream(loop: loop)
            // A socket that died in this very moment leaves a stream that was never open: its control
            // stream reports the peer.
            if let descriptor = stream.detach(), !own.adopt(descriptor) { close(descriptor) }
            streams[keys.rank].append(DataStream(stream: own, keys: keys, inbox: inboxes[keys.rank],
                                                   options: options, mesh: self))
        }
        controller.dataStreams = []
        for (peer, segment) in controller.sharedMemory {
            paths[peer] = SharedPath(peer: peer, segment: segment, mesh: self)
        }
        controller.sharedMemory = [:]
        hosts = (0..<worldSize).map { controller.hostName(of: $0) }
        listeningAddress = controller.listeningAddress
        strangerCount = controller.strangerCount
        self.controller = controller
        controller.startLoop()
    }

    deinit { end() }

    // MARK: Link

    public var now: UInt64 { MonotonicClock.nanoseconds() }

    public func begin(operation: UInt64, name: StaticString, bytes: Int) {
        shared.begin(operation: operation, name: name, bytes: bytes)
    }

    public func attach(_ user: any LinkUser) -> UInt32 {
        precondition(self.user == nil, "a link has one user at a time")
        self.user = user
        userCount += 1
        return userCount
    }

    public func offer(to peer: Int) {
        precondition(!isOver, "this rank has left the job")
        precondition(peer != rank && streams.indices.contains(peer), "no stream to rank \(peer)")
        guard !hasFailed else { return }
        if let path = paths[peer] { return path.pump() }
        for stream in streams[peer] {
            if let ended = stream.ended { return suspect(peer, ended) }
            if !stream.hasPendingWrites { pump(stream) }
        }
    }

    /// Lets a stream send; what is more than one call's worth waits for the next pass, so that reading is not kept
    /// waiting by a peer that reads as fast as this rank writes.
    func pump(_ stream: DataStream) {
        guard stream.pump(budget: Self.pumpByteCount), !unfinished.contains(where: { $0 === stream }) else { return }
        unfinished.append(stream)
    }

    func nextMessage(to peer: Int) -> OutgoingMessage? { hasFailed ? nil : user?.nextMessage(to: peer) }

    public func addsInPlace(from peer: Int) -> Bool { paths[peer] != nil }

    /// Peers whose messages go through memory.
    public var sharedPeers: [Int] { paths.indices.filter { paths[$0] != nil } }

    public func receive(into buffer: UnsafeMutableRawBufferPointer, from peer: Int, tag: MessageTag,
                        token: UInt32, sum: LinkSum?) {
        precondition(!isOver, "this rank has left the job")
        precondition(peer != rank && streams.indices.contains(peer), "no stream from rank \(peer)")
        guard !hasFailed else { return }
        if let path = paths[peer] { return unsafe path.post(buffer, tag: tag, token: token, sum: sum) }
        precondition(sum == nil, "nothing is added before it is verified")
        do throws(FrameFault) {
            try unsafe inboxes[peer].post(buffer, tag: tag, token: token)
        } catch {
            return streams[peer][0].misbehaved(error)
        }
        for stream in streams[peer] { stream.resume() }
        collect(inboxes[peer])
        if inboxes[peer].isAwaited, let ended = streams[peer].first(where: { $0.ended != nil })?.ended {
            suspect(peer, ended)
        }
    }

    public func withdraw() {
        user = nil
        unfinished = []
        // What the kernel has half of must go out whole, for the stream to make sense.
        let limit = now + 1_000_000_000
        while !hasFailed, !shared.isFailed, hasHalfSent, now < limit {
            loop.wait(milliseconds: 1)
            for path in paths { path?.pump() }
        }
        for (peer, path) in paths.enumerated() {
            if path?.isLeaving == true, !hasFailed { suspect(peer, "it does not take a message that is half there") }
            path?.withdraw()
        }
        for peer in streams.indices {
            for stream in streams[peer] {
                if stream.hasPendingWrites { stream.close() }
                stream.abandon()
            }
            inboxes[peer].withdraw()
        }
        ready.removeAll(keepingCapacity: true)
    }

    /// Bytes of copies that are kept for sending: of one sealed message for each stream, at most.
    package var heldByteCount: Int { streams.joined().reduce(0) { $0 + $1.heldByteCount } }

    private var hasHalfSent: Bool {
        streams.joined().contains(where: \.hasPendingWrites) || paths.contains { $0?.isLeaving == true }
    }

    public func wake() {
        isWoken.store(true, ordering: .releasing)
        loop.waker.wake()
    }

    public func poll(until deadline: UInt64) {
        precondition(!isOver, "this rank has left the job")
        shared.enter()
        defer { shared.leave() }
        let before = told
        if pass(since: before, hurried: options.spins) { return }
        var time = now
        if !options.spins {
            // Where ranks outnumber cores, whoever is to answer may need this one; to sleep costs more.
            for _ in 0..<Self.yields where time < deadline {
                sched_yield()
                if pass(since: before) { return }
                time = now
            }
        }
        let spinEnd = min(deadline, time + (options.spins ? Self.spinNanoseconds : 0))
        while time < spinEnd {
            // Whoever is to answer may have been put on this very core.
            sched_yield()
            if pass(since: before, hurried: true) { return }
            time = now
        }
        while time < deadline {
            // Rounded up, so as not to wake before the deadline and wait again.
            if fallAsleep() { loop.wait(milliseconds: (deadline - time) / 1_000_000 + 1) }
            for path in paths { path?.wakeUp() }
            if pass(since: before) { return }
            time = now
        }
    }

    /// One look at everything; whether the user has heard of something since it had heard of `before` events.
    /// `hurried`: others follow at once.
    private func pass(since before: Int, hurried: Bool = false) -> Bool {
        for _ in 0..<unfinished.count { pump(unfinished.removeFirst()) }
        for case let path? in paths {
            path.drain()
            path.pump()
        }
        looks += 1
        if !hurried || looks >= Self.looksAtMemory || paths.count(where: { $0 == nil }) > 1 {
            looks = 0
            loop.pass()
        }
        if let fault = shared.fault {
            release()
            ready.append(.failed(fault))
        } else if controller != nil {
            ready.append(contentsOf: shared.takeMail())
        }
        deliver()
        return told != before || isWoken.exchange(false, ordering: .acquiring)
    }

    /// False if there is something to do after all.
    private func fallAsleep() -> Bool {
        guard unfinished.isEmpty else { return false }
        for case let path? in paths {
            if !path.fallAsleep() { return false }
        }
        return true
    }

    /// Whether messages through memory are under way, for which the peer may have to be woken.
    func sharesSomething(with peer: Int) -> Bool { paths[peer]?.isAwaited ?? false }

    /// Wakes a peer that sleeps beside the memory that it shares with this rank.
    func ring(_ peer: Int) { streams[peer][0].ring() }

    // MARK: what the user hears

    func happened(_ event: LinkEvent) { ready.append(event) }

    func collect(_ inbox: Inbox) {
        for token in inbox.delivered { ready.append(.received(token)) }
        inbox.delivered.removeAll(keepingCapacity: true)
    }

    /// Tells the user all that is ready, and what becomes ready by that.
    func deliver() {
        guard !isTelling else { return }
        isTelling = true
        var next = 0
        while next < ready.count {
            user?.handle(ready[next])
            next += 1
        }
        told &+= next
        ready.removeAll(keepingCapacity: true)
        isTelling = false
    }

    public func inquire() {
        shared.post(.inquire)
        controller?.loop.waker.wake()
    }

    public func answer(_ peer: Int, _ answer: LinkAnswer) {
        shared.post(.answer(peer: peer, answer))
        controller?.loop.waker.wake()
    }

    /// After a fault no buffer of the caller is touched any more: its memory is its own again.
    private func release() {
        guard !hasFailed else { return }
        hasFailed = true
        for stream in streams.joined() { stream.close() }
        paths = Array(repeating: nil, count: worldSize)
        loop.pass()
    }

    public func abort(_ fault: LinkFault) {
        guard let controller else { return shared.publish(fault) }
        guard !shared.isFailed else { return }
        shared.post(.abort(fault))
        controller.loop.waker.wake()
        // The peers must hear it from us before they see us go.
        let limit = now + 1_000_000_000
        while !shared.isFailed, now < limit { loop.wait(milliseconds: 10) }
    }

    // MARK: the end

    /// How it goes on after a fault, which the survivors agree on by themselves from the moment of the fault: waits for
    /// that, for as long as it may take. For a mesh that survives, after its fault. nil: nobody has found anything out.
    public func sequel() -> Sequel? {
        precondition(options.survives && shared.isFailed, "there was no fault to go on from")
        // Each rank may be one more that is waited for in vain.
        let limit = now + UInt64(Double(worldSize + 1) * options.heartbeatSeconds * 1e9)
        while shared.sequel == nil, now < limit { loop.wait(milliseconds: 10) }
        return shared.sequel
    }

    /// Gives everything back. What was said last to the survivors of a fault arrives before that.
    public func shutDown() { end() }

    /// Leaves the job in peace: sends what is still queued, says goodbye, and waits until all others have
    /// said it too or `seconds` have passed. The end of this process is no fault then.
    public func leave(within seconds: Double = 10) throws(LinkFault) {
        defer { end() }
        guard let controller else { return }
        let limit = now + UInt64(seconds * 1e9)
        while !shared.isFailed, streams.joined().contains(where: \.hasPendingWrites), now < limit {
            loop.wait(milliseconds: 10)
        }
        shared.post(.goodbye)
        hasSaidGoodbye = true
        controller.loop.waker.wake()
        while !shared.isFailed, shared.leftCount.load(ordering: .relaxed) < worldSize - 1, now < limit {
            loop.wait(milliseconds: 10)
        }
        if let fault = shared.fault { throw fault }
    }

    /// Stops the control thread and closes everything, in the order that `UVWaker` relies on.
    private func end() {
        guard !isOver else { return }
        isOver = true
        controller?.stopThread()
        if hasSaidGoodbye || shared.sequel != nil { controller?.deliver() }
        controller?.close()
        controller = nil
        for stream in streams.joined() { stream.close() }
        streams = Array(repeating: [], count: worldSize)
        paths = Array(repeating: nil, count: worldSize)
        loop.close()
    }

    // MARK: what data streams report

    func suspect(_ peer: Int, _ evidence: String) {
        shared.post(.broke(peer: peer, evidence: evidence))
        controller?.loop.waker.wake()
    }

    func accuse(_ peer: Int, _ evidence: String) {
        shared.post(.misbehaved(peer: peer, evidence: evidence))
        controller?.loop.waker.wake()
    }
}
