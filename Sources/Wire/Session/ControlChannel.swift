import Base

/// What the session keeps of one control stream: frames from bytes and bytes from frames. Control frames are few and
/// small, and always read, so nothing on this stream waits for the caller.
@safe final class ControlChannel: FrameSink {
    let connection: Int
    let peer: Int
    private let reader: FrameReader
    private var writer: FrameWriter
    private unowned let session: Session
    private var payload: UnsafeMutableRawBufferPointer
    /// Whether the peer has said anything: only then can it have told us before it left.
    private(set) var hasSpoken = false
    /// After its end, or after nonsense, what comes is read and forgotten: bytes left unread would make the kernel
    /// throw away our last words to this peer.
    var hasEnded = false

    init(connection: Int, keys: HandshakeResult, session: Session) {
        self.connection = connection
        self.session = session
        peer = keys.rank
        let sealed = session.options.protection == .sealed
        // The control stream is always checked: `plain` is for measuring payloads.
        let protection = sealed ? Protection.sealed : .checked
        reader = FrameReader(epoch: session.options.epoch, protection: protection,
                             seal: sealed ? keys.receiving : nil)
        writer = FrameWriter(epoch: session.options.epoch, protection: protection,
                             seal: sealed ? keys.sending : nil)
        unsafe payload = .allocate(byteCount: 256, alignment: 8)
    }

    deinit { unsafe payload.deallocate() }

    func frame(_ type: FrameType, _ content: [UInt8]) -> [UInt8] { writer.bytes(type, payload: content) }

    /// The stream's next bytes.
    func read(_ bytes: UnsafeRawBufferPointer) throws(FrameFault) {
        var offset = 0
        while offset < bytes.count, !hasEnded {
            let place = unsafe reader.destination()
            let count = min(place.count, bytes.count - offset)
            unsafe place.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + count)]))
            offset += count
            try reader.advance(by: count, sink: self)
        }
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
        guard session.heard(header.type, content, from: self) else { throw .badContent(header.type) }
    }
}
