import Collectives
import Testing
import Wire

/// Questions and answers of ranks that wait too long, on a link that only notes what it is asked.
@Suite struct StallInquiryTests {
    private final class NotingLink: Link {
        struct Sent {
            let peer: Int
            let bytes: [UInt8]
            let token: UInt32
        }

        let rank = 0
        let worldSize = 3
        var now: UInt64 = 5
        var sent: [Sent] = []
        /// Where a peer's word lands, as a number.
        var words: [Int: UInt] = [:]

        func send(_ bytes: UnsafeRawBufferPointer, to peer: Int, tag: MessageTag, token: UInt32) {
            unsafe sent.append(Sent(peer: peer, bytes: Array(bytes), token: token))
        }

        func receive(into buffer: UnsafeMutableRawBufferPointer, from peer: Int, tag: MessageTag, token: UInt32) {
            words[peer] = unsafe UInt(bitPattern: buffer.baseAddress)
        }

        func poll(into events: inout [LinkEvent], until deadline: UInt64) {}
        func abort(_ fault: LinkFault) {}

        /// A word of `peer`'s arrives: 1 asks, 2 answers.
        func arrive(from peer: Int, kind: UInt8, awaited: UInt8) {
            guard let word = unsafe UnsafeMutablePointer<UInt8>(bitPattern: words[peer] ?? 0) else { return }
            for (place, byte) in [kind, 0, 0, 0, awaited, 0, 0, 0].enumerated() { unsafe word[place] = byte }
        }
    }

    /// The word of a question is the link's until it has left: asked again before that, nobody writes over it.
    @Test func aWordIsSentOnceAtATime() {
        let link = NotingLink(), inquiry = StallInquiry(link: link)
        inquiry.ask(awaited: 1)
        #expect(link.sent.map(\.peer) == [1, 2] && inquiry.askedAt == 5)
        inquiry.ask(awaited: 2)
        #expect(link.sent.count == 2)
        // Question words have the places from worldSize on; that of peer 2 has left.
        inquiry.sent(3 + 2)
        inquiry.ask(awaited: 2)
        #expect(link.sent.map(\.peer) == [1, 2, 2] && link.sent[2].bytes[4] == 2)
    }

    /// Answers make a chain from here to whoever waits for nobody, and a circle ends it.
    @Test func theChain() {
        let link = NotingLink(), inquiry = StallInquiry(link: link)
        inquiry.ask(awaited: 1)
        link.arrive(from: 1, kind: 2, awaited: 2)
        inquiry.received(from: 1, awaited: 1)
        #expect(inquiry.chain(awaited: 1) == [0, 1, 2])
        link.arrive(from: 2, kind: 2, awaited: 0)
        inquiry.received(from: 2, awaited: 1)
        #expect(inquiry.chain(awaited: 1) == [0, 1, 2, 0])
        // Whoever waits answers a question; whoever does not has nothing to say.
        link.arrive(from: 2, kind: 1, awaited: 0)
        inquiry.received(from: 2, awaited: nil)
        #expect(link.sent.count == 2)
        link.arrive(from: 2, kind: 1, awaited: 0)
        inquiry.received(from: 2, awaited: 1)
        #expect(link.sent.last?.peer == 2 && link.sent.last?.bytes.first == 2)
        // A new round forgets the answers of the last.
        inquiry.ask(awaited: 1)
        #expect(inquiry.chain(awaited: 1) == [0, 1])
    }
}
