import Base

/// The control stream to one peer: heartbeats, goodbyes, aborts and what the start needs. It is always
/// read, by the control loop, so nothing on it waits for the caller.
@safe final class ControlStream: UVStreamOwner, FrameSink {
    let peer: Int
    let stream: UVStream
    private let reader: FrameReader
    private var writer: FrameWriter
    private unowned let controller: Controller
    /// Whether the peer has said anything: only then can it have told us before it left.
    private(set) var hasSpoken = false
    private var payload: UnsafeMutableRawBufferPointer

    init(stream: UVStream, keys: HandshakeResult, options: MeshOptions, controller: Controller) {
        peer = keys.rank
        self.stream = stream
        self.controller = controller
        let sealed = options.protection == .sealed
        // The control stream is always checked: `plain` is for measuring payloads.
        let protection = sealed ? Protection.sealed : .checked
        reader = FrameReader(epoch: options.epoch, protection: protection,
                             seal: sealed ? keys.receiving : nil)
        writer = FrameWriter(epoch: options.epoch, protection: protection,
                             seal: sealed ? keys.sending : nil)
        unsafe payload = .allocate(byteCount: 256, alignment: 8)
        stream.owner = self
        stream.startReading()
    }

    deinit { unsafe payload.deallocate() }

    /// Control frames are few and small; the frequent one, the heartbeat, allocates nothing.
    func send(_ type: FrameType, _ payload: [UInt8] = []) {
        let request = stream.request()
        let sealed = unsafe payload.withUnsafeBytes {
            unsafe writer.frame(type, payload: $0, head: request.head)
        }
        if let sealed {
            _ = stream.write(request, headCount: FrameHeader.byteCount, owning: sealed)
        } else {
            _ = stream.write(request, headCount: FrameHeader.byteCount, owning: payload)
        }
    }

    func destination(for stream: UVStream) -> UnsafeMutableRawBufferPointer { unsafe reader.destination() }

    func didRead(_ count: Int, from stream: UVStream) {
        do throws(FrameFault) {
            try reader.advance(by: count, sink: self)
        } catch {
            stream.stopReading()
            controller.ended(self, evidence: error.description)
        }
    }

    func didEnd(_ stream: UVStream, evidence: String) {
        controller.ended(self, evidence: evidence)
    }

    func place(_ header: FrameHeader) throws(FrameFault) -> UnsafeMutableRawBufferPointer? {
        guard header.type != .data else { throw .unexpected(.data) }
        guard header.length <= ControlPayload.maximumByteCount else { throw .badContent(header.type) }
        if unsafe payload.count < header.length {
            unsafe payload.deallocate()
            unsafe payload = .allocate(byteCount: header.length, alignment: 8)
        }
        return unsafe UnsafeMutableRawBufferPointer(rebasing: payload[..<header.length])
    }

    func arrived(_ header: FrameHeader) throws(FrameFault) {
        hasSpoken = true
        let content = unsafe Array(payload[..<header.length])
        guard controller.received(header.type, content, from: self) else { throw .badContent(header.type) }
    }
}
