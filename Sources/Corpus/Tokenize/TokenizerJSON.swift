import Base
import Foundation

/// The name that GPT-2 gave the token between documents.
package let endOfDocumentText = "<|endoftext|>"

/// Hugging Face's `tokenizer.json` for a byte-level BPE. `vocabulary[id]` are the bytes of a token;
/// `merges` are pairs of ids, most important first; `splits` says whether text is cut into words by GPT-2's
/// pattern before it is merged.
package func tokenizerJSON(vocabulary: [[UInt8]], merges: [(Int32, Int32)], endOfDocument: Int32,
                           splits: Bool) -> [UInt8] {
    var ids: [String] = vocabulary.enumerated().filter { $0.offset != endOfDocument }.map {
        "\(quoted(ByteAlphabet.text($0.element))):\($0.offset)"
    }
    ids.append("\(quoted(endOfDocumentText)):\(endOfDocument)")
    let pairs = merges.map { left, right in
        "[\(quoted(ByteAlphabet.text(vocabulary[Int(left)]))),\(quoted(ByteAlphabet.text(vocabulary[Int(right)])))]"
    }
    let byteLevel = """
        {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":\(splits)}
        """
    let text = """
        {"version":"1.0","truncation":null,"padding":null,
        "added_tokens":[{"id":\(endOfDocument),"content":"\(endOfDocumentText)","single_word":false,\
        "lstrip":false,"rstrip":false,"normalized":false,"special":true}],
        "normalizer":null,"pre_tokenizer":\(byteLevel),"post_processor":null,"decoder":\(byteLevel),
        "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,\
        "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,
        "vocab":{\(ids.joined(separator: ","))},
        "merges":[\(pairs.joined(separator: ","))]}}

        """
    return Array(text.utf8)
}

/// A JSON string. The byte alphabet has no control characters, so two characters need an escape.
private func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        if scalar == "\"" || scalar == "\\" { result.unicodeScalars.append("\\") }
        result.unicodeScalars.append(scalar)
    }
    return result + "\""
}

/// The tokenizer that `json` describes, as `Tokenizer.json` wrote it or as Hugging Face did. `path` is
/// named in errors.
public func tokenizer(fromJSON json: [UInt8], path: String) throws(BadInput) -> any Tokenizer {
    guard let root = (try? JSONSerialization.jsonObject(with: Data(json))) as? [String: Any],
          let model = root["model"] as? [String: Any], let vocabulary = model["vocab"] as? [String: Int] else {
        throw BadInput("\(path) is not a tokenizer.json: it needs an object `model` with a `vocab`")
    }
    let merges = model["merges"] as? [Any] ?? []
    let isBytes = merges.isEmpty && vocabulary[endOfDocumentText] == 256 && vocabulary.count == 257
        && ByteAlphabet.scalars.enumerated().allSatisfy { vocabulary[String($0.element)] == $0.offset }
    guard isBytes else {
        throw BadInput("\(path): this tokenizer is not known; the byte tokenizer is")
    }
    return ByteTokenizer()
}
