import Base
import Corpus
import Testing

/// Exact cover of real texts, through the batches that training gets.
@Suite(.enabled(if: realData != nil, "SKEIN_DATA is not set"))
struct RealCoverTests {
    private static let equal = Decomposition.Mode.quota([Double](repeating: 1, count: 9))

    static let layouts: [RowLayout] = PackingMethod.allCases.map { .packed($0) }
        + [.greedy, .random, equal].map { .decomposed(Decomposition(minimum: 5, maximum: 13, mode: $0, seed: 1)) }

    /// In an epoch each token is a target once, after the token that precedes it in its text, and each document's end
    /// is learnt. Pairs of tokens are counted, for a batch does not say where its tokens come from.
    @Test(arguments: layouts) func eachTokenOfTheMixIsATargetOnce(layout: RowLayout) throws {
        let sources = ["swift-evolution", "peps", "tldr"].map { realData! + "/" + $0 }
        let corpus = try Corpus(CorpusOptions(sources: sources, sequence: 8_192, seed: 3, layout: layout),
                                tokenizer: ByteTokenizer())
        let stream = corpus.train
        var tokens = [Int32](repeating: 0, count: stream.length + 1)
        stream.copy(0..<(stream.length + 1), into: &tokens, at: 0)
        var pairs = [Int](repeating: 0, count: 257 * 257)
        for index in 0..<stream.length { pairs[Int(tokens[index]) * 257 + Int(tokens[index + 1])] += 1 }
        var targets = 0, ends = 0
        for bucket in 0..<corpus.bucketCount {
            let sequence = corpus.sequence(ofBucket: bucket), rows = corpus.rowsPerEpoch(inBucket: bucket)
            let size = max(1, 65_536 / sequence), batch = Batch(rows: size, sequence: sequence)
            for first in stride(from: 0, to: rows, by: size) {
                corpus.fill(batch, bucket: bucket, rows: first..<min(rows, first + size))
                let (inputs, wanted) = (batch.inputs, batch.targets)
                for index in 0..<batch.tokenCount where wanted[index] >= 0 {
                    pairs[Int(inputs[index]) * 257 + Int(wanted[index])] -= 1
                    targets += 1
                    ends += wanted[index] == 256 ? 1 : 0
                }
            }
        }
        #expect(pairs.allSatisfy { $0 == 0 })
        #expect(targets == stream.length && ends == corpus.trainDocumentCount)
    }
}
