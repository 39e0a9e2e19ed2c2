import Base
import Crypto
import Mutation
import Testing
import Wire

/// Everything that reads what a peer, or a file, says, fed with spoilt copies of what is right and with noise: over a
/// million inputs in all, the same ones every time. Whatever comes, there is no trap, nothing is believed that is not
/// right, and no memory is taken that the input asks for.
@Suite(.serialized) struct FuzzTests {
    /// Random bytes of a random length.
    private func noise(_ random: CounterRNG, _ index: Int, upTo limit: Int) -> [UInt8] {
        let start = UInt64(index) << 20, count = random.integer(below: limit, at: start)
        return (0..<((count + 7) / 8)).flatMap { word -> [UInt8] in
            let bits = random.bits(at: start + 1 + UInt64(word))
            return (0..<8).map { UInt8(truncatingIfNeeded: bits >> UInt64(8 * $0)) }
        }.prefix(count).map { $0 }
    }

    /// Three quarters of the inputs are spoilt copies of a good one, the others noise.
    private func inputs(_ count: Int, seed: Int, of good: [[UInt8]], _ body: ([UInt8]) -> Void) {
        var mutation = Mutation(seed: seed)
        let random = CounterRNG(seed: UInt64(seed), stream: 0xF)
        for index in 0..<count {
            body(index % 4 == 3 ? noise(random, index, upTo: 300) : mutation.next(of: good[index % good.count]))
        }
    }

    /// Remembers what it was asked to take, and gives no more than it has.
    @safe private final class Sink: FrameSink {
        private let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 8)
        var arrivals: [FrameHeader] = []
        var last: [UInt8] = []
        deinit { unsafe memory.deallocate() }

        func place(_ header: FrameHeader) throws(FrameFault) -> UnsafeMutableRawBufferPointer? {
            guard unsafe header.length <= memory.count else { throw .badContent(header.type) }
            return unsafe UnsafeMutableRawBufferPointer(rebasing: memory[..<header.length])
        }

        func arrived(_ header: FrameHeader) throws(FrameFault) {
            arrivals.append(header)
            last = unsafe Array(memory[..<header.length])
        }
    }

    private func feed(_ bytes: [UInt8], to reader: FrameReader, _ sink: some FrameSink) throws(FrameFault) {
        var offset = 0
        while offset < bytes.count, !reader.isHeld {
            let place = unsafe reader.destination()
            let count = min(place.count, bytes.count - offset)
            unsafe place.copyBytes(from: bytes[offset..<(offset + count)])
            offset += count
            try reader.advance(by: count, sink: sink)
        }
    }

    /// A checked stream of two frames: what arrives of a spoilt copy is a good frame, or nothing.
    @Test func frames() {
        let payloads: [[UInt8]] = [(0..<60).map { UInt8($0) }, [7, 8, 9]]
        var writer = FrameWriter(epoch: 3, protection: .checked)
        let tag = MessageTag(operation: 5, fingerprint: 6, segment: 7)
        let stream = payloads.flatMap { writer.bytes(.data, tag: tag, payload: $0) }
        var arrived = 0
        inputs(400_000, seed: 1, of: [stream]) { bytes in
            let reader = FrameReader(epoch: 3, protection: .checked), sink = Sink()
            try? feed(bytes, to: reader, sink)
            arrived += sink.arrivals.count
            for (place, header) in sink.arrivals.enumerated() {
                #expect(place < 2 && header.length == payloads[place].count && header.tag == tag)
            }
            if let last = sink.arrivals.indices.last, last < 2 { #expect(sink.last == payloads[last]) }
        }
        #expect(arrived > 10_000)
    }

    @Test func sealedFrames() {
        let key = SymmetricKey(data: [UInt8](repeating: 4, count: 32))
        var writer = FrameWriter(epoch: 0, protection: .sealed, seal: FrameSeal(key: key))
        let payload = [UInt8](repeating: 5, count: 40), stream = writer.bytes(.heartbeat, payload: payload)
        inputs(30_000, seed: 2, of: [stream]) { bytes in
            let reader = FrameReader(epoch: 0, protection: .sealed, seal: FrameSeal(key: key)), sink = Sink()
            try? feed(bytes, to: reader, sink)
            if !sink.arrivals.isEmpty { #expect(sink.last == payload) }
        }
    }

    /// Into an inbox with a buffer posted and little room for what comes early.
    @Test func inboxes() {
        var writer = FrameWriter(epoch: 0, protection: .plain)
        let tag = MessageTag(operation: 1, fingerprint: 2, segment: 3)
        let stream = writer.bytes(.data, tag: tag, payload: [UInt8](repeating: 1, count: 64)) + writer.bytes(.doorbell)
            + writer.bytes(.data, tag: MessageTag(operation: 9, fingerprint: 2, segment: 3), payload: [1, 2, 3])
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 8)
        defer { unsafe memory.deallocate() }
        inputs(120_000, seed: 3, of: [stream]) { bytes in
            let reader = FrameReader(epoch: 0, protection: .plain), inbox = Inbox(earlyByteCount: 256)
            unsafe try? inbox.post(memory, tag: tag, token: 11)
            try? feed(bytes, to: reader, inbox)
            #expect(inbox.delivered == [] || inbox.delivered == [11])
        }
    }

    /// The contents of control frames. What is read is written again as it was.
    @Test func controlPayloads() {
        let places = (0..<3).map {
            Place(address: SocketAddress(host: [10, 0, 0, UInt8($0)], port: 7), hostName: "h\($0)")
        }
        let six = Place(address: SocketAddress(host: [0x20] + [UInt8](repeating: 3, count: 15), port: 9), hostName: "")
        let fault = LinkFault(culprit: 1, host: "there", operation: "all-reduce", evidence: "gone", reporter: 0)
        let rosters = [ControlPayload.roster([places[0], nil, places[2]]), ControlPayload.roster([six, places[1], nil])]
        inputs(100_000, seed: 4, of: rosters) { bytes in
            guard let read = ControlPayload.readRoster(bytes, worldSize: 3) else { return }
            #expect(read.count == 3)
        }
        inputs(80_000, seed: 5, of: [ControlPayload.hello(places[0]), ControlPayload.hello(six)]) { bytes in
            if let place = ControlPayload.readHello(bytes) { #expect([4, 16].contains(place.address.host.count)) }
        }
        inputs(20_000, seed: 13, of: [ControlPayload.arrival(of: 2, at: places[1])]) { bytes in
            if let (rank, _) = ControlPayload.readArrival(bytes, worldSize: 3) { #expect((0..<3).contains(rank)) }
        }
        inputs(80_000, seed: 6, of: [ControlPayload.abort(fault, kind: .running)]) { bytes in
            guard let (read, kind) = ControlPayload.readAbort(bytes) else { return }
            #expect(read.culprit <= Int(UInt32.max) && (kind == .running || kind == .badInput))
        }
        let answers = [ControlPayload.answer(.waits(for: 2)), ControlPayload.answer(.computes(77))]
        inputs(60_000, seed: 7, of: answers) { bytes in
            if case .waits(let rank)? = ControlPayload.readAnswer(bytes, worldSize: 3) {
                #expect((0..<3).contains(rank))
            }
        }
        inputs(60_000, seed: 8, of: [(0..<48).map { UInt8($0) }]) { bytes in
            // Nothing at all is an offer of nothing.
            if ControlPayload.readMemory(bytes) != nil { #expect(bytes.count == 48 || bytes.isEmpty) }
        }
    }

    @Test func secretsAndClaims() {
        let digits = Array(hexadecimal((0..<32).map { UInt8($0) }).utf8)
        inputs(50_000, seed: 9, of: [digits, digits + [10], (0..<32).map { UInt8($0) }]) { bytes in
            if let secret = JobSecret.parse(bytes) { #expect(secret.count == JobSecret.byteCount) }
        }
        let identity = Identity(rank: 1, worldSize: 2, jobID: "j", epoch: 0, protection: .checked,
                                claims: [("recipe", "aa")])
        inputs(50_000, seed: 10, of: [identity.record]) { bytes in
            if let claims = Identity.readRecord(bytes) { #expect(claims.count < 64) }
        }
    }

    /// Messages of a handshake, spoilt, on both sides: none of them ends in a stream that stands.
    @Test func handshakes() {
        let here = Identity(rank: 0, worldSize: 2, jobID: "j", epoch: 0, protection: .checked, claims: [])
        let there = Identity(rank: 1, worldSize: 2, jobID: "j", epoch: 0, protection: .checked, claims: [])
        var initiator = Handshake(connectingTo: 0, stream: 0, identity: there, secret: testSecret, address: "x")
        let opening = initiator.open()
        inputs(25_000, seed: 11, of: [opening]) { bytes in
            guard bytes != opening else { return }
            var listener = Handshake(listeningAs: here, secret: testSecret, address: "x")
            guard bytes.count >= listener.wanted else { return }
            let step = listener.receive(Array(bytes.prefix(listener.wanted)))
            #expect(!listener.isProven && listener.wanted <= Handshake.unprovenByteCount)
            if bytes.prefix(94) != opening[..<94] { #expect(step.outcome != nil) }
        }
        var listener = Handshake(listeningAs: here, secret: testSecret, address: "x")
        let reply = listener.receive(opening).send
        inputs(15_000, seed: 12, of: [reply]) { bytes in
            var side = Handshake(connectingTo: 0, stream: 0, identity: there, secret: testSecret, address: "x")
            _ = side.open()
            var rest = bytes[...]
            while side.wanted > 0, rest.count >= side.wanted {
                let message = Array(rest.prefix(side.wanted))
                rest = rest.dropFirst(message.count)
                if side.receive(message).outcome != nil { break }
            }
            #expect(!side.isProven)
        }
    }

    /// A length in a frame's head, or in a handshake, takes no memory by itself: what is kept is bounded beforehand.
    @Test func noMemoryByTheWire() throws {
        for index in 0..<2000 {
            let header = FrameHeader(type: .data, protection: .plain, epoch: 0,
                                     tag: MessageTag(operation: UInt64(index), fingerprint: 0, segment: 0),
                                     length: FrameHeader.maximumLength)
            let reader = FrameReader(epoch: 0, protection: .plain), inbox = Inbox(earlyByteCount: 1024)
            try feed(header.bytes, to: reader, inbox)
            #expect(reader.isHeld)
        }
        let roster = ControlPayload.readRoster([255, 255, 255, 255] + [UInt8](repeating: 0, count: 40), worldSize: 2)
        #expect(roster == nil)
    }
}
