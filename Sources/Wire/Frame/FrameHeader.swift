import Base

// THE WIRE FORMAT
// ===============
// After its handshake (Handshake.swift) a TCP stream carries frames, and nothing else, in both directions.
// A frame is a header of 48 bytes, then `length` bytes of payload, then, on a sealed stream, a tag of 16
// bytes. Integers are little-endian.
//
//   offset  bytes  field
//        0      4  magic, the characters S K N 1
//        4      1  type: 1 data, 2 heartbeat, 3 abort, 4 goodbye, 5 hello, 6 roster, 7 inquiry, 8 answer,
//                9 memory, 10 memory's answer, 11 doorbell, 12 arrival, 13 lost, 14 succession
//        5      1  protection: 0 plain, 1 checked, 2 sealed
//        6      2  0
//        8      4  epoch
//       12      4  fingerprint                 (data; otherwise 0)
//       16      8  operation                   (data; otherwise 0)
//       24      4  segment                     (data; otherwise 0)
//       28      4  length of the payload
//       32      8  sequence: 0, 1, 2, ... for the frames of this stream in this direction
//       40      4  CRC-32C of the payload      (checked; otherwise 0)
//       44      4  CRC-32C of bytes 0 to 43
//
// Payloads: data is what the caller sent; heartbeat, goodbye, inquiry and doorbell are empty; the others are
// laid out in ControlPayloads.swift. A pair of ranks has one control stream (number 0) for everything but
// data, and data streams 1, 2, ...: a message goes on whichever is free first. Where two ranks share memory, messages
// go there (SharedMemory/), and a doorbell on data stream 1 wakes the other end.
//
// The argument
// ------------
// 1. No wrong sum. CRC-32C detects every burst of up to 32 bits and, at these lengths, every error of up
//    to 3 bits; a flipped header is caught before any of its fields is believed, so a damaged length can
//    neither land bytes in the wrong place nor make the reader wait for bytes that never come. What TCP's
//    16-bit sum lets through is caught here.
// 2. No lost, repeated or reordered frame. TCP keeps order; the sequence number proves it end to end, and
//    is the nonce of a sealed frame.
// 3. Lengths come from the receiver's own plan. `length` only confirms it: a data frame whose length is not
//    that of the posted buffer is a fault. The only memory that follows the wire is the bounded early buffer.
// 4. No frame of another life. The epoch stands in the handshake and in every frame; a frame of another
//    epoch ends the stream.
// 5. Sealed frames are AES-256-GCM over the payload with the header as associated data, under a key that is
//    fresh for each stream and direction. The 96-bit nonce is 4 zero bytes and the sequence number (8 bytes,
//    big-endian), which never repeats under one key. The header stays readable, so a passive listener sees
//    sizes and operation numbers, never numbers of the model. The header's own CRC still stands, so that
//    noise is told from an attack.
// 6. Control never waits behind data. Heartbeats, aborts and goodbyes have a stream of their own, which is
//    always read, so a reader that holds back data (backpressure) still hears that its peer lives.

/// How the bytes of a frame are protected on their way.
public enum Protection: UInt8, Sendable {
    /// No payload check. For benches only.
    case plain = 0
    /// CRC-32C: accidents are detected.
    case checked = 1
    /// AES-256-GCM: accidents and attackers are detected, and payloads are secret.
    case sealed = 2
}

package enum FrameType: UInt8, Sendable {
    case data = 1, heartbeat = 2, abort = 3, goodbye = 4, hello = 5, roster = 6, inquiry = 7, answer = 8
    case memory = 9, memoryAnswer = 10, doorbell = 11, arrival = 12, lost = 13, succession = 14
}

/// The 48 bytes before every payload. The layout is at the head of this file.
package struct FrameHeader: Equatable, Sendable {
    package static let byteCount = 48
    /// What AES-GCM adds behind a sealed payload.
    package static let tagByteCount = 16
    /// A single message may not be longer. Far above any sensible segment; keeps sums of lengths in range.
    package static let maximumLength = 1 << 30
    static let magic: UInt32 = 0x314E_4B53

    package var type: FrameType
    package var protection: Protection
    package var epoch: UInt32
    package var sequence: UInt64
    package var tag: MessageTag
    package var length: Int
    package var payloadCRC: UInt32

    package init(type: FrameType, protection: Protection, epoch: UInt32, sequence: UInt64 = 0,
                 tag: MessageTag = MessageTag(operation: 0, fingerprint: 0, segment: 0), length: Int = 0,
                 payloadCRC: UInt32 = 0) {
        precondition(length >= 0 && length <= Self.maximumLength, "frame payload out of range")
        self.type = type
        self.protection = protection
        self.epoch = epoch
        self.sequence = sequence
        self.tag = tag
        self.length = length
        self.payloadCRC = payloadCRC
    }

    /// Writes the 48 bytes into `bytes`, which holds at least that many.
    package func write(to bytes: UnsafeMutableRawBufferPointer) {
        precondition(bytes.count >= Self.byteCount, "no room for a frame header")
        func store<T: FixedWidthInteger>(_ value: T, at offset: Int) {
            unsafe bytes.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
        }
        store(Self.magic, at: 0)
        store(type.rawValue, at: 4)
        store(protection.rawValue, at: 5)
        store(UInt16(0), at: 6)
        store(epoch, at: 8)
        store(tag.fingerprint, at: 12)
        store(tag.operation, at: 16)
        store(tag.segment, at: 24)
        store(UInt32(length), at: 28)
        store(sequence, at: 32)
        store(payloadCRC, at: 40)
        let crc = unsafe CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[0..<44]))
        store(crc, at: 44)
    }

    package var bytes: [UInt8] {
        unsafe [UInt8](unsafeUninitializedCapacity: Self.byteCount) { buffer, count in
            unsafe write(to: UnsafeMutableRawBufferPointer(buffer))
            count = Self.byteCount
        }
    }

    /// Reads a header from the first 48 bytes of `bytes`. Nothing is believed before its CRC is right.
    package static func read(from bytes: UnsafeRawBufferPointer) throws(FrameFault) -> FrameHeader {
        precondition(bytes.count >= byteCount, "a frame header has 48 bytes")
        func load<T: FixedWidthInteger>(_ offset: Int, as type: T.Type) -> T {
            unsafe T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
        }
        guard load(0, as: UInt32.self) == magic else { throw .notAFrame }
        let crc = unsafe CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[0..<44]))
        guard load(44, as: UInt32.self) == crc else { throw .headerDamaged }
        let length = Int(load(28, as: UInt32.self))
        guard let type = FrameType(rawValue: load(4, as: UInt8.self)),
              let protection = Protection(rawValue: load(5, as: UInt8.self)),
              load(6, as: UInt16.self) == 0, length <= maximumLength else { throw .unknownFrame }
        let tag = MessageTag(
            operation: load(16, as: UInt64.self), fingerprint: load(12, as: UInt32.self),
            segment: load(24, as: UInt32.self))
        return FrameHeader(
            type: type, protection: protection, epoch: load(8, as: UInt32.self),
            sequence: load(32, as: UInt64.self), tag: tag, length: length,
            payloadCRC: load(40, as: UInt32.self))
    }
}

/// What was wrong with the bytes of a peer. The text is the evidence in the `LinkFault` made from it.
package enum FrameFault: Error, Equatable, CustomStringConvertible {
    case notAFrame
    case headerDamaged
    case unknownFrame
    case otherEpoch(expected: UInt32, found: UInt32)
    case otherProtection
    case outOfSequence(expected: UInt64, found: UInt64)
    case payloadDamaged(MessageTag, Int)
    case sealBroken(MessageTag, Int)
    case unexpected(FrameType)
    case length(MessageTag, expected: Int, found: Int)
    case fingerprint(MessageTag, found: UInt32)
    case badContent(FrameType)

    package var description: String {
        switch self {
        case .notAFrame: "bytes that are no frame"
        case .headerDamaged: "CRC mismatch in a frame header"
        case .unknownFrame: "a frame of unknown type"
        case .otherEpoch(let expected, let found): "a frame of epoch \(found) instead of \(expected)"
        case .otherProtection: "a frame with another protection than agreed"
        case .outOfSequence(let expected, let found): "frame \(found) instead of frame \(expected)"
        case .payloadDamaged(let tag, let length):
            "CRC mismatch in segment \(tag.segment) of operation \(tag.operation) (\(Units.bytes(length)))"
        case .sealBroken(let tag, let length):
            "broken seal in segment \(tag.segment) of operation \(tag.operation) (\(Units.bytes(length)))"
        case .unexpected(let type): "a frame of type \(type) on the wrong stream"
        case .length(let tag, let expected, let found):
            "segment \(tag.segment) of operation \(tag.operation) has \(found) bytes, not \(expected)"
        case .fingerprint(let tag, let found):
            "it disagrees on what operation \(tag.operation) is "
                + "(fingerprint \(String(found, radix: 16)), here \(String(tag.fingerprint, radix: 16)))"
        case .badContent(let type): "a \(type) frame that cannot be read"
        }
    }
}
