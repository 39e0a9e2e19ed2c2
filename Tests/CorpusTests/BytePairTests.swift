import Base
import Corpus
import Foundation
import Testing

@Suite struct BytePairTests {
    /// A small vocabulary: bytes 0...255, then merges of lowercase letters in a fixed random order, each
    /// over all tokens before it.
    private static func smallVocabulary(_ count: Int) -> BytePairTokenizer {
        let rng = CounterRNG(seed: 11, stream: 0)
        var tokens = (0..<256).map { [UInt8($0)] }
        var merges: [BytePairTokenizer.Merge] = []
        var candidates = [97, 98, 99] as [Int32], known = Set(tokens), draw: UInt64 = 0
        while merges.count < count {
            let left = candidates[rng.integer(below: candidates.count, at: draw)]
            let right = candidates[rng.integer(below: candidates.count, at: draw + 1)]
            draw += 2
            let bytes = tokens[Int(left)] + tokens[Int(right)]
            guard bytes.count < 9, known.insert(bytes).inserted else { continue }
            merges.append(.init(left: left, right: right, result: Int32(tokens.count)))
            candidates.append(Int32(tokens.count))
            tokens.append(bytes)
        }
        return BytePairTokenizer(tokens: tokens + [[]], merges: merges, endOfDocument: Int32(tokens.count))
    }

    /// The definition, without any table: the lowest rank first, the leftmost of equals first.
    private func slowMerge(_ word: [UInt8], _ merges: [BytePairTokenizer.Merge]) -> [Int32] {
        var symbols = word.map { Int32($0) }
        while true {
            var best: (rank: Int, place: Int)?
            for (rank, merge) in merges.enumerated() {
                let place = symbols.indices.dropLast().first {
                    symbols[$0] == merge.left && symbols[$0 + 1] == merge.right
                }
                if let place {
                    best = (rank, place)
                    break
                }
            }
            guard let best else { return symbols }
            symbols.replaceSubrange(best.place...(best.place + 1), with: [merges[best.rank].result])
        }
    }

    @Test func scanQueueAndDefinitionAgree() {
        let tokenizer = Self.smallVocabulary(60)
        var pairs = PairTable(capacity: 60)
        for (rank, merge) in tokenizer.merges.enumerated() {
            pairs.insert(merge.left, merge.right, PairTable.value(rank: rank, result: merge.result))
        }
        for length in 0...200 {
            let rng = CounterRNG(seed: UInt64(length), stream: 9)
            let word = (0..<length).map { UInt8(97 + rng.integer(below: 3, at: UInt64($0))) }
            var scan = BytePairMerge(), queue = BytePairMerge()
            scan.symbols = word.map { Int32($0) }
            queue.symbols = scan.symbols
            scan.mergeByScan(pairs)
            queue.mergeByQueue(pairs)
            let expected = slowMerge(word, tokenizer.merges)
            #expect(scan.symbols == expected && queue.symbols == expected, "\(length) letters")
            #expect(tokenizer.encode(String(decoding: word, as: UTF8.self)) == expected)
        }
    }

    @Test func aMillionLettersInOneWordTakeNoQuadraticTime() {
        let tokenizer = Self.smallVocabulary(60)
        let text = [UInt8](repeating: 97, count: 1_000_000)
        var tokens: [Int32] = []
        tokenizer.encode(text.span, into: &tokens)
        #expect(tokenizer.decode(tokens) == text)
    }

    @Test func theJSONHoldsTheTokenizer() throws {
        let original = Self.smallVocabulary(60)
        let copy = try #require(try parseTokenizer(json: original.json, path: "t.json") as? BytePairTokenizer)
        #expect(copy.merges == original.merges && copy.style == original.style)
        #expect(copy.fingerprint == original.fingerprint && copy.json == original.json)
        #expect(copy.endOfDocument == 316 && copy.vocabularySize == 317)
        #expect(Self.smallVocabulary(59).fingerprint != original.fingerprint)
        let text = Array("abc \u{0}\u{7F}é\"\\ cab".utf8) + [0xFF, 0xC3]
        var tokens: [Int32] = []
        copy.encode(text.span, into: &tokens)
        #expect(copy.decode(tokens + [316]) == text)
        #expect(tokens.reduce(0) { $0 + copy.byteCount($1) } == text.count && copy.byteCount(316) == 0)
    }

    @Test func prefixSpacesAndOldMergesAreRead() throws {
        var json = String(decoding: Self.smallVocabulary(20).json, as: UTF8.self)
        json = json.replacing("\"add_prefix_space\":false", with: "\"add_prefix_space\":true")
        let spaced = try parseTokenizer(json: Array(json.utf8), path: "t.json")
        #expect(spaced.decode(spaced.encode("abc")) == Array(" abc".utf8))
        #expect(spaced.decode(spaced.encode(" abc")) == Array(" abc".utf8))
        let legacy = json.replacing(/\["([^"]+)","([^"]+)"\]/) { "\"\($0.output.1) \($0.output.2)\"" }
        #expect(legacy != json)
        let old = try parseTokenizer(json: Array(legacy.utf8), path: "t.json")
        #expect(old.fingerprint == spaced.fingerprint)
    }

    @Test func whatWouldChangeIdsIsRefused() throws {
        let json = String(decoding: Self.smallVocabulary(5).json, as: UTF8.self)
        let cases = [
            ("\"dropout\":null", "\"dropout\":0.1", "t.json: dropout is not supported"),
            ("\"normalizer\":null", "\"normalizer\":{\"type\":\"NFD\"}", "t.json: the normalizer NFD is not supported"),
            ("\"pre_tokenizer\":{\"type\":\"ByteLevel\"", "\"pre_tokenizer\":{\"type\":\"Split\"",
             "t.json: the pre_tokenizer Split is not supported"),
            ("\"type\":\"BPE\"", "\"type\":\"Unigram\"", "t.json: a model of type Unigram is not supported"),
            ("\"!\":33,", "", "t.json has no token for the byte 33"),
            ("\"!\":33,", "\"!\":34,", "t.json: two tokens have the id 34"),
            ("\"!\":33,", "\"!\":-1,", "t.json: the token `!` has the id -1, outside 0..<2^20"),
            ("\"!\":33,", "\"! !\":33,", "t.json: the token `! !` is not written in GPT-2's byte alphabet"),
            ("\"merges\":[", "\"merges\":[[\"q\",\"q\"],",
             "t.json: merge 0 (`q` and `q`) needs a token that the vocabulary does not have"),
            ("\"merges\":[", "\"merges\":[[\"q\"],", "t.json: merge 0 is not a pair of tokens"),
        ]
        for (old, new, expected) in cases {
            #expect(json.contains(old))
            let broken = json.replacing(old, with: new)
            let message = complaint { _ = try parseTokenizer(json: Array(broken.utf8), path: "t.json") }
            #expect(message?.hasPrefix(expected) == true, "\(new): \(message ?? "no error")")
        }
    }
}
