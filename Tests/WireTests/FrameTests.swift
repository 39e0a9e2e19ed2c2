import Base
import Crypto
import Testing
import Wire

private let key = SymmetricKey(data: (0..<32).map { UInt8($0 * 3) })

/// What a reader made of its bytes, for comparison.
@safe private final class Recorder: FrameSink {
    var events: [String] = []
    private var memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 8)
    deinit { unsafe memory.deallocate() }

    func place(_ header: FrameHeader) throws(FrameFault) -> UnsafeMutableRawBufferPointer? {
        unsafe UnsafeMutableRawBufferPointer(rebasing: memory[..<header.length])
    }

    func arrived(_ header: FrameHeader) throws(FrameFault) {
        let crc = unsafe CRC32C.checksum(UnsafeRawBufferPointer(rebasing: memory[..<header.length]))
        events.append("\(header.type) \(header.sequence) \(header.tag) \(header.length) \(crc)")
    }
}

private func reader(_ protection: Protection, epoch: UInt32 = 9) -> FrameReader {
    FrameReader(epoch: epoch, protection: protection, seal: protection == .sealed ? FrameSeal(key: key) : nil)
}

private func writer(_ protection: Protection, epoch: UInt32 = 9) -> FrameWriter {
    FrameWriter(epoch: epoch, protection: protection, seal: protection == .sealed ? FrameSeal(key: key) : nil)
}

/// Data frames with payloads of these lengths, one after the other.
private func stream(_ protection: Protection, _ lengths: [Int]) -> [UInt8] {
    var writer = writer(protection)
    var bytes: [UInt8] = []
    for (index, length) in lengths.enumerated() {
        let payload = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 5 &+ index) }
        let tag = MessageTag(operation: UInt64(index) << 33, fingerprint: 77, segment: UInt32(index))
        bytes += writer.bytes(.data, tag: tag, payload: payload)
    }
    return bytes
}

/// Feeds `bytes` in pieces that end at `cuts` and wherever the reader wants no more at once.
private func feed(_ bytes: [UInt8], to reader: FrameReader, _ sink: Recorder,
                  cuts: [Int] = []) throws(FrameFault) {
    var offset = 0
    for end in cuts + [bytes.count] {
        while offset < end {
            let place = unsafe reader.destination()
            let count = min(place.count, end - offset)
            unsafe place.copyBytes(from: bytes[offset..<(offset + count)])
            offset += count
            try reader.advance(by: count, sink: sink)
        }
    }
}

private let protections: [Protection] = [.plain, .checked, .sealed]

@Suite struct FrameTests {
    @Test func theLayoutIsTheDocumentedOne() {
        let tag = MessageTag(operation: 0x1122_3344_5566_7788, fingerprint: 0xA1A2_A3A4, segment: 0xB1B2_B3B4)
        let bytes = FrameHeader(type: .abort, protection: .checked, epoch: 0xD1D2_D3D4, sequence: 7, tag: tag,
                                length: 0x0102, payloadCRC: 0xE1E2_E3E4).bytes
        #expect(bytes.count == 48)
        #expect(Array(bytes[0..<8]) == Array("SKN1".utf8) + [3, 1, 0, 0])
        #expect(Array(bytes[8..<16]) == [0xD4, 0xD3, 0xD2, 0xD1, 0xA4, 0xA3, 0xA2, 0xA1])
        #expect(Array(bytes[16..<24]) == [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11])
        #expect(Array(bytes[24..<32]) == [0xB4, 0xB3, 0xB2, 0xB1, 2, 1, 0, 0])
        #expect(Array(bytes[32..<44]) == [7, 0, 0, 0, 0, 0, 0, 0, 0xE4, 0xE3, 0xE2, 0xE1])
        var crc = ByteWriter()
        crc.append(CRC32C.checksum(Array(bytes[..<44])))
        #expect(Array(bytes[44...]) == crc.bytes)
    }

    @Test(arguments: protections) func everySplitGivesTheSameEvents(protection: Protection) throws {
        let bytes = stream(protection, [0, 1, 60, 0, 200])
        let whole = Recorder()
        try feed(bytes, to: reader(protection), whole)
        #expect(whole.events.count == 5)
        for cut in 1..<bytes.count {
            let split = Recorder()
            try feed(bytes, to: reader(protection), split, cuts: [cut])
            #expect(split.events == whole.events)
        }
        let bytewise = Recorder()
        try feed(bytes, to: reader(protection), bytewise, cuts: Array(1..<bytes.count))
        #expect(bytewise.events == whole.events)
    }

    @Test(arguments: protections)
    func longPayloadsAroundTheStageSplitAnywhere(protection: Protection) throws {
        let stage = FrameReader.stageByteCount
        let bytes = stream(protection, [stage - 48, stage - 49, 3 * stage, 0, stage - 47, 17, 50_000, 1])
        let whole = Recorder()
        try feed(bytes, to: reader(protection), whole)
        #expect(whole.events.count == 8)
        let random = CounterRNG(seed: 1, stream: 2)
        for round in 0..<200 {
            let cuts = (0..<12).map { random.integer(below: bytes.count, at: UInt64(round * 100 + $0)) }
            let split = Recorder()
            try feed(bytes, to: reader(protection), split, cuts: cuts.sorted())
            #expect(split.events == whole.events)
        }
    }

    /// The header, the payload and the tag: no single changed bit goes unseen.
    @Test(arguments: [Protection.checked, .sealed]) func everyFlippedBitIsDetected(protection: Protection) {
        let bytes = stream(protection, [90])
        for bit in 0..<(8 * bytes.count) {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            let sink = Recorder()
            #expect(throws: FrameFault.self) { try feed(damaged, to: reader(protection), sink) }
            #expect(sink.events.isEmpty)
        }
    }

    @Test func strayFramesAreRefused() throws {
        let sink = Recorder()
        let bytes = stream(.checked, [4, 4])
        #expect(throws: FrameFault.otherEpoch(expected: 8, found: 9)) {
            try feed(bytes, to: reader(.checked, epoch: 8), sink)
        }
        #expect(throws: FrameFault.outOfSequence(expected: 0, found: 1)) {
            try feed(Array(bytes[52...]), to: reader(.checked), sink)
        }
        #expect(throws: FrameFault.outOfSequence(expected: 1, found: 0)) {
            try feed(bytes[..<52] + bytes, to: reader(.checked), Recorder())
        }
        #expect(throws: FrameFault.otherProtection) { try feed(bytes, to: reader(.plain), sink) }
        #expect(sink.events.isEmpty)
    }

    @Test func randomBytesAreNoFrames() {
        let random = CounterRNG(seed: 3, stream: 4)
        for round in 0..<2000 {
            let bytes = (0..<96).map { UInt8(truncatingIfNeeded: random.bits(at: UInt64(round * 96 + $0))) }
            #expect(throws: FrameFault.notAFrame) { try feed(bytes, to: reader(.checked), Recorder()) }
        }
    }
}

@Suite struct ControlPayloadTests {
    private let fault = LinkFault(culprit: 3, host: "host", operation: "all-reduce of 4.0 MiB, operation 812",
                                  evidence: "no heartbeat for 5.0 s", reporter: 1)
    private let places: [Place?] = [
        Place(address: SocketAddress(host: [10, 0, 0, 1], port: 29500), hostName: "a"), nil,
        Place(address: SocketAddress(host: (0..<16).map { UInt8($0 + 1) }, port: 1), hostName: ""),
    ]

    @Test func allRoundTrip() throws {
        for kind in [FaultKind.running, .badInput] {
            let bytes = ControlPayload.abort(fault, kind: kind)
            let (found, foundKind) = try #require(ControlPayload.readAbort(bytes))
            #expect(found == fault)
            #expect(foundKind == kind)
        }
        #expect(ControlPayload.readRoster(ControlPayload.roster(places), worldSize: 3) == places)
        #expect(ControlPayload.readRoster(ControlPayload.roster(places), worldSize: 4) == nil)
        let place = try #require(places[0])
        #expect(ControlPayload.readHello(ControlPayload.hello(place)) == place)
    }

    @Test func truncatedAndLongerOnesAreRefused() throws {
        let place = try #require(places[0])
        let hello = ControlPayload.hello(place), roster = ControlPayload.roster(places)
        let abort = ControlPayload.abort(fault, kind: .running)
        for count in 0..<hello.count { #expect(ControlPayload.readHello(Array(hello[..<count])) == nil) }
        for count in 0..<roster.count {
            #expect(ControlPayload.readRoster(Array(roster[..<count]), worldSize: 3) == nil)
        }
        for count in 0..<abort.count { #expect(ControlPayload.readAbort(Array(abort[..<count])) == nil) }
        #expect(ControlPayload.readHello(hello + [0]) == nil)
        #expect(ControlPayload.readRoster(roster + [0], worldSize: 3) == nil)
        #expect(ControlPayload.readAbort(abort + [0]) == nil)
    }

    @Test func theLargestRosterFits() {
        let name = String(repeating: "x", count: 200)
        let address = SocketAddress(host: [UInt8](repeating: 1, count: 16), port: 1)
        let place = Place(address: address, hostName: name)
        let all = [Place?](repeating: place, count: ControlPayload.maximumWorldSize)
        #expect(ControlPayload.roster(all).count <= ControlPayload.maximumByteCount)
    }
}
