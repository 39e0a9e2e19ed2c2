import Base
import Corpus
import Foundation
import Testing

/// Against ids that OpenAI's encoder and Hugging Face's tokenizers agree on.
@Suite(.enabled(if: realData != nil, "SKEIN_DATA is not set"))
struct GPT2Tests {
    @Test func goldenStrings() throws {
        let gpt2 = try tokenizer(at: realData! + "/gpt2-tokenizer")
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
}
