import Base
import Corpus
import Foundation
import Testing

@Suite struct JSONLinesTests {
    /// The texts of `lines` with their lines' numbers, read in parts of so many bytes.
    private func numbered(_ lines: [UInt8], parts: Int = .max, longest: Int = 1 << 28) throws -> [(Int, String)] {
        var reader = JSONLineReader(path: "a.jsonl", longest: longest), found: [(Int, String)] = []
        func take(_ number: Int, _ text: Span<UInt8>) {
            found.append((number, unsafe text.withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }))
        }
        for begin in stride(from: 0, to: lines.count, by: min(parts, max(lines.count, 1))) {
            try reader.read(lines.span.extracting(begin..<(begin + min(parts, lines.count - begin))), take)
        }
        try reader.finish(take)
        return found
    }

    private func texts(_ lines: String) throws -> [String] { try numbered(Array(lines.utf8)).map(\.1) }

    @Test func theTextOfEachLineIsTaken() throws {
        #expect(try texts("{\"text\":\"one\"}\n\n  \r\n{\"id\": 7, \"text\" : \"two\"}\r\n{\"text\":\"three\"}")
            == ["one", "two", "three"])
        #expect(try texts(#"{"meta":{"text":"no","list":[1,{"a":"]}"}]},"text":"yes","n":null,"t":[],"x":-1.5e3}"#)
            == ["yes"])
        let found = try numbered(Array("\n{\"text\":\"a\"}\n\n{\"text\":\"b\"}".utf8))
        #expect(found.map(\.0) == [2, 4] && found.map(\.1) == ["a", "b"])
    }

    /// Wherever a line is cut: within a character, an escape, or between two lines.
    @Test func partsDoNotMatter() throws {
        let lines = Array("{\"text\":\"é\\u00e9😀\"}\n\n{\"a\":[1],\"text\":\"b\\n\"}\r\n{\"text\":\"c\"}".utf8)
        for parts in 1...lines.count {
            let found = try numbered(lines, parts: parts)
            #expect(found.map(\.0) == [1, 3, 4] && found.map(\.1) == ["éé😀", "b\n", "c"])
        }
    }

    /// A line may be as long as the limit and no longer, in one part or in many.
    @Test func aLineTooLongIsRefused() throws {
        let first = "{\"text\":\"ok\"}\n", long = "{\"text\":\"0123456789\"}"
        for ending in ["", "\n", "\n" + first] {
            let lines = Array((first + long + ending).utf8)
            for parts in 1...lines.count {
                #expect(try numbered(lines, parts: parts, longest: 21).count >= 2)
                #expect(complaint { _ = try numbered(lines, parts: parts, longest: 20) } == "a.jsonl line 2, byte 14: "
                    + "the line is longer than 20 B, the most for one document; cut the document into several")
            }
        }
    }

    @Test func linesThatAreNotTextAreNamed() {
        let lines = Array("{\"text\":\"ok\"}\n{\"text\":\"caf".utf8) + [0xE9] + Array("\"}\n".utf8)
        for parts in 1...lines.count {
            #expect(complaint { _ = try numbered(lines, parts: parts) }
                == "a.jsonl is not UTF-8 text: line 2, byte 26 begins no valid character")
        }
    }

    /// Every scalar of the basic plane and some beyond, escaped and plain, as Foundation reads them.
    @Test func escapesAreResolved() throws {
        #expect(try texts(#"{"text":"\"\\\/\b\f\n\r\t\u0041\u00e9\uD83D\uDE00é😀"}"#)
            == ["\"\\/\u{8}\u{C}\n\r\tAé😀é😀"])
        #expect(try texts(#"{"text":"\ud800x\udc00\uD83D\u0041"}"#) == ["\u{FFFD}x\u{FFFD}\u{FFFD}A"])
        for value in stride(from: 1, to: 0x1_0000, by: 7) {
            guard let scalar = Unicode.Scalar(UInt32(value)) else { continue }
            let hex = String(value, radix: 16)
            let escape = "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            #expect(try texts("{\"text\":\"\(escape)\"}") == [String(scalar)])
        }
    }

    @Test func brokenLinesAreNamed() {
        let bad = ["[1]", "text", "{}", "{\"text\":1}", "{\"text\":\"a\"", "{\"text\":\"a", "{\"text\":\"a\"} x",
                   "{\"text\":\"a\",\"text\":\"b\"}", "{\"text\":\"\\x\"}", "{\"text\":\"\\u12G4\"}", "{\"text\"}",
                   "{\"text\":\"a\\", "{\"text\":\"\\u12", "{text:\"a\"}", "{\"a\":}", "{\"a\":[1,\"text\":\"b\"}",
                   "{\"text\":\"a\",}", "{\"Text\":\"a\"}", "{\"text\":\"tab\there\"}"]
        for line in bad {
            let message = complaint { _ = try texts("{\"text\":\"ok\"}\n" + line + "\n") }
            #expect(message?.hasPrefix("a.jsonl line 2, byte ") == true, "\(line): \(message ?? "no error")")
            #expect(message?.hasSuffix(": expected a JSON object with a string `text`") == true)
        }
        #expect(complaint { _ = try texts("{\"text\":\"\"}") } == "a.jsonl line 1, byte 0: an empty document")
    }

    @Test func aLongLineIsOneDocument() throws {
        let text = String(repeating: "a long line ", count: 1_000_000)
        #expect(try texts("{\"text\":\"\(text)\"}") == [text])
    }

    @Test func linesAreASource() throws {
        let folder = try TemporaryFolder()
        let lines = (0..<100).map { "{\"text\":\"document number \($0)\"}\n" }.joined()
        let path = try folder.write("many.jsonl", lines)
        for source in [path, folder.path] {
            let options = CorpusOptions(sources: [source], sequence: 8, seed: 0)
            let corpus = try Corpus(options, tokenizer: ByteTokenizer())
            #expect(corpus.trainDocumentCount + corpus.validationDocumentCount == 100)
            #expect((1...12).contains(corpus.validationDocumentCount))
        }
    }
}
