import Base
import Corpus
import Foundation
import Testing

@Suite struct PreparationTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private struct Stop: Error {}

    private static func bpe(_ source: String) throws -> any Tokenizer {
        try BytePairTokenizer.trained(on: [source], vocabularySize: 300)
    }

    /// A source of many documents in several formats: a table, lines, and plain files.
    private func writeSources() throws -> [String] {
        var text: [UInt8] = [], table = "offset\tlength\tsplit\tpath\n"
        for (index, length) in someLengths(60, capacity: 300, seed: 3).enumerated() {
            let split = index % 7 == 3 ? "valid" : index % 11 == 5 ? "test" : "train"
            table += "\(text.count)\t\(length)\t\(split)\tdocument \(index)\n"
            text += someText(length, seed: UInt64(index))
        }
        try folder.write("a/docs.txt", text)
        try folder.write("a/docs.tsv", table)
        let lines = (0..<50).map { "{\"text\":\"line \($0) of the lines\"}\n" }.joined()
        try folder.write("b/lines.jsonl", lines)
        for index in 0..<12 { try folder.write("c/\(index).txt", someText(40 * index + 7, seed: 90 + UInt64(index))) }
        return ["a", "b/lines.jsonl", "c"].map { folder.path + "/" + $0 }
    }

    @discardableResult
    private func prepare(_ sources: [String], _ out: String, _ tokenizer: any Tokenizer = ByteTokenizer(),
                         threads: Int = 1, shardBytes: Int = 500, stopAfter: Int = .max) throws -> PreparationSummary {
        let preparation = Preparation(sources: sources, folder: folder.path + "/" + out, threads: threads,
                                      shardBytes: shardBytes)
        return try preparation.run(tokenizer) { if $0.phase == .writing, $0.shards == stopAfter { throw Stop() } }
    }

    private func contents(_ out: String) throws -> [String: Data] {
        let path = folder.path + "/" + out
        return try FileManager.default.contentsOfDirectory(atPath: path).reduce(into: [:]) { files, name in
            files[name] = try Data(contentsOf: URL(fileURLWithPath: path + "/" + name))
        }
    }

    /// A corpus of the prepared data is the corpus of the sources: tokens, documents, splits, fingerprint.
    @Test(arguments: [false, true]) func preparedDataAreTheSources(bpe: Bool) throws {
        let sources = try writeSources(), tokenizer = try bpe ? Self.bpe(sources[0]) : ByteTokenizer()
        let summary = try prepare(sources, "out", tokenizer)
        let out = folder.path + "/out"
        func corpus(_ sources: [String]) throws -> Corpus {
            try Corpus(CorpusOptions(sources: sources, sequence: 32, seed: 4, layout: .packed(.bestFit)),
                       tokenizer: tokenizer)
        }
        let plain = try corpus(sources), prepared = try corpus([out])
        #expect(summary.documents == 122 && summary.shards > 10 && summary.keptShards == 0)
        #expect(prepared.fingerprint == plain.fingerprint)
        #expect(prepared.validationByteCount == plain.validationByteCount)
        #expect(prepared.trainDocumentCount == plain.trainDocumentCount && prepared.rowsPerEpoch == plain.rowsPerEpoch)
        #expect(prepared.validationDocumentCount == plain.validationDocumentCount)
        for (left, right) in [(plain.train, prepared.train), (plain.validation, prepared.validation)] {
            #expect(left.starts == right.starts)
            var tokens = [[Int32]](repeating: Array(repeating: -1, count: left.length + 1), count: 2)
            left.copy(0..<(left.length + 1), into: &tokens[0], at: 0)
            right.copy(0..<(left.length + 1), into: &tokens[1], at: 0)
            #expect(tokens[0] == tokens[1])
        }
        let read = try loadTokenizer(out)
        #expect(read.fingerprint == tokenizer.fingerprint)
        let (shards, tokens) = try verifyPrepared(out, tokenizer: read)
        #expect(shards == summary.shards && tokens == summary.tokens + summary.documents)
        // Beside other sources they are still the same documents.
        let extra = try folder.write("extra.txt", someText(99, seed: 77))
        #expect(try corpus([out, extra]).trainTokenCount == corpus(sources + [extra]).trainTokenCount)
    }

    @Test func bytesDoNotDependOnThreadsOrFolders() throws {
        let sources = try writeSources(), tokenizer = try Self.bpe(sources[0])
        try prepare(sources, "one", tokenizer)
        let one = try contents("one")
        for threads in [2, 3, 8] {
            try prepare(sources, "out\(threads)", tokenizer, threads: threads)
            #expect(try contents("out\(threads)") == one)
        }
        for name in ["a", "b", "c"] {
            try FileManager.default.createDirectory(atPath: folder.path + "/moved", withIntermediateDirectories: true)
            try FileManager.default.copyItem(atPath: folder.path + "/" + name, toPath: folder.path + "/moved/" + name)
        }
        try prepare(sources.map { $0.replacing(folder.path, with: folder.path + "/moved") }, "moved-out", tokenizer)
        #expect(try contents("moved-out") == one)
    }

    /// Interrupted after each shard, with half a shard left behind, and gone on with: the same bytes, and no finished
    /// shard written again.
    @Test func anInterruptionLosesNothing() throws {
        let sources = try writeSources(), tokenizer = try Self.bpe(sources[0])
        let whole = try prepare(sources, "whole", tokenizer), expected = try contents("whole")
        for stop in 1..<whole.shards {
            let out = "stop\(stop)"
            #expect(throws: Stop.self) { try prepare(sources, out, tokenizer, stopAfter: stop) }
            #expect(try contents(out).keys.count { $0.hasPrefix("tokens-") } == stop)
            let path = folder.path + "/" + out
            let unfinished = complaint { _ = try SourceDocuments([path], tokenizer: tokenizer) }
            #expect(unfinished?.hasPrefix("\(path) is not finished: it has shards but no index.skein") == true)
            try folder.write("\(out)/tokens-000\(stop < 10 ? "0" : "")\(stop).bin.tmp", [1, 2, 3])
            let summary = try prepare(sources, out, tokenizer, threads: 2)
            #expect(summary.keptShards == stop && summary.shards == whole.shards)
            #expect(try contents(out) == expected)
        }
        #expect(try prepare(sources, "whole", tokenizer).keptShards == whole.shards)
        #expect(try contents("whole") == expected)
    }

    /// A damaged shard is not kept: each byte of a small one flipped, and every truncation.
    @Test func damagedShardsAreMadeAgain() throws {
        let source = try folder.write("text.txt", someText(60, seed: 1)), more = try folder.write("more.txt", "more")
        try prepare([source, more], "out", shardBytes: 10)
        let expected = try contents("out"), shard = try #require(expected["tokens-00000.bin"])
        let places = Array(0..<36) + Array(1_024..<shard.count)
        for place in places {
            var broken = Array(shard)
            broken[place] ^= 1
            try folder.write("out/tokens-00000.bin", broken)
            #expect(try prepare([source, more], "out", shardBytes: 10).keptShards == 1, "byte \(place)")
            #expect(try contents("out") == expected)
        }
        for count in stride(from: 0, to: shard.count, by: 37) {
            try folder.write("out/tokens-00000.bin", Array(shard[..<count]))
            #expect(try prepare([source, more], "out", shardBytes: 10).keptShards == 1)
            #expect(try contents("out") == expected)
        }
        // Other sources: nothing of these is kept, nothing is left over.
        #expect(try prepare([more, source], "out", shardBytes: 1_000).keptShards == 0)
        #expect(try contents("out").keys.count { $0.hasPrefix("tokens-") } == 1)
    }

    /// A single document is cut as a corpus of the text cuts it, also where others are for testing.
    @Test func aSingleDocumentIsCut() throws {
        let text = someText(500, seed: 8)
        let single = try folder.write("single.txt", text)
        try folder.write("t/docs.txt", text + someText(30, seed: 2))
        try folder.write("t/docs.tsv", "offset\tlength\tsplit\tpath\n0\t500\ttrain\ta\n500\t30\ttest\tb\n")
        for (number, source) in [single, folder.path + "/t"].enumerated() {
            try prepare([source], "out\(number)", shardBytes: 100)
            let options = CorpusOptions(sources: [source], sequence: 16, seed: 0)
            let plain = try Corpus(options, tokenizer: ByteTokenizer())
            var changed = options
            changed.sources = ["\(folder.path)/out\(number)"]
            let prepared = try Corpus(changed, tokenizer: ByteTokenizer())
            #expect(prepared.trainTokenCount == plain.trainTokenCount && plain.trainTokenCount == 451)
            #expect(prepared.validationByteCount == plain.validationByteCount && plain.validationByteCount == 50)
        }
    }

    /// Every byte of the index flipped: refused, and the index named.
    @Test func aDamagedIndexIsNamed() throws {
        let source = try folder.write("text.txt", someText(200, seed: 1)), more = try folder.write("more.txt", "more")
        try prepare([source, more], "out", shardBytes: 50)
        let out = folder.path + "/out", index = Array(try #require(try contents("out")["index.skein"]))
        func message() -> String? { complaint { _ = try SourceDocuments([out], tokenizer: ByteTokenizer()) } }
        #expect(message() == nil)
        for place in index.indices {
            var broken = index
            broken[place] ^= 0x10
            try folder.write("out/index.skein", broken)
            #expect(message()?.hasPrefix("\(out)/index.skein") == true, "byte \(place): \(message() ?? "no error")")
        }
        for count in 0..<index.count {
            try folder.write("out/index.skein", Array(index[..<count]))
            #expect(message()?.hasPrefix("\(out)/index.skein") == true, "\(count) bytes")
        }
    }

    @Test func partsThatDoNotBelongTogetherAreNamed() throws {
        let source = try folder.write("text.txt", someText(200, seed: 1)), more = try folder.write("more.txt", "more")
        try prepare([source, more], "out", shardBytes: 50)
        try prepare([more, source], "other", shardBytes: 50)
        let out = folder.path + "/out", shard = try #require(try contents("out")["tokens-00001.bin"])
        func message(_ tokenizer: any Tokenizer = ByteTokenizer()) -> String? {
            complaint { _ = try SourceDocuments([out], tokenizer: tokenizer) }
        }
        try folder.write("out/tokens-00001.bin", Array(try #require(try contents("other")["tokens-00000.bin"])))
        #expect(message()?.hasPrefix("\(out)/tokens-00001.bin does not belong to its index (fingerprint ") == true)
        try folder.write("out/tokens-00001.bin", Array(shard.dropLast(2)))
        #expect(message()?.hasPrefix("\(out)/tokens-00001.bin: its header says 5 tokens, which take 1034 bytes, but it "
            + "has 1032 bytes") == true)
        try FileManager.default.removeItem(atPath: out + "/tokens-00001.bin")
        #expect(message() == "cannot open \(out)/tokens-00001.bin: No such file or directory")
        try folder.write("out/tokens-00001.bin", Array(shard))
        #expect(message() == nil)
        let other = try Self.bpe(folder.write("long.txt", someText(5_000, seed: 6)))
        #expect(message(other)?.hasPrefix("\(out) was prepared with another tokenizer (fingerprint ") == true)
        #expect(message(other)?.hasSuffix("set data.tokenizer to \(out)") == true)
        #expect(complaint { _ = try SourceDocuments([out]) }?.contains("holds tokens") == true)
    }

    /// Tokens are not looked at when data are opened, so damage shows where it is read, and reaches no model.
    @Test func damagedTokensAreNoticed() throws {
        let source = try folder.write("text.txt", someText(200, seed: 1)), more = try folder.write("more.txt", "more")
        try prepare([source, more], "out")
        let out = folder.path + "/out"
        var shard = Array(try #require(try contents("out")["tokens-00000.bin"]))
        shard[1_024 + 2 * 20 + 1] = 0xFF
        try folder.write("out/tokens-00000.bin", shard)
        let data = try SourceDocuments([out], tokenizer: ByteTokenizer()), file = data.tokenFiles[0]
        let stream = TokenStream([.init(storage: 0, offset: 0, count: file.count)], storage: [.file(file)],
                                 endOfDocument: 256)
        var tokens = [Int32](repeating: 0, count: file.count + 2)
        stream.copy(0..<16, into: &tokens, at: 0)
        #expect(file.damage == nil)
        stream.copy(0..<stream.length, into: &tokens, at: 0)
        #expect(file.damage?.index == 20 && tokens[21] == 0 && tokens.allSatisfy { (0..<257).contains($0) })
        let message = complaint { _ = try verifyPrepared(out, tokenizer: ByteTokenizer()) }
        #expect(message?.hasPrefix("\(out)/tokens-00000.bin: its tokens, from byte 1024 on, have the ") == true)
    }

    @Test func foldersAndSourcesThatCannotBeUsedSaySo() throws {
        let source = try folder.write("text.txt", someText(200, seed: 1))
        try folder.write("mine/notes.md", "mine")
        #expect(complaint { try prepare([source], "mine") }
            == "\(folder.path)/mine holds notes.md, which is no prepared data; name a new folder")
        #expect(complaint { try prepare([source], "no/such") }
            == "cannot create the folder \(folder.path)/no/such: No such file or directory")
        #expect(complaint { try prepare([source], "text.txt") }?.contains("\(folder.path)/text.txt") == true)
        let tokens = try folder.write("t.bin", [1, 0, 2, 0])
        #expect(complaint { try prepare([tokens], "out") }
            == "\(tokens) holds tokens already: training reads it as it is; name texts")
        try prepare([source], "done")
        #expect(complaint { try prepare([folder.path + "/done"], "out") }
            == "\(folder.path)/done is prepared already; name the sources that it was made of")
    }

    @Test func aSourceThatVanishedIsNamed() throws {
        for name in ["v/a.txt", "v/b.jsonl", "v/c.txt"] { try folder.write(name, "{\"text\":\"some text\"}") }
        let found = try listing([folder.path + "/v"])
        for file in found[0].files {
            let bytes = try Data(contentsOf: URL(fileURLWithPath: file.path))
            try FileManager.default.removeItem(atPath: file.path)
            #expect(complaint { _ = try SourceDocuments(listed: found) } == "\(file.path) was there when the data was "
                + "listed, and is gone; leave the data alone while it is read, then start again")
            try bytes.write(to: URL(fileURLWithPath: file.path))
        }
        #expect(try SourceDocuments(listed: found).documents.count == 3)
    }

    /// Before anything is read or made: the index could not number them.
    @Test func tooManySourcesAreRefused() throws {
        try folder.write("a.txt", "a text")
        let many = [String](repeating: folder.path + "/a.txt", count: PreparedIndex.mostSources + 1)
        #expect(throws: BadInput("65,537 sources, 65,536 are the most; name the folders that they are in")) {
            try prepare(many, "out")
        }
        #expect(throws: (any Error).self) { try contents("out") }
    }
}
