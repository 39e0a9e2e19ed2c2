import Base
import Foundation

/// The name that GPT-2 gave the token between documents.
package let endOfDocumentText = "<|endoftext|>"

/// Hugging Face's `tokenizer.json` for a byte-level BPE. `vocabulary[id]` are the bytes of a token;
/// `merges` are pairs of ids, most important first.
package func tokenizerJSON(vocabulary: [[UInt8]], merges: [(Int32, Int32)], endOfDocument: Int32,
                           style: BytePairTokenizer.Style) -> [UInt8] {
    let names = vocabulary.map { quoted(ByteAlphabet.text($0)) }
    let plain = names.indices.filter { $0 != endOfDocument && !vocabulary[$0].isEmpty }
    let ids = plain.map { "\(names[$0]):\($0)" } + ["\(quoted(endOfDocumentText)):\(endOfDocument)"]
    let pairs = merges.map { "[\(names[Int($0.0)]),\(names[Int($0.1)])]" }
    let byteLevel = """
        {"type":"ByteLevel","add_prefix_space":\(style.addsPrefixSpace),"trim_offsets":true,\
        "use_regex":\(style.splitsWords)}
        """
    let text = """
        {"version":"1.0","truncation":null,"padding":null,
        "added_tokens":[{"id":\(endOfDocument),"content":"\(endOfDocumentText)","single_word":false,\
        "lstrip":false,"rstrip":false,"normalized":false,"special":true}],
        "normalizer":null,"pre_tokenizer":\(byteLevel),"post_processor":null,"decoder":\(byteLevel),
        "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,\
        "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,\
        "ignore_merges":\(style.ignoresMerges),
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

/// The tokenizer that `json` describes, as `Tokenizer.json` wrote it or as Hugging Face did: a byte-level
/// BPE with GPT-2's pattern or none. Anything else in it (normalizers, other pre-tokenizers, dropout) is an
/// error, because leaving it out would give other ids. `path` is named in errors.
public func parseTokenizer(json: [UInt8], path: String) throws(BadInput) -> any Tokenizer {
    guard let root = (try? JSONSerialization.jsonObject(with: Data(json))) as? [String: Any],
          let model = root["model"] as? [String: Any], let ids = model["vocab"] as? [String: Int] else {
        throw BadInput("\(path) is not a tokenizer.json: it needs an object `model` with a `vocab`")
    }
    let style = try style(of: root, model, path)
    var vocabulary = VocabularyFile(path: path)
    let added = root["added_tokens"] as? [[String: Any]] ?? []
    for token in added {
        guard let id = token["id"] as? Int, let content = token["content"] as? String else {
            throw BadInput("\(path): an entry of added_tokens without `id` or `content`")
        }
        try vocabulary.addSpecial(content, id: id, mayEnd: added.count == 1)
    }
    for (name, id) in ids { try vocabulary.add(name, id: id) }
    let lines = model["merges"] as? [Any] ?? []
    var merges: [BytePairTokenizer.Merge] = []
    merges.reserveCapacity(lines.count)
    for (rank, line) in lines.enumerated() {
        let pair = (line as? [String]) ?? (line as? String)?.split(separator: " ").map(String.init) ?? []
        merges.append(try vocabulary.merge(pair, where: "\(path): merge \(rank)"))
    }
    return try vocabulary.tokenizer(merges: merges, style: style)
}

private func style(of root: [String: Any], _ model: [String: Any],
                   _ path: String) throws(BadInput) -> BytePairTokenizer.Style {
    func isSet(_ value: Any?) -> Bool { value.map { !($0 is NSNull) } ?? false }
    func refuse(_ what: String) -> BadInput {
        BadInput("\(path): \(what) is not supported; a byte-level BPE with GPT-2's pattern is")
    }
    if let type = model["type"] as? String, type != "BPE" { throw refuse("a model of type \(type)") }
    if isSet(model["dropout"]) { throw refuse("dropout") }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if let text = model[key] as? String, !text.isEmpty { throw refuse("`\(key)`") }
    }
    if isSet(root["normalizer"]) { throw refuse("a normalizer") }
    guard let splitter = root["pre_tokenizer"] as? [String: Any] else { throw refuse("no pre_tokenizer") }
    let type = splitter["type"] as? String ?? "of no type"
    guard type == "ByteLevel" else { throw refuse("the pre_tokenizer \(type)") }
    var style = BytePairTokenizer.Style()
    style.splitsWords = splitter["use_regex"] as? Bool ?? true
    style.addsPrefixSpace = splitter["add_prefix_space"] as? Bool ?? true
    style.ignoresMerges = model["ignore_merges"] as? Bool ?? false
    return style
}
