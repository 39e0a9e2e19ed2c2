import Base
import Corpus
import Foundation
import Testing

/// Text encoded by several threads has the tokens of one.
@Suite struct StreamEncoderTests {
    private static let keys = ["gpt2", "gpt4", "qwen2", "gpt2~", "spaced", "none", "gpt4+"]

    private func tokenizer(_ key: String) throws -> any Tokenizer {
        try parseTokenizer(json: try TokenizerFileTests.json(try TokenizerFileTests.root(key)), path: "t.json")
    }

    /// Letters, digits, marks, all kinds of blanks and line ends, and the words of the vocabulary.
    private func text(_ count: Int, seed: UInt64) -> [UInt8] {
        let pieces = ["a", "don't", " ", "  ", "\n", "\r\n", "\t", "1", "234", ".", "...", "!\n", "\u{A0}",
                      "\u{E9}",
                      "e\u{301}", " \u{301}", "\u{8A9E}", "word", " word", "x ", " 7", "'ll", "\u{1F44D}", "<s>",
                      "magic"]
        let rng = CounterRNG(seed: seed, stream: 7)
        var text: [UInt8] = [], draw: UInt64 = 0
        while text.count < count {
            text += Array(pieces[rng.integer(below: pieces.count, at: draw)].utf8)
            draw += 1
        }
        return text
    }

    /// Every place that a tokenizer offers, in short texts: both parts give the ids of the whole.
    @Test(arguments: keys) func cutsAreExact(_ key: String) throws {
        let tokenizer = try tokenizer(key)
        var cuts = 0
        for seed in 0..<60 {
            let whole = text(120, seed: UInt64(seed))
            var want: [Int32] = []
            tokenizer.encode(whole.span, into: &want)
            var start = 0
            while let place = tokenizer.cut(whole.span, atOrAfter: start) {
                #expect(place >= start && place > 0 && place < whole.count)
                var got: [Int32] = []
                tokenizer.encode(whole.span.extracting(..<place), into: &got)
                tokenizer.encode(whole.span.extracting(place...), into: &got)
                #expect(got == want, "\(key), seed \(seed), cut at \(place)")
                start = place + 1
                cuts += 1
            }
        }
        // A text that is one word, and one whose added tokens may go across, are not cut.
        #expect(key == "none" || key.contains("+") ? cuts == 0 : cuts > 100)
    }

    /// Documents of all sizes, empty ones and one that is a hundred others.
    @Test(arguments: ["gpt2", "qwen2"]) func threadsDoNotMatter(_ key: String) throws {
        let tokenizer = try tokenizer(key)
        var all: [UInt8] = [], documents: [Range<Int>] = []
        for (index, size) in [0, 1, 17, 3_000, 0, 1_200_000, 5, 40_000, 900_000, 2].enumerated() {
            let begin = all.count
            if size > 0 { all += text(size, seed: UInt64(index)) }
            documents.append(begin..<all.count)
        }
        var want: [UInt16] = [], counts: [Int] = []
        for range in documents {
            var tokens: [Int32] = []
            tokenizer.encode(all.span.extracting(range), into: &tokens)
            want += tokens.map { UInt16($0) }
            counts.append(tokens.count)
        }
        for threads in [1, 2, 3, 16] {
            let got = StreamEncoder(tokenizer: tokenizer, threads: threads).encode(documents, of: all, as: UInt16.self)
            #expect(got.tokens == want && got.counts == counts, "\(threads) threads")
        }
        #expect(StreamEncoder(tokenizer: tokenizer, threads: 4).encode([], of: [], as: Int32.self).counts == [])
    }
}
