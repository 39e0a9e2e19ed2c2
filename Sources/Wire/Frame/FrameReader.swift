import Base
import Foundation

/// Who decides where payloads go, and hears when one is complete and its check has passed.
package protocol FrameSink: AnyObject {
    /// Where the payload of this verified header is to land: exactly `header.length` bytes, valid until
    /// `arrived`. Nil means "not yet": the reader is held until `resume`.
    func place(_ header: FrameHeader) throws(FrameFault) -> UnsafeMutableRawBufferPointer?
    func arrived(_ header: FrameHeader) throws(FrameFault)
}

/// The receiving half of a stream, as a step function over bytes: it offers the memory that the next bytes
/// should be read into, and is told how many came. Payloads land where the sink wants them, without a copy
/// beyond the first bytes: headers are read through a small stage, so that a short message costs one
/// system call, and what the stage caught of a payload is copied on.
@safe package final class FrameReader {
    /// A short message and its header fit in one read; of a long one at most this much is copied.
    package static let stageByteCount = 4096

    private enum Phase {
        case header
        /// The header is read; the sink has not yet given a place.
        case held(FrameHeader)
        case payload(FrameHeader)
        case tag(FrameHeader)
        /// So many bytes of a message that nobody wants any more.
        case abandoned(Int)
    }

    private let epoch: UInt32
    private let protection: Protection
    private let seal: FrameSeal?
    private var sequence: UInt64 = 0
    private var phase = Phase.header
    private let stage: UnsafeMutableRawBufferPointer
    /// The stage holds bytes that are not yet consumed in `consumed..<filled`.
    private var consumed = 0
    private var filled = 0
    private var target = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var got = 0
    private var crc: UInt32 = 0
    private var tagBytes: [UInt8] = []
    private var headerBytes: [UInt8] = []

    package init(epoch: UInt32, protection: Protection, seal: FrameSeal? = nil) {
        precondition((protection == .sealed) == (seal != nil), "sealed streams have a key, others none")
        self.epoch = epoch
        self.protection = protection
        self.seal = seal
        unsafe stage = .allocate(byteCount: Self.stageByteCount, alignment: 16)
    }

    deinit { unsafe stage.deallocate() }

    /// True while the sink has no place for the next payload. Nothing may be read then.
    package var isHeld: Bool {
        if case .held = phase { return true }
        return false
    }

    /// Where the next bytes of the stream go. Never empty.
    package func destination() -> UnsafeMutableRawBufferPointer {
        switch phase {
        case .payload: return unsafe UnsafeMutableRawBufferPointer(rebasing: target[got...])
        case .held: preconditionFailure("a held stream must not be read")
        case .header, .tag, .abandoned:
            if consumed > 0 {
                unsafe stage.copyMemory(from: UnsafeRawBufferPointer(rebasing: stage[consumed..<filled]))
                filled -= consumed
                consumed = 0
            }
            return unsafe UnsafeMutableRawBufferPointer(rebasing: stage[filled...])
        }
    }

    /// `count` bytes have been written to the start of `destination()`.
    package func advance(by count: Int, sink: some FrameSink) throws(FrameFault) {
        if case .payload(let header) = phase {
            try absorb(count, header, sink)
        } else {
            filled += count
        }
        try drain(sink)
    }

    /// The message whose payload, or seal, is being read.
    package var current: MessageTag? {
        switch phase {
        case .payload(let header), .tag(let header): header.tag
        case .header, .held, .abandoned: nil
        }
    }

    /// The memory of the message that is being read is taken away: the rest of it is read and forgotten.
    package func abandon() {
        let tagCount = protection == .sealed ? FrameHeader.tagByteCount : 0
        switch phase {
        case .payload(let header): phase = .abandoned(header.length - got + tagCount)
        case .tag: phase = .abandoned(tagCount - tagBytes.count)
        case .header, .held, .abandoned: return
        }
        unsafe target = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    }

    /// The sink may have a place now for the payload that was held.
    package func resume(sink: some FrameSink) throws(FrameFault) {
        try drain(sink)
    }

    /// Consumes what the stage holds, frame after frame.
    private func drain(_ sink: some FrameSink) throws(FrameFault) {
        while true {
            switch phase {
            case .header:
                guard filled - consumed >= FrameHeader.byteCount else { return }
                phase = .held(try readHeader())
            case .held(let header):
                guard let place = unsafe try sink.place(header) else { return }
                precondition(place.count == header.length, "the sink's place has the wrong size")
                unsafe target = place
                got = 0
                crc = 0
                phase = .payload(header)
                try absorb(copyFromStage(), header, sink)
            case .payload:
                return
            case .abandoned(let left):
                let caught = min(left, filled - consumed)
                consumed += caught
                guard caught == left else {
                    phase = .abandoned(left - caught)
                    return
                }
                phase = .header
            case .tag(let header):
                let wanted = min(FrameHeader.tagByteCount - tagBytes.count, filled - consumed)
                unsafe tagBytes.append(contentsOf: stage[consumed..<(consumed + wanted)])
                consumed += wanted
                guard tagBytes.count == FrameHeader.tagByteCount else { return }
                try openSeal(header)
                try finish(header, sink)
            }
        }
    }

    private func readHeader() throws(FrameFault) -> FrameHeader {
        let end = consumed + FrameHeader.byteCount
        let bytes = unsafe UnsafeRawBufferPointer(rebasing: stage[consumed..<end])
        let header = unsafe try FrameHeader.read(from: bytes)
        guard header.epoch == epoch else { throw .otherEpoch(expected: epoch, found: header.epoch) }
        guard header.protection == protection else { throw .otherProtection }
        guard header.sequence == sequence else {
            throw .outOfSequence(expected: sequence, found: header.sequence)
        }
        sequence += 1
        if seal != nil { unsafe headerBytes = Array(bytes) }
        consumed = end
        return header
    }

    /// Moves what the stage holds of the payload to its place and returns how much that was.
    private func copyFromStage() -> Int {
        let count = unsafe min(target.count, filled - consumed)
        if count > 0 {
            let caught = unsafe UnsafeRawBufferPointer(rebasing: stage[consumed..<(consumed + count)])
            unsafe target.copyMemory(from: caught)
            consumed += count
        }
        return count
    }

    /// `count` more bytes of the payload lie in place. The check runs over them while they are in cache.
    private func absorb(_ count: Int, _ header: FrameHeader, _ sink: some FrameSink) throws(FrameFault) {
        if protection == .checked, count > 0 {
            let fresh = unsafe UnsafeRawBufferPointer(rebasing: target[got..<(got + count)])
            crc = unsafe CRC32C.checksum(fresh, from: crc)
        }
        got += count
        guard got == header.length else { return }
        switch protection {
        case .plain: break
        case .checked:
            guard crc == header.payloadCRC else { throw .payloadDamaged(header.tag, header.length) }
        case .sealed:
            tagBytes.removeAll(keepingCapacity: true)
            phase = .tag(header)
            return
        }
        try finish(header, sink)
    }

    private func openSeal(_ header: FrameHeader) throws(FrameFault) {
        guard let seal else { preconditionFailure("only sealed streams read tags") }
        let opened = unsafe headerBytes.withUnsafeBytes { bytes in
            unsafe seal.open(target, tag: tagBytes, header: bytes, sequence: header.sequence)
        }
        guard opened else { throw .sealBroken(header.tag, header.length) }
    }

    private func finish(_ header: FrameHeader, _ sink: some FrameSink) throws(FrameFault) {
        phase = .header
        unsafe target = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        try sink.arrived(header)
    }
}

/// The sending half of a stream: numbers the frames, computes their checks and seals them.
package struct FrameWriter {
    private let epoch: UInt32
    private let protection: Protection
    private let seal: FrameSeal?
    private var sequence: UInt64 = 0

    package init(epoch: UInt32, protection: Protection, seal: FrameSeal? = nil) {
        precondition((protection == .sealed) == (seal != nil), "sealed streams have a key, others none")
        self.epoch = epoch
        self.protection = protection
        self.seal = seal
    }

    /// Writes the next frame's header to `head` (48 bytes). The payload itself follows it on the wire, or,
    /// when sealed, the bytes that this returns.
    package mutating func frame(
        _ type: FrameType, tag: MessageTag = MessageTag(operation: 0, fingerprint: 0, segment: 0),
        payload: UnsafeRawBufferPointer, head: UnsafeMutableRawBufferPointer
    ) -> Data? {
        let crc = unsafe protection == .checked ? CRC32C.checksum(payload) : 0
        let header = FrameHeader(type: type, protection: protection, epoch: epoch, sequence: sequence,
                                        tag: tag, length: payload.count, payloadCRC: crc)
        unsafe header.write(to: head)
        defer { sequence += 1 }
        guard let seal else { return nil }
        let whole = unsafe UnsafeRawBufferPointer(rebasing: head[..<FrameHeader.byteCount])
        return unsafe seal.seal(payload, header: whole, sequence: sequence)
    }

    /// A whole frame as one array, for what is short.
    package mutating func bytes(
        _ type: FrameType, tag: MessageTag = MessageTag(operation: 0, fingerprint: 0, segment: 0),
        payload: [UInt8] = []
    ) -> [UInt8] {
        var head = [UInt8](repeating: 0, count: FrameHeader.byteCount)
        let sealed = unsafe payload.withUnsafeBytes { body in
            unsafe head.withUnsafeMutableBytes { unsafe frame(type, tag: tag, payload: body, head: $0) }
        }
        return head + (sealed.map { Array($0) } ?? payload)
    }
}
