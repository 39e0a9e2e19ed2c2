import Base
import Foundation

/// The name that GPT-2 gave the token between documents.
package let endOfDocumentText = "<|endoftext|>"

/// Hugging Face's `tokenizer.json` for a byte-level BPE. `vocabulary[id]` are the bytes of a token;
/// `merges` are pairs of ids, most important first; `added` are the added tokens, whose bytes in `vocabulary`
/// count where merges may lead to them only.
package func tokenizerJSON(vocabulary: [[UInt8]], merges: [(Int32, Int32)], added: [AddedToken],
                           style: BytePairTokenizer.Style, postProcessor: String) -> [UInt8] {
    let names = vocabulary.map { jsonString(ByteAlphabet.text($0)) }
    let apart = Set(added.filter { !$0.isWord }.map { Int($0.id) })
    let plain = names.indices.filter { !apart.contains($0) && !vocabulary[$0].isEmpty }
    let ids = plain.map { "\(names[$0]):\($0)" }
        + added.filter { $0.isInModel && !$0.isWord }.map { "\(jsonString($0.content)):\($0.id)" }
    let pairs = merges.map { "[\(names[Int($0.0)]),\(names[Int($0.1)])]" }
    let text = """
        {"version":"1.0","truncation":null,"padding":null,
        "added_tokens":[\(added.map(entry).joined(separator: ","))],
        "normalizer":\(style.composes ? #"{"type":"NFC"}"# : "null"),\
        "pre_tokenizer":\(preTokenizer(style)),"post_processor":\(postProcessor),\
        "decoder":\(byteLevel(style)),
        "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,\
        "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,\
        "ignore_merges":\(style.ignoresMerges),
        "vocab":{\(ids.joined(separator: ","))},
        "merges":[\(pairs.joined(separator: ","))]}}

        """
    return Array(text.utf8)
}

private func entry(_ token: AddedToken) -> String {
    let flags = AddedToken.flagNames.map { "\"\($0)\":\(token.flags[$0] ?? false)," }.joined()
    return "{\"id\":\(token.id),\"content\":\(jsonString(token.content)),\(flags)"
        + "\"normalized\":\(token.isNormalized),\"special\":\(token.isSpecial)}"
}

private func byteLevel(_ style: BytePairTokenizer.Style) -> String {
    """
    {"type":"ByteLevel","add_prefix_space":\(style.addsPrefixSpace),"trim_offsets":true,\
    "use_regex":\(style.pattern == .gpt2)}
    """
}

/// GPT-2's pattern is within ByteLevel; others are a step before it.
private func preTokenizer(_ style: BytePairTokenizer.Style) -> String {
    guard let pattern = style.pattern, pattern != .gpt2 else { return byteLevel(style) }
    guard let regex = pattern.regex else { preconditionFailure("a pattern without a regular expression") }
    return """
        {"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":\(jsonString(regex))},\
        "behavior":"Isolated","invert":false},\(byteLevel(style))]}
        """
}
