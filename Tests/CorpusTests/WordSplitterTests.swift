import Corpus
import Testing

@Suite struct WordSplitterTests {
    private let classes = WordSplitter.classes

    private func words(_ text: [UInt8]) -> [String] {
        var result: [String] = [], begin = 0
        while begin < text.count {
            let end = WordSplitter.wordEnd(text.span, from: begin, classes: classes.span)
            result.append(String(decoding: text[begin..<end], as: UTF8.self))
            begin = end
        }
        return result
    }

    /// All strings of up to five characters out of one of each kind, against the regular expression itself.
    @Test func equalsTheRegularExpression() throws {
        let pattern = #/'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/#
            .matchingSemantics(.unicodeScalar)
        let alphabet = ["e", "5", " ", "\n", "'", "r"]
        var texts = [""]
        for _ in 0..<5 {
            texts = texts.flatMap { text in alphabet.map { text + $0 } }
            for text in texts {
                let expected = text.matches(of: pattern).map { String(text[$0.range]) }
                #expect(words(Array(text.utf8)) == expected)
            }
        }
    }

    @Test func contractionsAreLowercaseOnly() {
        #expect(words(Array("we'll I'LL 're'd ''s".utf8))
            == ["we", "'ll", " I", "'", "LL", " '", "re", "'d", " ''", "s"])
    }

    @Test func classesOfWideCharacters() {
        #expect(words(Array("żółw½²\u{A0}\u{3000}語!\u{301}".utf8))
            == ["żółw", "½²", "\u{A0}", "\u{3000}", "語", "!\u{301}"])
    }

    @Test func brokenUTF8IsSomethingOfNoClass() {
        let text: [UInt8] = [0x61, 0xC3, 0x28, 0xFF, 0x20, 0xE2, 0x82, 0x62, 0xF0, 0x9F]
        var ends: [Int] = [], begin = 0
        while begin < text.count {
            begin = WordSplitter.wordEnd(text.span, from: begin, classes: classes.span)
            ends.append(begin)
        }
        #expect(ends == [1, 4, 7, 8, 10])
    }
}
