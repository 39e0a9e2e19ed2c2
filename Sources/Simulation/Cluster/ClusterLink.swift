import Base
import Wire

/// A rank's data streams in a simulated cluster: the framing, the inboxes and the seals are the real ones, the sockets
/// are simulated. What `Mesh` and `DataStream` do over libuv.
final class ClusterLink: Link {
    private final class Stream {
        let socket: Socket
        let reader: FrameReader
        var writer: FrameWriter
        /// The rest of the one message that is leaving.
        var leaving: (bytes: ArraySlice<UInt8>, token: UInt32)?
        var ended: String?

        init(_ socket: Socket, _ keys: HandshakeResult, _ protection: Protection, epoch: UInt32) {
            self.socket = socket
            let isSealed = protection == .sealed
            reader = FrameReader(epoch: epoch, protection: protection, seal: isSealed ? keys.receiving : nil)
            writer = FrameWriter(epoch: epoch, protection: protection, seal: isSealed ? keys.sending : nil)
        }
    }

    let rank: Int
    let worldSize: Int
    let hosts: [String]
    private unowned let process: ClusterProcess
    private weak var user: (any LinkUser)?
    private var streams: [[Stream]]
    private let inboxes: [Inbox]
    private var events: [LinkEvent] = []
    /// Set when the session has told everybody.
    var fault: LinkFault?

    init(_ process: ClusterProcess, _ session: Session, _ data: [(socket: Socket, keys: HandshakeResult)],
         options: MeshOptions) {
        self.process = process
        (rank, worldSize) = (options.rank, options.worldSize)
        hosts = (0..<options.worldSize).map { session.name(of: $0) }
        streams = Array(repeating: [], count: worldSize)
        inboxes = (0..<worldSize).map { _ in Inbox(earlyByteCount: options.earlyByteCount) }
        for (socket, keys) in data.sorted(by: { $0.keys.stream < $1.keys.stream }) {
            streams[keys.rank].append(Stream(socket, keys, options.protection, epoch: options.epoch))
        }
    }

    var now: UInt64 { process.cluster.now }

    func attach(_ user: any LinkUser) -> UInt32 {
        self.user = user
        return 1
    }

    func offer(to peer: Int) { process.cluster.wake(process) }
    func withdraw() { user = nil }
    func wake() {}
    func inquire() { process.tell { $0.inquire() } }
    func answer(_ peer: Int, _ answer: LinkAnswer) { process.tell { $0.answer(peer, answer) } }
    func abort(_ fault: LinkFault) { process.tell { $0.abort(fault) } }
    func hear(_ event: LinkEvent) { events.append(event) }

    func receive(into buffer: UnsafeMutableRawBufferPointer, from peer: Int, tag: MessageTag, token: UInt32,
                 sum: LinkSum?) {
        guard fault == nil else { return }
        do throws(FrameFault) {
            try unsafe inboxes[peer].post(buffer, tag: tag, token: token)
            for stream in streams[peer] where stream.reader.isHeld { try stream.reader.resume(sink: inboxes[peer]) }
        } catch {
            return process.tell { $0.misbehaved(peer, evidence: error.description) }
        }
        collect(peer)
        process.cluster.wake(process)
    }

    /// One pass, whatever the deadline: waiting is the simulation's business.
    func poll(until deadline: UInt64) {
        if let fault {
            events = [.failed(fault)]
        } else {
            for peer in streams.indices {
                for stream in streams[peer] {
                    read(stream, peer)
                    write(stream, peer)
                }
            }
        }
        var next = 0
        while next < events.count {
            user?.handle(events[next])
            next += 1
        }
        events.removeAll(keepingCapacity: true)
    }

    private func collect(_ peer: Int) {
        for token in inboxes[peer].delivered { events.append(.received(token)) }
        inboxes[peer].delivered.removeAll(keepingCapacity: true)
    }

    private func read(_ stream: Stream, _ peer: Int) {
        guard stream.ended == nil else { return suspect(stream, peer) }
        do throws(FrameFault) {
            while stream.socket.available > 0, !stream.reader.isHeld {
                let place = unsafe stream.reader.destination()
                let bytes = stream.socket.read(place.count)
                unsafe place.copyBytes(from: bytes)
                try stream.reader.advance(by: bytes.count, sink: inboxes[peer])
                collect(peer)
            }
        } catch {
            stream.ended = error.description
            return process.tell { $0.misbehaved(peer, evidence: error.description) }
        }
        if !stream.reader.isHeld { stream.ended = process.cluster.endOf(stream.socket) }
    }

    /// An ended stream matters to whoever waits for it.
    private func suspect(_ stream: Stream, _ peer: Int) {
        guard let evidence = stream.ended, inboxes[peer].isAwaited || stream.leaving != nil else { return }
        process.tell { [now] in $0.broke(peer, evidence: evidence, at: now) }
    }

    private func write(_ stream: Stream, _ peer: Int) {
        while stream.ended == nil {
            if stream.leaving == nil {
                guard let message = user?.nextMessage(to: peer) else { return }
                let bytes = unsafe stream.writer.bytes(.data, tag: message.tag, payload: Array(message.bytes))
                stream.leaving = (bytes[...], message.token)
            }
            guard let (bytes, token) = stream.leaving else { return }
            let rest = bytes.dropFirst(process.cluster.send(bytes, on: stream.socket))
            guard rest.isEmpty else {
                stream.leaving = (rest, token)
                return
            }
            stream.leaving = nil
            events.append(.sent(token))
        }
    }
}
