import Base

/// Brings together what the streams from one peer deliver and what the user has posted. Knows no socket and no clock.
///
/// A message whose buffer is posted lands in it. One that comes too early lands in the early buffer, and is
/// copied when its buffer is posted. One that comes too early and does not fit is held: the stream is not
/// read on until its buffer is posted, and TCP slows the sender down. So a held message also holds up what
/// was sent after it on the same stream: post in the order in which the peer sends. Of several streams each carries
/// messages in that order, so the oldest message that is missing is the first on its stream, and never held up.
package final class Inbox: FrameSink {
    private struct Key: Hashable {
        let operation: UInt64
        let segment: UInt32

        init(_ tag: MessageTag) {
            (operation, segment) = (tag.operation, tag.segment)
        }
    }

    @safe private struct Posting {
        let buffer: UnsafeMutableRawBufferPointer
        let tag: MessageTag
        let token: UInt32
    }

    private struct Early {
        let slot: Int
        let length: Int
        let fingerprint: UInt32
        var isComplete: Bool
    }

    private var posted: [Key: Posting] = [:]
    private var early: [Key: Early] = [:]
    private var buffer: EarlyBuffer
    /// The token of each posted buffer that is full now. The owner empties it.
    package var delivered: [UInt32] = []

    package init(earlyByteCount: Int) {
        buffer = EarlyBuffer(capacity: earlyByteCount)
        posted.reserveCapacity(256)
        early.reserveCapacity(64)
        delivered.reserveCapacity(256)
    }

    /// True while somebody waits for bytes of this stream.
    package var isAwaited: Bool { !posted.isEmpty }

    /// Whether the message waits, or is landing, in memory of the inbox's own.
    package func isEarly(_ tag: MessageTag) -> Bool { early[Key(tag)] != nil }

    /// The user takes all its buffers back. What came early may be for the next one.
    package func withdraw() {
        posted.removeAll(keepingCapacity: true)
        delivered.removeAll(keepingCapacity: true)
    }

    /// Posts a buffer. When the message is already here it is copied at once.
    package func post(_ target: UnsafeMutableRawBufferPointer, tag: MessageTag,
                      token: UInt32) throws(FrameFault) {
        let key = Key(tag)
        precondition(posted[key] == nil, "a buffer for this message is already posted")
        let posting = unsafe Posting(buffer: target, tag: tag, token: token)
        guard let message = early[key] else {
            posted[key] = posting
            return
        }
        try check(posting, fingerprint: message.fingerprint, length: message.length)
        if message.isComplete {
            deliver(message, to: posting, key)
        } else {
            posted[key] = posting
        }
    }

    package func place(_ header: FrameHeader) throws(FrameFault) -> UnsafeMutableRawBufferPointer? {
        if header.type == .doorbell, header.length == 0 { return unsafe buffer.nothing }
        guard header.type == .data else { throw .unexpected(header.type) }
        let key = Key(header.tag)
        if let posting = posted[key] {
            try check(posting, fingerprint: header.tag.fingerprint, length: header.length)
            return unsafe posting.buffer
        }
        guard early[key] == nil else { throw .badContent(.data) }
        guard let slot = buffer.take(header.length) else { return nil }
        early[key] = Early(slot: slot, length: header.length, fingerprint: header.tag.fingerprint,
                           isComplete: false)
        return unsafe buffer.bytes(of: slot)
    }

    package func arrived(_ header: FrameHeader) {
        guard header.type == .data else { return }
        let key = Key(header.tag)
        guard var message = early[key] else {
            if let posting = posted.removeValue(forKey: key) { delivered.append(posting.token) }
            return
        }
        message.isComplete = true
        early[key] = message
        // The buffer may have been posted while the bytes were still coming into the early buffer.
        if let posting = posted.removeValue(forKey: key) { deliver(message, to: posting, key) }
    }

    private func deliver(_ message: Early, to posting: Posting, _ key: Key) {
        unsafe posting.buffer.copyMemory(from: UnsafeRawBufferPointer(buffer.bytes(of: message.slot)))
        buffer.giveBack(message.slot)
        early[key] = nil
        delivered.append(posting.token)
    }

    /// The wire only confirms what our own plan says.
    private func check(_ posting: Posting, fingerprint: UInt32, length: Int) throws(FrameFault) {
        guard fingerprint == posting.tag.fingerprint else {
            throw .fingerprint(posting.tag, found: fingerprint)
        }
        guard unsafe length == posting.buffer.count else {
            throw unsafe .length(posting.tag, expected: posting.buffer.count, found: length)
        }
    }
}
