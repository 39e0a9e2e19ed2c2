import Base

/// The way to one peer on the same machine: messages through two rings in memory that both processes have.
///
/// A message is a head of 64 bytes (operation 8, fingerprint 4, segment 4, length 8, then zeros) and its bytes, padded
/// to a multiple of 64, so that a head never wraps round. It needs no checksum: nothing but memory lies between the
/// two. A message that nobody has asked for yet stays where it is, and so does what comes behind it: ask in the order
/// in which the peer sends. What is asked for as a sum is added from the ring to its place, without a copy between.
@safe final class SharedPath {
    private static let headByteCount = 64
    /// So much is written or read before the other end learns of it.
    private static let stride = 1 << 16

    private struct Key: Hashable {
        let operation: UInt64
        let segment: UInt32
    }

    @safe private struct Posting {
        let buffer: UnsafeMutableRawBufferPointer
        let tag: MessageTag
        let token: UInt32
        let sum: LinkSum?
    }

    let peer: Int
    /// Keeps the memory.
    private let segment: SharedSegment
    private let outgoing: SharedRing
    private let incoming: SharedRing
    private unowned let mesh: Mesh
    private var posted: [Key: Posting] = [:]
    private var leaving: (message: OutgoingMessage, done: Int)?
    private var arriving: (posting: Posting?, length: Int, done: Int)?
    /// A message was cut off in the middle: nothing that makes sense can follow it.
    private var isBroken = false

    init(peer: Int, segment: SharedSegment, mesh: Mesh) {
        self.peer = peer
        self.segment = segment
        self.mesh = mesh
        outgoing = segment.ring(fromLower: mesh.rank < peer)
        incoming = segment.ring(fromLower: mesh.rank > peer)
        posted.reserveCapacity(256)
    }

    var isAwaited: Bool { !posted.isEmpty || arriving != nil || leaving != nil }

    // MARK: sending

    /// Writes what the user has, as far as there is room.
    func pump() {
        while !isBroken {
            if leaving == nil {
                guard let room = outgoing.room else { return mesh.accuse(peer, "its ring's positions make no sense") }
                guard room >= Self.headByteCount, let next = mesh.nextMessage(to: peer) else { return }
                leaving = (next, 0)
                writeHead(next)
            }
            guard let (message, done) = leaving else { return }
            let length = unsafe message.bytes.count, rest = length - done
            guard rest > 0 else {
                leaving = nil
                mesh.happened(.sent(message.token))
                continue
            }
            // The last bytes need their padding, too: there is room for all of it or none, in steps of 64.
            let place = unsafe outgoing.writable(min(rest, Self.stride))
            guard place.count > 0 else { return }
            let count = min(rest, place.count)
            unsafe place.copyMemory(from: UnsafeRawBufferPointer(rebasing: message.bytes[done..<(done + count)]))
            leaving = (message, done + count)
            publish(count == rest ? Self.padded(count) : count)
        }
    }

    private func writeHead(_ message: OutgoingMessage) {
        let head = unsafe outgoing.writable(Self.headByteCount)
        unsafe head.storeBytes(of: message.tag.operation, as: UInt64.self)
        unsafe head.storeBytes(of: message.tag.fingerprint, toByteOffset: 8, as: UInt32.self)
        unsafe head.storeBytes(of: message.tag.segment, toByteOffset: 12, as: UInt32.self)
        unsafe head.storeBytes(of: UInt64(message.bytes.count), toByteOffset: 16, as: UInt64.self)
        publish(Self.headByteCount)
    }

    private func publish(_ count: Int) { if outgoing.wrote(count) { mesh.ring(peer) } }

    private static func padded(_ count: Int) -> Int { (count + 63) & ~63 }

    // MARK: receiving

    func post(_ buffer: UnsafeMutableRawBufferPointer, tag: MessageTag, token: UInt32, sum: LinkSum?) {
        let key = Key(operation: tag.operation, segment: tag.segment)
        precondition(posted[key] == nil, "a buffer for this message is already posted")
        posted[key] = unsafe Posting(buffer: buffer, tag: tag, token: token, sum: sum)
    }

    /// Reads what has come and is asked for.
    func drain() {
        while true {
            guard let filled = incoming.filled else { return mesh.accuse(peer, "its ring's positions make no sense") }
            if arriving == nil {
                guard filled >= Self.headByteCount, readHead() else { return }
            }
            guard let (posting, length, done) = arriving else { return }
            guard done < length else {
                arriving = nil
                if let posting { mesh.happened(.received(posting.token)) }
                continue
            }
            let bytes = unsafe incoming.readable(min(length - done, Self.stride))
            // Whole elements: the ring's size and all lengths but the last are multiples of 64.
            guard bytes.count > 0 else { return }
            if let posting { unsafe take(bytes, at: done, posting) }
            arriving = (posting, length, done + bytes.count)
            consume(done + bytes.count == length ? Self.padded(bytes.count) : bytes.count)
        }
    }

    private func take(_ bytes: UnsafeRawBufferPointer, at offset: Int, _ posting: Posting) {
        guard let into = unsafe posting.buffer.baseAddress, let from = bytes.baseAddress else { return }
        if let sum = posting.sum {
            unsafe sum.add(into + offset, from, bytes.count)
        } else {
            unsafe (into + offset).copyMemory(from: from, byteCount: bytes.count)
        }
    }

    /// False: nobody has asked for it yet.
    private func readHead() -> Bool {
        let head = unsafe incoming.readable(Self.headByteCount)
        let operation = unsafe head.load(as: UInt64.self)
        let fingerprint = unsafe head.load(fromByteOffset: 8, as: UInt32.self)
        let segment = unsafe head.load(fromByteOffset: 12, as: UInt32.self)
        let length = unsafe head.load(fromByteOffset: 16, as: UInt64.self)
        guard let posting = posted[Key(operation: operation, segment: segment)] else { return false }
        if fingerprint != posting.tag.fingerprint {
            mesh.accuse(peer, FrameFault.fingerprint(posting.tag, found: fingerprint).description)
            return false
        }
        guard unsafe length == UInt64(posting.buffer.count) else {
            let found = Int(clamping: length)
            mesh.accuse(peer, unsafe FrameFault.length(posting.tag, expected: posting.buffer.count, found: found)
                .description)
            return false
        }
        posted[Key(operation: operation, segment: segment)] = nil
        arriving = (posting, Int(length), 0)
        consume(Self.headByteCount)
        return true
    }

    private func consume(_ count: Int) { if incoming.read(count) { mesh.ring(peer) } }

    /// The user's buffers are its own again: what is half read of a message is read to its end and forgotten. Of one
    /// that is half written the rest is not to be had any more, so the way ends there; the mesh has seen to its fault.
    func withdraw() {
        posted.removeAll(keepingCapacity: true)
        if let (_, length, done) = arriving { arriving = (nil, length, done) }
        isBroken = isBroken || leaving != nil
        leaving = nil
    }

    /// Whether a message is half written.
    var isLeaving: Bool { leaving != nil }

    // MARK: sleeping

    /// Before this rank waits in the kernel: false if there is something to do after all.
    func fallAsleep() -> Bool {
        incoming.readerSleeps(true)
        outgoing.writerSleeps(leaving != nil)
        // A message that nobody asked for is nothing to do; more of it does not help.
        let hasNews = arriving != nil ? (incoming.filled ?? 1) > 0
            : (incoming.filled ?? 64) >= Self.headByteCount && isNextAsked
        return !(hasNews || leaving != nil && (outgoing.room ?? 1) > 0)
    }

    func wakeUp() {
        incoming.readerSleeps(false)
        outgoing.writerSleeps(false)
    }

    private var isNextAsked: Bool {
        let head = unsafe incoming.readable(Self.headByteCount)
        return unsafe posted[Key(operation: head.load(as: UInt64.self),
                                 segment: head.load(fromByteOffset: 12, as: UInt32.self))] != nil
    }
}
