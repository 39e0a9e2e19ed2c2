import Base

/// One data stream to one peer, on the caller's loop: pulls the messages that go out, one at a time, frames them as
/// they leave, and lets those that come in land where they were posted.
final class DataStream: UVStreamOwner {
    let peer: Int
    private let stream: UVStream
    private let reader: FrameReader
    private var writer: FrameWriter
    /// Shared by all streams from one peer: a message may come on any of them.
    private let inbox: Inbox
    private unowned let mesh: Mesh
    /// Why the stream ended, if it has.
    private(set) var ended: String?

    init(stream: UVStream, keys: HandshakeResult, inbox: Inbox, options: MeshOptions, mesh: Mesh) {
        peer = keys.rank
        self.stream = stream
        self.inbox = inbox
        self.mesh = mesh
        let sealed = options.protection == .sealed
        reader = FrameReader(epoch: options.epoch, protection: options.protection,
                             seal: sealed ? keys.receiving : nil)
        writer = FrameWriter(epoch: options.epoch, protection: options.protection,
                             seal: sealed ? keys.sending : nil)
        stream.owner = self
        stream.startReading()
    }

    func close() { stream.close() }

    var heldByteCount: Int { stream.ownedByteCount }

    var hasPendingWrites: Bool { stream.pendingWrites > 0 }

    // MARK: sending

    /// Sends what the user has until the kernel takes no more at once, the user has no more, or `budget` bytes are
    /// gone; then true, for there may be more.
    func pump(budget: Int) -> Bool {
        var left = budget
        while ended == nil, !hasPendingWrites {
            guard left > 0 else { return true }
            guard let message = mesh.nextMessage(to: peer) else { return false }
            left -= unsafe message.bytes.count
            send(message)
        }
        return false
    }

    /// At most one message of a stream is held here at a time, sealed or not: a sealed one as a copy.
    private func send(_ message: OutgoingMessage) {
        let request = stream.request()
        request.token = message.token
        request.isDoorbell = false
        let sealed = unsafe writer.frame(.data, tag: message.tag, payload: message.bytes, head: request.head)
        let isDone = if let sealed {
            stream.write(request, headCount: FrameHeader.byteCount, owning: sealed)
        } else {
            unsafe stream.write(request, headCount: FrameHeader.byteCount, body: message.bytes)
        }
        if isDone { mesh.happened(.sent(message.token)) }
    }

    /// Wakes the other end, which sleeps while there is something in the memory that both share.
    func ring() {
        let request = stream.request()
        let nothing = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
        let sealed = unsafe writer.frame(.doorbell, payload: nothing, head: request.head)
        request.isDoorbell = true
        if let sealed {
            _ = stream.write(request, headCount: FrameHeader.byteCount, owning: sealed)
        } else {
            _ = unsafe stream.write(request, headCount: FrameHeader.byteCount, body: nothing)
        }
    }

    func didWrite(_ request: UVWrite, on stream: UVStream) {
        guard !request.isDoorbell else { return }
        mesh.happened(.sent(request.token))
        mesh.pump(self)
        mesh.deliver()
    }

    // MARK: receiving

    /// A buffer was posted: whoever was held for want of one goes on.
    func resume() {
        guard reader.isHeld else { return }
        do throws(FrameFault) {
            try reader.resume(sink: inbox)
            if !reader.isHeld { stream.startReading() }
        } catch {
            misbehaved(error)
        }
    }

    /// The buffers of the user are its own again; what is half read of a message is read to its end and forgotten.
    func abandon() {
        if let tag = reader.current, inbox.isEarly(tag) { return }
        reader.abandon()
    }

    func destination(for stream: UVStream) -> UnsafeMutableRawBufferPointer { unsafe reader.destination() }

    func didRead(_ count: Int, from stream: UVStream) {
        do throws(FrameFault) {
            try reader.advance(by: count, sink: inbox)
            // Not reading on is what slows the sender down.
            if reader.isHeld { stream.stopReading() }
        } catch {
            return misbehaved(error)
        }
        // A sum is made while its operand is still in cache.
        if !inbox.delivered.isEmpty {
            mesh.collect(inbox)
            mesh.deliver()
        }
    }

    func didEnd(_ stream: UVStream, evidence: String) {
        ended = evidence
        if inbox.isAwaited || hasPendingWrites || mesh.sharesSomething(with: peer) { mesh.suspect(peer, evidence) }
    }

    func misbehaved(_ fault: FrameFault) {
        stream.stopReading()
        mesh.accuse(peer, fault.description)
    }
}
