import Collectives
import Testing
import Wire

/// Answers make a chain from here to whoever waits for nobody.
@Suite struct StallInquiryTests {
    @Test func theChain() {
        let inquiry = StallInquiry()
        inquiry.begin(at: 5)
        #expect(inquiry.askedAt == 5)
        // Nobody has answered: whoever is awaited is the end.
        #expect(inquiry.chain(from: 0, awaited: 1) == [0, 1] && inquiry.computing(1) == nil)
        inquiry.answered(by: 1, .waits(for: 2))
        #expect(inquiry.chain(from: 0, awaited: 1) == [0, 1, 2])
        inquiry.answered(by: 2, .computes(77))
        #expect(inquiry.chain(from: 0, awaited: 1) == [0, 1, 2])
        #expect(inquiry.computing(2) == 77 && inquiry.computing(1) == nil)
        // A circle ends it.
        inquiry.answered(by: 2, .waits(for: 0))
        #expect(inquiry.chain(from: 0, awaited: 1) == [0, 1, 2, 0])
        // Something moved; a new round forgets the answers of the last.
        inquiry.withdraw()
        #expect(inquiry.askedAt == nil)
        inquiry.begin(at: 9)
        #expect(inquiry.chain(from: 0, awaited: 1) == [0, 1])
    }
}
