import Base
import Corpus
import Crypto
import Foundation
import Testing

/// Against ids that OpenAI's encoder and Hugging Face's tokenizers agree on.
@Suite(.enabled(if: realData != nil, "SKEIN_DATA is not set"))
struct GPT2Tests {
    @Test func goldenStrings() throws {
        let gpt2 = try loadTokenizer(realData! + "/gpt2-tokenizer")
        let lines = try String(contentsOfFile: realData! + "/golden/gpt2-bpe-strings.jsonl", encoding: .utf8)
            .split(separator: "\n")
        #expect(lines.count == 45)
        for line in lines {
            let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            let text = try #require(object?["text"] as? String), ids = try #require(object?["ids"] as? [Int])
            #expect(gpt2.encode(text) == ids.map { Int32($0) }, "\(line)")
            #expect(gpt2.decode(ids.map { Int32($0) }) == Array(text.utf8))
        }
    }

    /// Every document of every corpus: the hash of all ids as little-endian 16-bit words, 50256 after each.
    @Test func goldenCorpora() throws {
        let gpt2 = try loadTokenizer(realData! + "/gpt2-tokenizer")
        let table = try String(contentsOfFile: realData! + "/golden/gpt2-bpe-corpora.tsv", encoding: .utf8)
        for line in table.split(separator: "\n").dropFirst() {
            let fields = line.split(separator: "\t").map(String.init)
            let path = try #require(["/docs.txt", "/input.txt", ".txt"].map { "\(realData!)/\(fields[0])\($0)" }
                .first { FileManager.default.fileExists(atPath: $0) })
            let texts = try SourceDocuments([path])
            #expect(texts.documents.count == Int(fields[1]) && texts.text.count == Int(fields[2]))
            var tokens: [Int32] = []
            for document in texts.documents {
                gpt2.encode(texts.text.span.extracting(document.range), into: &tokens)
                tokens.append(50256)
            }
            #expect(tokens.count == Int(fields[3]))
            let words = tokens.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] }
            let hash = SHA256.hash(data: words).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            #expect(hash == fields[4], "\(fields[0])")
        }
    }

    /// The same ids on disk: shards one after the other, with the end of document behind instead of before.
    @Test func preparedCorpora() throws {
        let gpt2 = try loadTokenizer(realData! + "/gpt2-tokenizer"), folder = try TemporaryFolder()
        let table = try String(contentsOfFile: realData! + "/golden/gpt2-bpe-corpora.tsv", encoding: .utf8)
        var checked = 0
        for line in table.split(separator: "\n").dropFirst() {
            let fields = line.split(separator: "\t").map(String.init)
            let source = ["/docs.txt", ".txt"].map { "\(realData!)/\(fields[0])\($0)" }
                .first { FileManager.default.fileExists(atPath: $0) }
            // A single document would be cut for validation.
            guard let source, fields[1] != "1" else { continue }
            let out = "\(folder.path)/\(checked)"
            let preparation = Preparation(sources: [source], folder: out, threads: 2, shardBytes: 1 << 18)
            let summary = try preparation.run(gpt2) { _ in }
            #expect(summary.documents == Int(fields[1]) && summary.shards > 2)
            var words: [UInt8] = []
            for shard in 0..<summary.shards {
                let path = "\(out)/\(ShardHeader.fileName(shard))"
                words += try Data(contentsOf: URL(fileURLWithPath: path)).dropFirst(ShardHeader.byteCount)
            }
            words = Array(words.dropFirst(2)) + words.prefix(2)
            let hash = SHA256.hash(data: words).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            #expect(hash == fields[4], "\(fields[0])")
            checked += 1
        }
        #expect(checked == 5)
    }
}
