import Base
import Corpus
import Testing

@Suite struct BytePairTrainingTests {
    /// The definition: count all pairs anew in each round.
    private func slowMerges(_ words: [[UInt8]], rounds: Int) -> [BytePairTokenizer.Merge] {
        var words = words.map { $0.map { Int32($0) } }
        var tokens = (0..<256).map { [UInt8($0)] }, merges: [BytePairTokenizer.Merge] = []
        while merges.count < rounds {
            var counts: [[Int32]: Int] = [:]
            for word in words {
                for place in word.indices.dropFirst() { counts[[word[place - 1], word[place]], default: 0] += 1 }
            }
            let best = counts
                .filter { $0.value > 1 && !tokens.contains(tokens[Int($0.key[0])] + tokens[Int($0.key[1])]) }
                .min { ($1.value, $0.key[0], $0.key[1]) < ($0.value, $1.key[0], $1.key[1]) }
            guard let pair = best?.key else { return merges }
            let id = Int32(tokens.count)
            tokens.append(tokens[Int(pair[0])] + tokens[Int(pair[1])])
            merges.append(.init(left: pair[0], right: pair[1], result: id))
            words = words.map { word in
                var result: [Int32] = []
                for symbol in word {
                    // `result` ends in an unjoined left half only if the symbol before was one.
                    if symbol == pair[1], result.last == pair[0] { result[result.count - 1] = id } else {
                        result.append(symbol)
                    }
                }
                return result
            }
        }
        return merges
    }

    @Test func learnsWhatCountingLearns() {
        let classes = WordSplitter.classes
        for seed in 0..<8 as Range<UInt64> {
            let text = someText(1_500, seed: seed)
            var counts = WordCounts(), words: [[UInt8]] = [], begin = 0
            counts.add(text.span, classes: classes.span)
            while begin < text.count {
                let end = WordSplitter.wordEnd(text.span, from: begin, classes: classes.span)
                words.append(Array(text[begin..<end]))
                begin = end
            }
            #expect(counts.counts.reduce(0, +) == words.count)
            var training = BytePairTraining(counts)
            for _ in 0..<40 { _ = training.learnOne() }
            #expect(training.merges == slowMerges(words, rounds: 40))
            #expect(training.merges.count > 20)
        }
    }

    /// More distinct words than the first table holds.
    @Test func countsManyWords() {
        let classes = WordSplitter.classes
        var counts = WordCounts()
        let text = Array((0..<30_000).map { " \($0 % 10_000)" }.joined().utf8)
        counts.add(text.span, classes: classes.span)
        #expect(counts.counts == Array(repeating: 3, count: 10_000))
        #expect(Array(counts.word(9_999)) == Array(" 9999".utf8))
    }

    /// An endless word is looked for once, and counted in short pieces: neither this nor any later merge, which walks
    /// the pieces that have its pair, is quadratic in it.
    @Test func oneEndlessWordIsLinear() {
        let classes = WordSplitter.classes
        for (letter, width) in [("a", 1), ("\u{E9}", 2), ("\u{4E2D}", 3), ("\u{10400}", 4)] {
            let text = Array(String(repeating: letter, count: 200_000).utf8)
            var counts = WordCounts()
            counts.add(text.span, classes: classes.span)
            #expect(counts.searches == 1)
            #expect(counts.counts.reduce(0, +) <= text.count / (WordCounts.longest - 3) + 1)
            for word in counts.counts.indices {
                #expect(counts.word(word).count <= WordCounts.longest && counts.word(word).count % width == 0)
            }
        }
    }

    @Test func aTrainedTokenizerCompressesAndIsWhole() throws {
        let folder = try TemporaryFolder()
        let text = Array(String(repeating: "the cat and the dog and the bird; ", count: 40).utf8)
        let path = try folder.write("a.txt", text)
        let trained = try BytePairTokenizer.trained(on: [path], vocabularySize: 270)
        #expect(trained.vocabularySize == 270 && trained.endOfDocument == 269 && trained.merges.count == 13)
        var tokens: [Int32] = []
        trained.encode(text.span, into: &tokens)
        #expect(tokens.count < text.count / 2 && trained.decode(tokens) == text)
        let again = try parseTokenizer(json: trained.json, path: "t.json")
        #expect(again.fingerprint == trained.fingerprint && again.encode("the cat") == trained.encode("the cat"))
        let message = complaint { _ = try BytePairTokenizer.trained(on: [path], vocabularySize: 5_000) }
        #expect(message?.hasPrefix("the data has pairs for ") == true)
        #expect(complaint { _ = try BytePairTokenizer.trained(on: [path], vocabularySize: 256) }
            == "a vocabulary of 256 tokens: choose 257 to 65536")
    }
}
