import Base
import Corpus
import Foundation
import Testing

@Suite struct CorpusTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private func corpus(_ sources: [String], sequence: Int, seed: UInt64 = 1,
                        mask: Bool = true) throws -> Corpus {
        try Corpus(CorpusOptions(sources: sources, sequence: sequence, seed: seed, documentMask: mask),
                   tokenizer: ByteTokenizer())
    }

    /// Documents of many lengths with a table; the train stream is known from it.
    private func writeDocuments(_ lengths: [Int]) throws -> (source: String, train: [Int32]) {
        var text: [UInt8] = [], table = "offset\tlength\tsplit\tpath\n", train: [Int32] = []
        for (index, length) in lengths.enumerated() {
            let document = someText(length, seed: UInt64(index))
            let isValid = index % 7 == 3
            table += "\(text.count)\t\(length)\t\(isValid ? "valid" : "train")\tdocument \(index)\n"
            text += document
            if !isValid { train += [256] + document.map { Int32($0) } }
        }
        try folder.write("docs.txt", text)
        try folder.write("docs.tsv", table)
        return (folder.path, train + [256])
    }

    /// Each training token once as a target, with its predecessor as input, in each of three epochs and for
    /// sequences shorter and longer than documents.
    @Test func anEpochCoversEveryTokenOnce() throws {
        let (source, tokens) = try writeDocuments([1, 5, 64, 13, 9, 2, 1, 1, 40, 7, 120, 3])
        for sequence in [1, 2, 7, 16, 33, tokens.count - 1] {
            let corpus = try corpus([source], sequence: sequence)
            #expect(corpus.trainTokenCount == tokens.count - 1)
            #expect(corpus.rowsPerEpoch == (tokens.count - 2) / sequence + 1)
            let batch = Batch(rows: 1, sequence: sequence)
            // A row is recognised by its contents; equal contents are counted.
            var expected: [[Int32]: Int] = [:]
            for begin in stride(from: 0, to: tokens.count - 1, by: sequence) {
                expected[Array(tokens[begin..<min(begin + sequence + 1, tokens.count)]), default: 0] += 1
            }
            for epoch in 0..<3 {
                var seen: [[Int32]: Int] = [:]
                for row in 0..<corpus.rowsPerEpoch {
                    let number = epoch * corpus.rowsPerEpoch + row
                    corpus.fill(batch, rows: number..<(number + 1))
                    let count = batch.targetCount
                    #expect(batch.targets[count...].allSatisfy { $0 == -1 })
                    #expect(batch.inputs[count...].allSatisfy { $0 == 256 })
                    seen[[batch.inputs[0]] + batch.targets[..<count], default: 0] += 1
                    #expect(Array(batch.inputs[1..<count]) == Array(batch.targets[..<(count - 1)]))
                }
                #expect(seen == expected, "sequence \(sequence), epoch \(epoch)")
            }
        }
    }

    @Test func epochsAndSeedsHaveTheirOwnOrder() throws {
        let (source, _) = try writeDocuments(Array(repeating: 50, count: 20))
        func order(_ seed: UInt64, _ epoch: Int) throws -> [Int32] {
            let corpus = try corpus([source], sequence: 8, seed: seed)
            let rows = corpus.rowsPerEpoch
            let batch = Batch(rows: rows, sequence: 8)
            corpus.fill(batch, rows: (epoch * rows)..<((epoch + 1) * rows))
            return batch.targets
        }
        #expect(try order(1, 0) == order(1, 0))
        #expect(try order(1, 0) != order(1, 1))
        #expect(try order(1, 0) != order(2, 0))
    }

    /// What W ranks read together is what one rank reads, for every W and across the end of an epoch.
    @Test func rowsDoNotDependOnHowManyAreFilledAtOnce() throws {
        let (source, _) = try writeDocuments([30, 31, 32, 33, 34])
        let corpus = try corpus([source], sequence: 16)
        #expect(corpus.rowsPerEpoch < 24)
        let whole = Batch(rows: 24, sequence: 16), part = Batch(rows: 24, sequence: 16)
        corpus.fill(whole, rows: 0..<24)
        for ranks in [1, 2, 3, 5, 8, 24] {
            var inputs: [Int32] = [], targets: [Int32] = [], starts: [Int32] = [0], count = 0
            for rank in 0..<ranks {
                corpus.fill(part, rows: (24 * rank / ranks)..<(24 * (rank + 1) / ranks))
                starts += part.documentStarts[1..<part.documentStartCount].map { $0 + Int32(inputs.count) }
                inputs += part.inputs[..<part.tokenCount]
                targets += part.targets[..<part.tokenCount]
                count += part.targetCount
            }
            #expect(inputs == whole.inputs && targets == whole.targets && count == whole.targetCount)
            #expect(starts == Array(whole.documentStarts[..<whole.documentStartCount]))
        }
    }

    @Test func segmentsBeginAtRowsAndDocuments() throws {
        let (source, _) = try writeDocuments([3, 1, 20, 4, 2, 9, 5, 1, 1, 1])
        for mask in [true, false] {
            let corpus = try corpus([source], sequence: 10, mask: mask)
            let rows = corpus.rowsPerEpoch
            let batch = Batch(rows: rows, sequence: 10)
            corpus.fill(batch, rows: 0..<rows)
            var expected: [Int32] = []
            var wasPadding = false
            for position in 0..<batch.tokenCount {
                let isPadding = batch.targets[position] == -1
                let begins = isPadding ? !wasPadding : batch.inputs[position] == 256
                if position % 10 == 0 || (mask && begins) { expected.append(Int32(position)) }
                wasPadding = isPadding
            }
            expected.append(Int32(batch.tokenCount))
            #expect(Array(batch.documentStarts[..<batch.documentStartCount]) == expected)
            #expect(batch.targetCount == batch.targets.count { $0 != -1 })
        }
    }

    @Test func validationIsReadInOrder() throws {
        let (source, _) = try writeDocuments([10, 10, 10, 11, 10, 10, 10, 10, 10, 10, 12])
        let corpus = try corpus([source], sequence: 9)
        #expect(corpus.validationDocumentCount == 2)
        #expect(corpus.validationByteCount == 23)
        #expect(corpus.validationTokenCount == 25 && corpus.validationRowCount == 3)
        let batch = Batch(rows: 3, sequence: 9)
        corpus.fillValidation(batch, rows: 0..<3)
        let documents = [someText(11, seed: 3), someText(12, seed: 10)]
        let expected = documents.flatMap { document -> [Int32] in [256] + document.map { Int32($0) } } + [256]
        #expect(Array(batch.inputs[..<25]) == Array(expected.dropLast()))
        #expect(Array(batch.targets) == Array(expected.dropFirst()) + [-1, -1])
        #expect(batch.targets.count { $0 >= 0 && $0 != 256 } == corpus.validationByteCount)
    }

    @Test func aSingleTextIsCutAtNineTenths() throws {
        let text = someText(1_001, seed: 5)
        let corpus = try corpus([folder.write("input.txt", text)], sequence: 100)
        #expect(corpus.trainTokenCount == 901 && corpus.validationByteCount == 101)
        let batch = Batch(rows: 2, sequence: 100)
        corpus.fillValidation(batch, rows: 0..<2)
        #expect(Array(batch.inputs[1...101]) == text[900...].map { Int32($0) })
    }

    @Test func inputThatCannotBeUsedSaysSo() throws {
        let short = try folder.write("short.txt", "0123456789")
        #expect(complaint { _ = try corpus([short], sequence: 11) }
            == "a sequence of 11 is longer than the data: 10 tokens are for training; "
            + "lower training.seq_len to 10 or less, or add data")
        #expect(try corpus([short], sequence: 10).rowsPerEpoch == 1)
        try folder.write("v/docs.txt", "text")
        try folder.write("v/docs.tsv", "offset\tlength\tsplit\tpath\n0\t4\tvalid\ta\n")
        #expect(complaint { _ = try corpus([folder.path + "/v"], sequence: 1) }
            == "nothing to train on in \(folder.path)/v: every document is marked valid or test")
    }

    @Test(.enabled(if: realData != nil, "SKEIN_DATA is not set"))
    func realCorporaHaveTheirPublishedSizes() throws {
        let sizes = [("swift-evolution", 545, 9_411_642, 30, 630_261), ("peps", 381, 7_184_063, 28, 720_329),
                     ("tldr", 4_380, 2_674_143, 233, 146_904)]
        for (name, documents, bytes, validDocuments, validBytes) in sizes {
            let corpus = try corpus([realData! + "/" + name], sequence: 1024)
            #expect(corpus.trainDocumentCount == documents && corpus.trainTokenCount == bytes + documents)
            #expect(corpus.validationDocumentCount == validDocuments && corpus.validationByteCount == validBytes)
        }
        let mix = try corpus(sizes.map { realData! + "/" + $0.0 }, sequence: 8192)
        #expect(mix.trainDocumentCount == 5_306 && mix.trainTokenCount == 19_269_848 + 5_306)
        let stream = try corpus([realData! + "/tinyshakespeare/input.txt"], sequence: 256)
        #expect(stream.trainTokenCount == 1_003_855 && stream.validationByteCount == 1_115_394 - 1_003_854)
        let wikitext = complaint { _ = try corpus([realData! + "/wikitext-2"], sequence: 256) }
        #expect(wikitext?.contains("every document is marked valid or test") == true)
    }
}
