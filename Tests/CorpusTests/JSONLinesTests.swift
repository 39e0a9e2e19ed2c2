import Base
import Corpus
import Foundation
import Testing

@Suite struct JSONLinesTests {
    private func texts(_ lines: String) throws -> [String] {
        var output: [UInt8] = []
        let found = try appendJSONLines(Array(lines.utf8).span, path: "a.jsonl", to: &output)
        return found.map { String(decoding: output[$0.range], as: UTF8.self) }
    }

    @Test func theTextOfEachLineIsTaken() throws {
        #expect(try texts("{\"text\":\"one\"}\n\n  \r\n{\"id\": 7, \"text\" : \"two\"}\r\n{\"text\":\"three\"}")
            == ["one", "two", "three"])
        #expect(try texts(#"{"meta":{"text":"no","list":[1,{"a":"]}"}]},"text":"yes","n":null,"t":[],"x":-1.5e3}"#)
            == ["yes"])
        var output: [UInt8] = []
        let lines = Array("\n{\"text\":\"a\"}\n\n{\"text\":\"b\"}".utf8)
        let found = try appendJSONLines(lines.span, path: "", to: &output)
        #expect(found.map(\.number) == [2, 4] && found.map(\.range) == [0..<1, 1..<2])
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
