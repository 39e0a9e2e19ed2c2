import Base
import Corpus
import Testing

@Suite struct SplitTests {
    @Test func undeclaredDocumentsFollowTheirHash() {
        let documents = (0..<512).map { (declared: Split?.none, hash: UInt32($0)) }
        let result = splits(of: documents)
        for (document, split) in zip(documents, result) {
            #expect(split == (document.hash % 256 < 13 ? .valid : .train))
        }
    }

    @Test func aDeclaredSplitIsObeyed() {
        let result = splits(of: [(.train, 0), (.test, 0), (.valid, 200), (nil, 0), (nil, 99)])
        #expect(result == [.train, .test, .valid, .valid, .train])
    }

    @Test func oneIsAlwaysHeldOutAndOneAlwaysTrained() {
        #expect(splits(of: [(nil, 300), (nil, 50), (nil, 60)]) == [.train, .valid, .train])
        #expect(splits(of: [(nil, 356), (nil, 250), (nil, 260 + 256)]) == [.train, .train, .valid])
        #expect(splits(of: [(nil, 1), (nil, 3), (nil, 2)]) == [.valid, .train, .valid])
        #expect(splits(of: [(nil, 1)]) == [.train])
        #expect(splits(of: [(.valid, 1), (.valid, 2)]) == [.valid, .valid])
        #expect(splits(of: [(.train, 1), (.test, 2)]) == [.train, .test])
    }

    @Test func theLastTenthIsCutAtACharacter() {
        for count in 1...200 {
            let ascii = [UInt8](repeating: 65, count: count)
            #expect(cutPoint(of: ascii.span) == count * 9 / 10)
            let twoByte = Array(String(repeating: "é", count: count).utf8)
            let cut = cutPoint(of: twoByte.span)
            #expect(cut % 2 == 0 && abs(cut - 2 * count * 9 / 10) <= 1)
        }
    }
}
