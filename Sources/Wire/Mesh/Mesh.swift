import Base
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
    /// How long `poll` looks for news without going to sleep: less than the 56 us that waking up costs.
    public static let spinNanoseconds: UInt64 = 50_000

    public let rank: Int
    public let worldSize: Int
    /// Where this rank listens; nil in a world of one.
    package private(set) var listeningAddress: SocketAddress?
    private let options: MeshOptions
    private let loop: UVLoop
    private let shared: Shared
    /// Nil for a world of one, and after the end.
    private var controller: Controller?
    /// [peer][stream - 1]; empty for this rank itself.
    private var streams: [[DataStream]]
    private var ready: [LinkEvent] = []
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
        let controller = Controller(options: options, shared: mesh.shared, caller: mesh.loop.waker)
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
        loop = UVLoop()
        shared = Shared()
        streams = Array(repeating: [], count: options.worldSize)
        ready.reserveCapacity(1024)
    }

    /// Moves the data streams to the caller's loop and starts the control thread.
    private func take(_ controller: Controller) {
        for (stream, keys) in controller.dataStreams.sorted(by: { $0.keys.stream < $1.keys.stream }) {
            let own = UVStream(loop: loop)
            // A socket that died in this very moment leaves a stream that was never open: its control
            // stream reports the peer.
            if let descriptor = stream.detach(), !own.adopt(descriptor) { close(descriptor) }
            streams[keys.rank].append(DataStream(stream: own, keys: keys, options: options, mesh: self))
        }
        controller.dataStreams = []
        listeningAddress = controller.listener?.address
        self.controller = controller
        controller.startLoop()
    }

    deinit { end() }

    // MARK: Link

    public var now: UInt64 { MonotonicClock.nanoseconds() }

    public func begin(operation: UInt64, name: StaticString, bytes: Int) {
        shared.begin(operation: operation, name: name, bytes: bytes)
    }

    public func send(_ bytes: UnsafeRawBufferPointer, to peer: Int, tag: MessageTag, token: UInt32) {
        guard !hasFailed else { return }
        unsafe stream(peer, tag).send(bytes, tag: tag, token: token)
    }

    public func receive(into buffer: UnsafeMutableRawBufferPointer, from peer: Int, tag: MessageTag,
                        token: UInt32) {
        guard !hasFailed else { return }
        unsafe stream(peer, tag).receive(into: buffer, tag: tag, token: token)
    }

    private func stream(_ peer: Int, _ tag: MessageTag) -> DataStream {
        precondition(!isOver, "this rank has left the job")
        precondition(peer != rank && streams.indices.contains(peer), "no stream to rank \(peer)")
        return streams[peer][Int(tag.channel) % options.dataStreams]
    }

    public func poll(into events: inout [LinkEvent], until deadline: UInt64) {
        precondition(!isOver, "this rank has left the job")
        loop.pass()
        if report(into: &events) { return }
        var time = now
        let spinEnd = min(deadline, time + (options.spins ? Self.spinNanoseconds : 0))
        while time < spinEnd {
            loop.pass()
            if report(into: &events) { return }
            time = now
        }
        while time < deadline {
            // Rounded up, so as not to wake before the deadline and wait again.
            loop.wait(milliseconds: (deadline - time) / 1_000_000 + 1)
            if report(into: &events) { return }
            time = now
        }
    }

    private func report(into events: inout [LinkEvent]) -> Bool {
        if let fault = shared.fault {
            release()
            events.append(contentsOf: ready)
            ready.removeAll(keepingCapacity: true)
            events.append(.failed(fault))
            return true
        }
        guard !ready.isEmpty else { return false }
        events.append(contentsOf: ready)
        ready.removeAll(keepingCapacity: true)
        return true
    }

    /// After a fault no buffer of the caller is touched any more: its memory is its own again.
    private func release() {
        guard !hasFailed else { return }
        hasFailed = true
        for stream in streams.joined() { stream.close() }
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
        if hasSaidGoodbye { controller?.deliver() }
        controller?.close()
        controller = nil
        for stream in streams.joined() { stream.close() }
        streams = Array(repeating: [], count: worldSize)
        loop.close()
    }

    // MARK: what data streams report

    func happened(_ event: LinkEvent) { ready.append(event) }

    func suspect(_ peer: Int, _ evidence: String) {
        shared.post(.broke(peer: peer, evidence: evidence))
        controller?.loop.waker.wake()
    }

    func accuse(_ peer: Int, _ evidence: String) {
        shared.post(.misbehaved(peer: peer, evidence: evidence))
        controller?.loop.waker.wake()
    }
}
