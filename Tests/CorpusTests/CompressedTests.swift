import Base
import Compression
import Corpus
import Testing

@Suite struct CompressedTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private func zstd(_ text: String) -> [UInt8] {
        var output: [UInt8] = []
        let bytes = Array(text.utf8)
        ZstdCompressor().compress(bytes.span, into: &output, ends: true)
        return output
    }

    private func texts(_ source: String, limits: ReadLimits = ReadLimits()) throws -> [String] {
        let data = try SourceDocuments([source], limits: limits)
        return data.documents.map { String(decoding: data.text[$0.range], as: UTF8.self) }
    }

    private let lines = (0..<9_000).map { "{\"text\":\"document é number \($0)\"}\n" }

    /// Two frames that meet in the middle of a line, and more than one of zstd's buffers.
    @Test func compressedLinesAreTheLines() throws {
        let cut = lines.joined().utf8.count / 2 + 3, all = Array(lines.joined().utf8)
        var frames: [UInt8] = []
        ZstdCompressor().compress(all.span.extracting(..<cut), into: &frames, ends: true)
        ZstdCompressor().compress(all.span.extracting(cut...), into: &frames, ends: true)
        let path = try folder.write("z/many.jsonl.zst", frames)
        let plain = try texts(folder.write("many.jsonl", all))
        #expect(plain.count == 9_000 && plain[17] == "document é number 17")
        #expect(try texts(path) == plain)
        #expect(try texts(folder.path + "/z") == plain)
        #expect(try fileBytes(ofSources: [path]) == all.count)
    }

    @Test func compressedTextsAreTexts() throws {
        let one = try folder.write("one.txt.zst", zstd("one text"))
        #expect(try texts(one) == ["one text"])
        try folder.write("t/docs.txt.zst", zstd("onetwothree"))
        try folder.write("t/docs.tsv", "offset\tlength\tsplit\tpath\n0\t3\ttrain\ta\n3\t3\tvalid\tb\n6\t5\ttest\tc\n")
        for source in ["t", "t/docs.txt.zst", "t/docs.tsv"] {
            #expect(try texts(folder.path + "/" + source) == ["one", "two", "three"])
        }
        // What zstd cannot know when a frame begins is reckoned with.
        let stream = ZstdCompressor(), text = Array("a text".utf8), nothing: [UInt8] = []
        var unknown: [UInt8] = []
        stream.compress(text.span, into: &unknown, ends: false)
        stream.compress(nothing.span, into: &unknown, ends: true)
        #expect(try fileBytes(ofSources: [folder.write("u.txt.zst", unknown)]) == 5 * unknown.count)
    }

    @Test func brokenFramesAreNamed() throws {
        let frame = zstd(lines.joined())
        for name in ["cut.jsonl.zst", "cut.txt.zst"] {
            let path = try folder.write(name, Array(frame.dropLast(5)))
            #expect(complaint { _ = try texts(path) } == "\(path): the zstd data end at byte \(frame.count - 5) in the "
                + "middle of a frame; copy the file again")
        }
        var flipped = frame
        flipped[frame.count / 2] ^= 4
        let path = try folder.write("flipped.jsonl.zst", flipped)
        let message = complaint { _ = try texts(path) }
        #expect(message?.hasPrefix("\(path)") == true && message?.contains("byte ") == true, "\(message ?? "")")
        let plain = try folder.write("plain.jsonl.zst", lines.joined())
        #expect(complaint { _ = try texts(plain) }?.hasPrefix("\(plain): byte ") == true)
        let empty = try folder.write("empty.jsonl.zst", "")
        #expect(complaint { _ = try texts(empty) } == "\(empty) is empty: there is nothing to train on")
    }

    /// A little file that becomes a lot of text is refused before it has.
    @Test func whatGrowsTooLargeIsRefused() throws {
        let long = zstd("{\"text\":\"" + String(repeating: "a", count: 3_000_000) + "\"}")
        #expect(long.count < 1_000)
        let line = try folder.write("long.jsonl.zst", long), text = try folder.write("long.txt.zst", long)
        let limits = ReadLimits(line: 1 << 20, text: 2 << 20)
        #expect(complaint { _ = try texts(line, limits: limits) } == "\(line) line 1, byte 0: the line is longer than "
            + "1.0 MiB, the most for one document; cut the document into several")
        #expect(complaint { _ = try texts(text, limits: limits) } == "\(text) decompresses to more than 2.0 MiB, too "
            + "much for one text; make it .jsonl.zst, with a document on each line")
        #expect(try texts(line).map(\.count) == [3_000_000])
    }
}
