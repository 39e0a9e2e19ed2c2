import Base
import Testing
import Wire

/// A sender, a reader and an inbox without a socket between them.
@safe private final class Flow {
    let reader = FrameReader(epoch: 0, protection: .checked)
    let inbox: Inbox
    private var writer = FrameWriter(epoch: 0, protection: .checked)
    /// Bytes sent but not yet read.
    var wire: [UInt8] = []
    private var buffers: [(UnsafeMutableRawBufferPointer, Int)] = unsafe []
    private(set) var delivered: [UInt32] = []

    init(early: Int) { inbox = Inbox(earlyByteCount: early) }

    deinit { for unsafe (buffer, _) in unsafe buffers { unsafe buffer.deallocate() } }

    static func content(_ segment: Int, _ length: Int) -> [UInt8] {
        (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 3 &+ segment &* 11) }
    }

    func send(_ segment: Int, _ length: Int, fingerprint: UInt32 = 1) {
        let tag = MessageTag(operation: 0, fingerprint: fingerprint, segment: UInt32(segment))
        wire += writer.bytes(.data, tag: tag, payload: Self.content(segment, length))
    }

    func post(_ segment: Int, _ length: Int) throws(FrameFault) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 8)
        unsafe buffers.append((buffer, segment))
        let tag = MessageTag(operation: 0, fingerprint: 1, segment: UInt32(segment))
        try unsafe inbox.post(buffer, tag: tag, token: UInt32(segment))
        if reader.isHeld { try reader.resume(sink: inbox) }
        collect()
    }

    /// Reads at most `limit` bytes of the wire, or until the reader is held.
    func read(_ limit: Int = .max) throws(FrameFault) {
        var left = min(limit, wire.count)
        while left > 0, !reader.isHeld {
            let place = unsafe reader.destination()
            let count = min(place.count, left)
            unsafe place.copyBytes(from: wire[..<count])
            wire.removeFirst(count)
            left -= count
            try reader.advance(by: count, sink: inbox)
        }
        collect()
    }

    private func collect() {
        delivered += inbox.delivered
        inbox.delivered.removeAll()
    }

    var isRight: Bool {
        unsafe buffers.allSatisfy { unsafe Array($0.0) == Self.content($0.1, $0.0.count) }
    }
}

private let lengths = [40, 0, 5000, 7]

@Suite struct InboxTests {
    private static let orders: [[Int]] = permutations([0, 1, 2, 3])

    private static func permutations(_ items: [Int]) -> [[Int]] {
        items.isEmpty ? [[]] : items.flatMap { first in
            permutations(items.filter { $0 != first }).map { [first] + $0 }
        }
    }

    /// Every order of posting, at every interleaving with the arrival, delivers every message once.
    @Test func everyOrderOfPostingAndArriving() throws {
        let total = lengths.reduce(0, +) + 4 * FrameHeader.byteCount
        for order in Self.orders {
            for postedFirst in 0...4 {
                for step in [total, 1, 61, 2600] {
                    let flow = Flow(early: 1 << 16)
                    for (segment, length) in lengths.enumerated() { flow.send(segment, length) }
                    for segment in order[..<postedFirst] { try flow.post(segment, lengths[segment]) }
                    for segment in order[postedFirst...] {
                        try flow.read(step)
                        try flow.post(segment, lengths[segment])
                    }
                    try flow.read()
                    #expect(flow.delivered.sorted() == [0, 1, 2, 3])
                    #expect(flow.isRight)
                    #expect(!flow.inbox.isAwaited)
                }
            }
        }
    }

    /// What does not fit the early buffer stays in the socket until its buffer is posted.
    @Test func beyondTheEarlyBufferTheSenderWaits() throws {
        let flow = Flow(early: 5040)
        for segment in 0..<4 { flow.send(segment, lengths[segment]) }
        flow.send(4, 9000)
        flow.send(5, 3)
        try flow.read()
        #expect(flow.reader.isHeld)
        let left = flow.wire.count
        #expect(left > 0)
        try flow.post(5, 3)
        #expect(flow.reader.isHeld && flow.delivered.isEmpty && flow.wire.count == left)
        for segment in 0..<4 { try flow.post(segment, lengths[segment]) }
        try flow.read()
        #expect(flow.reader.isHeld && flow.delivered.sorted() == [0, 1, 2, 3])
        try flow.post(4, 9000)
        try flow.read()
        #expect(flow.delivered.sorted() == [0, 1, 2, 3, 4, 5])
        #expect(flow.wire.isEmpty && flow.isRight)
    }

    @Test func withoutAnEarlyBufferEverythingWaitsForItsPost() throws {
        let flow = Flow(early: 0)
        for segment in 0..<4 { flow.send(segment, lengths[segment]) }
        for segment in 0..<4 {
            try flow.read()
            #expect(flow.reader.isHeld)
            try flow.post(segment, lengths[segment])
        }
        try flow.read()
        #expect(flow.delivered == [0, 1, 2, 3] && flow.isRight)
    }

    @Test(arguments: [true, false]) func aDifferentLengthOrFingerprintIsAFault(postedFirst: Bool) throws {
        let tag = MessageTag(operation: 0, fingerprint: 1, segment: 0)
        func run(_ length: Int, _ fingerprint: UInt32) throws(FrameFault) {
            let flow = Flow(early: 1000)
            flow.send(0, length, fingerprint: fingerprint)
            if postedFirst { try flow.post(0, 10) } else { try flow.read() }
            if postedFirst { try flow.read() } else { try flow.post(0, 10) }
        }
        for length in [0, 9, 11] {
            #expect(throws: FrameFault.length(tag, expected: 10, found: length)) { try run(length, 1) }
        }
        #expect(throws: FrameFault.fingerprint(tag, found: 2)) { try run(10, 2) }
        try run(10, 1)
    }

    @Test func aMessageThatComesTwiceIsAFault() throws {
        let flow = Flow(early: 1000)
        flow.send(0, 10)
        flow.send(0, 10)
        #expect(throws: FrameFault.badContent(.data)) { try flow.read() }
    }
}

@Suite struct EarlyBufferTests {
    /// Random taking and giving back against a model: pieces keep their bytes, so they never overlap, and
    /// an empty buffer has all its room again.
    @Test(arguments: [1, 7, 64, 1000]) func piecesNeverOverlap(capacity: Int) {
        let random = CounterRNG(seed: 11, stream: UInt64(capacity))
        var buffer = EarlyBuffer(capacity: capacity)
        var alive: [(number: Int, fill: UInt8, count: Int)] = []
        for step in 0..<4000 {
            let at = UInt64(step * 3)
            if random.integer(below: 2, at: at) == 0 {
                let count = random.integer(below: capacity / 2 + 2, at: at + 1)
                if let number = buffer.take(count) {
                    let fill = UInt8(truncatingIfNeeded: step)
                    let place = unsafe buffer.bytes(of: number)
                    for index in 0..<place.count { unsafe place[index] = fill }
                    alive.append((number, fill, place.count))
                    #expect(place.count == count)
                } else {
                    #expect(!alive.isEmpty || count > capacity)
                }
            } else if !alive.isEmpty {
                let (number, fill, count) = alive.remove(at: random.integer(below: alive.count, at: at + 2))
                let bytes = unsafe Array(buffer.bytes(of: number))
                #expect(bytes == [UInt8](repeating: fill, count: count))
                buffer.giveBack(number)
            }
            #expect(buffer.isEmpty == alive.isEmpty)
        }
        for (number, _, _) in alive { buffer.giveBack(number) }
        #expect(buffer.take(capacity) != nil)
    }
}
