import Base
import Compression
import Corpus
import Foundation
import Testing

/// What folders of real life hold: nothing goes missing without a word.
@Suite struct PassedOverTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func read(_ separator: String = "") throws -> SourceDocuments {
        try SourceDocuments([folder.path], tokenizer: ByteTokenizer(), separator: separator)
    }

    private func texts(_ documents: SourceDocuments) -> [String] {
        documents.documents.map { String(decoding: documents.text[$0.range], as: UTF8.self) }
    }

    private func zstd(_ text: String) -> [UInt8] {
        var output: [UInt8] = []
        ZstdCompressor().compress(Array(text.utf8).span, into: &output, ends: true)
        return output
    }

    /// JSON lines by all their names, in both cases, compressed or not.
    @Test func jsonLines() throws {
        let lines = "{\"text\":\"one\"}\r\n\r\n{\"text\":\"two\"}\n"
        for name in ["a.jsonl", "b.ndjson", "c.json", "D.JSONL", "e.Json"] { try folder.write(name, lines) }
        try folder.write("f.json.zst", zstd(lines))
        try folder.write("g.NDJSON.ZST", zstd("\u{FEFF}" + lines))
        let found = try read()
        #expect(texts(found) == (0..<7).flatMap { _ in ["one", "two"] })
        #expect(found.notes.lines.isEmpty)
    }

    /// A byte order mark is no text, whatever the format.
    @Test func marks() throws {
        try folder.write("a.txt", "\u{FEFF}one")
        try folder.write("b.jsonl", "\u{FEFF}{\"text\":\"two\"}\r\n")
        try folder.write("c.txt.zst", zstd("\u{FEFF}three"))
        #expect(texts(try read()) == ["one", "two", "three"])
        let table = try TemporaryFolder()
        try table.write("docs.txt", "onetwo")
        try table.write("docs.tsv", "\u{FEFF}offset\tlength\tsplit\tpath\r\n0\t3\ttrain\ta\r\n3\t3\tvalid\tb\r\n")
        let found = try SourceDocuments([table.path])
        #expect(texts(found) == ["one", "two"] && found.documents.map(\.split) == [.train, .valid])
    }

    /// Each kind is counted, and its first named; in a folder none of them is an error.
    @Test func kinds() throws {
        try folder.write("good.txt", "text")
        for name in ["u1.txt", "u2.txt"] { try folder.write(name, [0xFF, 0xFE, 0x61, 0x00]) }
        try folder.write("latin.txt", Array("caf".utf8) + [0xE9])
        try folder.write("picture.png", [0x89, 0x50, 0x00, 0xFF])
        try folder.write("empty.txt", "")
        try folder.write("empty.jsonl", "")
        try folder.write("empty.txt.zst", zstd(""))
        try folder.write("settings.json", "{\n  \"text\": \"x\"\n}\n")
        let lines = try read().notes.lines
        #expect(texts(try read()) == ["text"])
        let starts = ["2 files in UTF-16 passed over", "1 file not in UTF-8 passed over",
                      "1 file with zero bytes passed over", "3 files without a byte passed over",
                      "1 file of JSON passed over"]
        #expect(lines.count == starts.count)
        for (line, start) in zip(lines, starts) { #expect(line.hasPrefix(start), "\(line)") }
        #expect(lines[0].hasSuffix("the first: \(folder.path)/u1.txt"))
        // By its own name each is an error.
        for name in ["u1.txt", "latin.txt", "empty.txt", "empty.jsonl", "settings.json", "empty.txt.zst"] {
            #expect(complaint { _ = try SourceDocuments([folder.path + "/" + name]) } != nil, "\(name)")
        }
    }

    /// What a hub's cache looks like: links to blobs; and a loop, a link twice, and one to nothing.
    @Test func links() throws {
        try folder.write("blobs/1", "{\"text\":\"one\"}\n")
        try folder.write("blobs/2", "{\"text\":\"two\"}\n")
        let manager = FileManager.default
        let snapshot = try TemporaryFolder()
        for (name, target) in [("a.jsonl", "blobs/1"), ("b.jsonl", "blobs/2"), ("c.jsonl", "blobs/2"),
                               ("gone.jsonl", "blobs/3"), ("blobs", "blobs")] {
            try manager.createSymbolicLink(atPath: snapshot.path + "/" + name,
                                           withDestinationPath: folder.path + "/" + target)
        }
        try manager.createSymbolicLink(atPath: snapshot.path + "/loop", withDestinationPath: snapshot.path)
        let found = try SourceDocuments([snapshot.path])
        #expect(texts(found) == ["one", "two"])
        let lines = found.notes.lines
        #expect(lines.contains { $0.hasPrefix("4 files or folders reached a second time") }, "\(lines)")
        #expect(lines.contains { $0.hasPrefix("1 file passed over, being links to nothing") }, "\(lines)")
    }

    /// "val" is a word of its own in the name of a file that is held out.
    @Test(arguments: [("val.bin", true), ("fineweb_val_000001.bin", true), ("my-validation.bin", true),
                      ("retrieval.bin", false), ("interval_train.bin", false), ("evaluation.bin", false)])
    func heldOutByName(_ name: String, _ isHeldOut: Bool) throws {
        let path = try folder.write(name, (0..<200).map { $0 % 2 == 0 ? 1 : 0 })
        let found = try SourceDocuments([path], tokenizer: ByteTokenizer())
        #expect(found.documents.allSatisfy { ($0.split == .valid) == isHeldOut })
        #expect(found.notes.lines.contains { $0.contains("held out") } == isHeldOut)
    }

    /// Written-out separators are counted, and split where that is asked for.
    @Test func separators() throws {
        let story = "A cat sat.\n<|endoftext|>\n"
        try folder.write("stories.txt", String(repeating: story, count: 9))
        #expect(try read().notes.lines.isEmpty)
        try folder.write("stories.txt", String(repeating: story, count: 600))
        try folder.write("lines.jsonl", "{\"text\":\"x<|endoftext|>y\"}\n")
        let whole = try read()
        #expect(whole.documents.count == 2 && whole.notes.lines.count == 1)
        #expect(whole.notes.lines[0].hasPrefix("<|endoftext|> stands 601 times"), "\(whole.notes.lines)")
        let split = try read("<|endoftext|>")
        #expect(split.documents.count == 602 && split.notes.lines.isEmpty)
        #expect(texts(split)[...3] == ["x", "y", "A cat sat.\n", "\nA cat sat.\n"])
        #expect(split.fingerprint != whole.fingerprint)
        #expect(try read("no such bytes").fingerprint != whole.fingerprint)
        #expect(Set(split.documents.map(\.hash)).count == 602)
    }

    /// Spoilt files are refused or read, and end nothing.
    @Test func mutations() throws {
        let lines = Array("{\"text\":\"one \\u00e9\",\"n\":[1,{\"a\":2}]}\n{\"text\":\"two\"}\n".utf8)
        let table = Array("offset\tlength\tsplit\tpath\n0\t3\ttrain\ta\n3\t3\tvalid\tb\n".utf8)
        let rng = CounterRNG(seed: 9, stream: 0)
        var refused = 0
        for round in 0..<1_500 {
            func spoilt(_ bytes: [UInt8], _ salt: UInt64) -> [UInt8] {
                var bytes = bytes
                for change in 0..<UInt64(1 + round % 3) {
                    let at = UInt64(round) << 8 | salt << 4 | change
                    let place = rng.integer(below: bytes.count, at: at)
                    switch rng.integer(below: 3, at: at ^ 1 << 40) {
                    case 0: bytes[place] = UInt8(rng.integer(below: 256, at: at ^ 2 << 40))
                    case 1: bytes.remove(at: place)
                    default: bytes.insert(bytes[place], at: 0)
                    }
                }
                return bytes
            }
            let kind = round % 3
            let file = try TemporaryFolder()
            switch kind {
            case 0: try file.write("a.jsonl", spoilt(lines, 1))
            case 1: try file.write("a.jsonl.zst", spoilt(zstd(String(decoding: lines, as: UTF8.self)), 2))
            default:
                try file.write("docs.txt", "onetwo")
                try file.write("docs.tsv", spoilt(table, 3))
            }
            if complaint({ _ = try SourceDocuments([file.path]) }) != nil { refused += 1 }
        }
        #expect(refused > 300)
    }
}
