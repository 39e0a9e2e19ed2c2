import Base
import Foundation

/// The tokenizer that `json` describes, as `Tokenizer.json` wrote it or as Hugging Face did: a byte-level
/// BPE with the pattern of GPT-2, GPT-4, Llama 3 or Qwen 2, or none. Ids are those that `tokenizers` gives with
/// `add_special_tokens=False` and `encode_special_tokens=True`: a post-processor puts nothing around documents,
/// and special tokens written out in a text are text. Anything else that would change ids (normalizers but NFC, other
/// pre-tokenizers, dropout, truncation, added tokens with flags) is an error that names it. `path` is named
/// in errors.
public func parseTokenizer(json: [UInt8], path: String) throws(BadInput) -> any Tokenizer {
    let json = withoutByteOrderMark(json)
    guard let root = (try? JSONSerialization.jsonObject(with: Data(json))) as? [String: Any],
          let model = root["model"] as? [String: Any], let ids = model["vocab"] as? [String: Int] else {
        throw BadInput("\(path) is not a tokenizer.json: it needs an object `model` with a `vocab`")
    }
    let style = try TokenizerFeatures(path: path).style(of: root, model)
    var vocabulary = VocabularyFile(path: path)
    try addTokens(root["added_tokens"], ids, &vocabulary, path)
    for (name, id) in ids { try vocabulary.add(name, id: id) }
    var merges: [BytePairTokenizer.Merge] = []
    if isSet(model["merges"]) {
        guard let lines = model["merges"] as? [Any] else { throw BadInput("\(path): `merges` is not a list") }
        merges.reserveCapacity(lines.count)
        for (rank, line) in lines.enumerated() {
            if let line = line as? String, line.hasPrefix("#version") { continue }
            let pair = (line as? [String]) ?? (line as? String).map(mergePair) ?? []
            merges.append(try vocabulary.merge(pair, where: "\(path): merge \(rank)"))
        }
    }
    return try vocabulary.tokenizer(merges: merges, style: style, postProcessor: text(of: root["post_processor"]))
}

/// `bytes` without the UTF-8 byte order mark that some editors put before a text.
func withoutByteOrderMark(_ bytes: [UInt8]) -> [UInt8] {
    bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? Array(bytes.dropFirst(3)) : bytes
}

func mergePair(_ line: String) -> [String] {
    line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
}

private func isSet(_ value: Any?) -> Bool { value.map { !($0 is NSNull) } ?? false }

private func text(of value: Any?) -> String {
    guard let value = value as? [String: Any],
          let data = try? JSONSerialization.data(withJSONObject: value, options: .sortedKeys) else { return "null" }
    return String(decoding: data, as: UTF8.self)
}

/// Hands the added tokens to `vocabulary`. `tokenizers` takes the id of a token that the model has from there,
/// and numbers the others on from the vocabulary's size, whatever the file says: a file that says something
/// else is refused.
private func addTokens(_ list: Any?, _ ids: [String: Int], _ vocabulary: inout VocabularyFile,
                       _ path: String) throws(BadInput) {
    guard isSet(list) else { return }
    guard let entries = list as? [[String: Any]] else {
        throw BadInput("\(path): `added_tokens` is not a list of objects")
    }
    var highest = -1, contents: Set<[UInt8]> = []
    for entry in entries {
        guard let id = entry["id"] as? Int, let content = entry["content"] as? String, !content.isEmpty else {
            throw BadInput("\(path): an entry of added_tokens without `id` or `content`")
        }
        guard contents.insert(Array(content.utf8)).inserted else {
            throw BadInput("\(path): the added token `\(content)` is there twice")
        }
        let expected = ids[content] ?? max(highest + 1, ids.count)
        guard id == expected, let id = Int32(exactly: id) else {
            throw BadInput("\(path): the added token `\(content)` has the id \(id), but \(expected) is what "
                + "Hugging Face's tokenizers gives it")
        }
        highest = max(highest, Int(id))
        let isSpecial = entry["special"] as? Bool ?? false
        var token = AddedToken(id: id, content: content, isSpecial: isSpecial,
                               isNormalized: entry["normalized"] as? Bool ?? !isSpecial)
        token.isInModel = ids[content] != nil
        for flag in AddedToken.flagNames where entry[flag] as? Bool ?? false {
            guard isSpecial else {
                throw BadInput("\(path): `\(flag)` on the added token `\(content)`, which is not special, is not "
                    + "supported")
            }
            token.flags[flag] = true
        }
        try vocabulary.add(token, mayEnd: entries.count == 1)
    }
}

/// What a `tokenizer.json` says beside tokens and merges: understood, or refused by name.
private struct TokenizerFeatures {
    let path: String

    func refuse(_ what: String) -> BadInput {
        BadInput("\(path): \(what) is not supported; a byte-level BPE with the pattern of GPT-2, GPT-4, Llama 3 "
            + "or Qwen 2 is")
    }

    func style(of root: [String: Any], _ model: [String: Any]) throws(BadInput) -> BytePairTokenizer.Style {
        if let type = model["type"] as? String, type != "BPE" { throw refuse("a model of type \(type)") }
        if isSet(model["dropout"]), model["dropout"] as? Double != 0 { throw refuse("dropout") }
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] where isSet(model[key]) {
            guard let text = model[key] as? String, text.isEmpty else { throw refuse("`\(key)`") }
        }
        for key in ["truncation", "padding"] where isSet(root[key]) { throw refuse("`\(key)` (set it to null)") }
        var style = BytePairTokenizer.Style()
        if isSet(root["normalizer"]) { style.composes = try composes(root["normalizer"]) }
        style.ignoresMerges = model["ignore_merges"] as? Bool ?? false
        guard let step = root["pre_tokenizer"] as? [String: Any] else { throw refuse("no pre_tokenizer") }
        guard step["type"] as? String == "Sequence", let steps = step["pretokenizers"] as? [[String: Any]],
              let last = steps.last else {
            try byteLevel(step, &style)
            return style
        }
        try byteLevel(last, &style)
        guard steps.count > 1 else { return style }
        guard steps.count == 2 else {
            throw refuse("a sequence of \(steps.count) pre_tokenizers, with \(steps[0]["type"] ?? "one of no type"),")
        }
        if style.pattern != nil { throw refuse("`use_regex` of ByteLevel behind another pre_tokenizer") }
        if style.addsPrefixSpace { throw refuse("`add_prefix_space` of ByteLevel behind another pre_tokenizer") }
        style.pattern = try split(steps[0])
        return style
    }

    /// Whether a normalizer is form C, or a sequence of nothing else.
    private func composes(_ value: Any?) throws(BadInput) -> Bool {
        guard let normalizer = value as? [String: Any], let type = normalizer["type"] as? String else {
            throw refuse("a normalizer")
        }
        switch type {
        case "NFC": return true
        case "Sequence":
            guard let steps = normalizer["normalizers"] as? [Any] else { throw refuse("a normalizer") }
            var any = false
            for step in steps where try composes(step) { any = true }
            return any
        default: throw refuse("the normalizer \(type)")
        }
    }

    private func byteLevel(_ step: [String: Any], _ style: inout BytePairTokenizer.Style) throws(BadInput) {
        let type = step["type"] as? String ?? "of no type"
        guard type == "ByteLevel" else { throw refuse("the pre_tokenizer \(type)") }
        style.pattern = step["use_regex"] as? Bool ?? true ? .gpt2 : nil
        style.addsPrefixSpace = step["add_prefix_space"] as? Bool ?? true
    }

    /// The patterns match every character, so that keeping the matches alone is isolating them.
    private func split(_ step: [String: Any]) throws(BadInput) -> WordPattern {
        let type = step["type"] as? String ?? "of no type"
        guard type == "Split" else { throw refuse("the pre_tokenizer \(type)") }
        let behavior = step["behavior"] as? String ?? "none", invert = step["invert"] as? Bool ?? false
        guard behavior == "Isolated" || (behavior == "Removed" && invert) else {
            throw refuse("the behavior \(behavior) of Split")
        }
        guard let regex = (step["pattern"] as? [String: Any])?["Regex"] as? String else {
            throw refuse("Split without a Regex")
        }
        guard let known = WordPattern.known.first(where: { $0.regex == regex }) else {
            throw refuse("the regular expression \(regex) of Split")
        }
        return known.pattern
    }
}
