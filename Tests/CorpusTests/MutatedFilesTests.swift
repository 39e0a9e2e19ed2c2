import Base
import Corpus
import Foundation
import Mutation
import Testing

/// Data, tables and tokenizers that somebody, or a disk, has spoilt: each is taken or refused in one line that names
/// it, and none ends the process.
@Suite struct MutatedFilesTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// Mutates `whole` and lets `body` read each copy. Returns how many were refused.
    private func refusals(_ count: Int, seed: Int, of whole: [UInt8], more: [String] = [], name: String,
                          _ body: ([UInt8]) throws -> Void) throws -> Int {
        var mutation = Mutation(seed: seed, more: more), refused = 0
        for _ in 0..<count {
            let bytes = mutation.next(of: whole)
            do {
                try body(bytes)
            } catch let error as BadInput {
                refused += 1
                #expect(error.description.contains(name), "\(error)")
            }
        }
        return refused
    }

    /// With its checksum made right again, as somebody with bad intent would.
    @Test func preparedIndexes() throws {
        for index in 0..<9 { try folder.write("texts/\(index).txt", someText(40 * index + 7, seed: UInt64(index))) }
        _ = try Preparation(sources: [folder.path + "/texts"], folder: folder.path + "/out", threads: 1,
                            shardBytes: 300).run(ByteTokenizer()) { _ in }
        let file = folder.path + "/out/" + PreparedIndex.fileName
        let whole = try [UInt8](Data(contentsOf: URL(fileURLWithPath: file)))
        let refused = try refusals(1_500, seed: 4, of: Array(whole[16...]), name: folder.path) { body in
            let checksum = CRC32C.checksum(body)
            let head = Array(whole[..<12]) + (0..<4).map { UInt8(truncatingIfNeeded: checksum >> (8 * UInt32($0))) }
            try Data(head + body).write(to: URL(fileURLWithPath: file))
            _ = try Corpus(CorpusOptions(sources: [folder.path + "/out"], sequence: 16, seed: 1),
                           tokenizer: ByteTokenizer())
        }
        #expect(refused > 1_000)
    }

    @Test func tables() throws {
        let text = someText(2_000, seed: 1)
        try folder.write("d/docs.txt", text)
        let lines = (0..<20).map { "\($0 * 100)\t100\ttrain\tdocument \($0)\n" }
        let table = "offset\tlength\tsplit\tpath\n" + lines.joined()
        let refused = try refusals(1_500, seed: 5, of: Array(table.utf8), more: ["\ttrain\t", "valid", "\t\t"],
                                   name: folder.path) { bytes in
            try folder.write("d/docs.tsv", bytes)
            _ = try SourceDocuments([folder.path + "/d"], tokenizer: ByteTokenizer())
        }
        #expect(refused > 500)
    }

    @Test func mergesAndVocabularies() throws {
        let tokenizer = try #require(try bytePairs() as? BytePairTokenizer)
        let json = tokenizer.json
        var refused = try refusals(600, seed: 6, of: json, more: ["\"merges\":", "\"vocab\":", "\"id\":"],
                                   name: "t.json") { _ = try parseTokenizer(json: $0, path: "t.json") }
        #expect(refused > 200)
        let merges = "#version: 0.2\n" + ["h e", "he l", "l o", "hel lo", "w o", "r l"].joined(separator: "\n") + "\n"
        refused = try refusals(1_500, seed: 7, of: Array(merges.utf8), more: [" ", "  ", "\u{120}", "#"],
                               name: folder.path) { bytes in
            try folder.write("v/vocab.bpe", bytes)
            _ = try loadTokenizer(folder.path + "/v")
        }
        #expect(refused > 300)
    }

    private func bytePairs() throws -> any Tokenizer {
        try folder.write("words.txt", String(repeating: "hello world, low lower lowest; ", count: 40))
        return try BytePairTokenizer.trained(on: [folder.path + "/words.txt"], vocabularySize: 270)
    }
}
