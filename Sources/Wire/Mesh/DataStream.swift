import Base

/// One data stream to one peer, on the caller's loop: frames the messages that go out and lets those that
/// come in land where they were posted.
final class DataStream: UVStreamOwner {
    let peer: Int
    private let stream: UVStream
    private let reader: FrameReader
    private var writer: FrameWriter
    private let inbox: Inbox
    private unowned let mesh: Mesh
    /// Why the stream ended, if it has.
    private var ended: String?

    init(stream: UVStream, keys: HandshakeResult, options: MeshOptions, mesh: Mesh) {
        peer = keys.rank
        self.stream = stream
        self.mesh = mesh
        let sealed = options.protection == .sealed
        reader = FrameReader(epoch: options.epoch, protection: options.protection,
                             seal: sealed ? keys.receiving : nil)
        writer = FrameWriter(epoch: options.epoch, protection: options.protection,
                             seal: sealed ? keys.sending : nil)
        inbox = Inbox(earlyByteCount: options.earlyByteCount)
        stream.owner = self
        stream.startReading()
    }

    func close() { stream.close() }

    var hasPendingWrites: Bool { stream.pendingWrites > 0 }

    func send(_ bytes: UnsafeRawBufferPointer, tag: MessageTag, token: UInt32) {
        if let ended { return mesh.suspect(peer, ended) }
        let request = stream.request()
        request.token = token
        let sealed = unsafe writer.frame(.data, tag: tag, payload: bytes, head: request.head)
        let isDone = if let sealed {
            stream.write(request, headCount: FrameHeader.byteCount, owning: sealed)
        } else {
            unsafe stream.write(request, headCount: FrameHeader.byteCount, body: bytes)
        }
        if isDone { mesh.happened(.sent(token)) }
    }

    func receive(into buffer: UnsafeMutableRawBufferPointer, tag: MessageTag, token: UInt32) {
        do throws(FrameFault) {
            try unsafe inbox.post(buffer, tag: tag, token: token)
            if reader.isHeld {
                try reader.resume(sink: inbox)
                if !reader.isHeld { stream.startReading() }
            }
            report()
            if let ended, inbox.isAwaited { mesh.suspect(peer, ended) }
        } catch {
            misbehaved(error)
        }
    }

    func destination(for stream: UVStream) -> UnsafeMutableRawBufferPointer { unsafe reader.destination() }

    func didRead(_ count: Int, from stream: UVStream) {
        do throws(FrameFault) {
            try reader.advance(by: count, sink: inbox)
            // Not reading on is what slows the sender down.
            if reader.isHeld { stream.stopReading() }
            report()
        } catch {
            misbehaved(error)
        }
    }

    func didEnd(_ stream: UVStream, evidence: String) {
        ended = evidence
        if inbox.isAwaited || hasPendingWrites { mesh.suspect(peer, evidence) }
    }

    func didWrite(_ request: UVWrite, on stream: UVStream) {
        mesh.happened(.sent(request.token))
    }

    private func report() {
        for token in inbox.delivered { mesh.happened(.received(token)) }
        inbox.delivered.removeAll(keepingCapacity: true)
    }

    private func misbehaved(_ fault: FrameFault) {
        stream.stopReading()
        mesh.accuse(peer, fault.description)
    }
}
