import Base
import Foundation

/// A vocabulary while it is read from a file: tokens arrive in any order and are checked as they come.
struct VocabularyFile {
    let path: String
    private var tokens: [[UInt8]] = []
    private var ids: [[UInt8]: Int32] = [:]
    private var added: [Int: AddedToken] = [:]
    private var endOfDocument: AddedToken?

    /// What may stand between documents, best first.
    private static let endNames = [endOfDocumentText, "<|end_of_text|>"]

    init(path: String) { self.path = path }

    /// A token of `added_tokens`, before the model's tokens. One of `endNames` ends documents; so does the
    /// only added token (`mayEnd`), whatever its name.
    mutating func add(_ token: AddedToken, mayEnd: Bool) throws(BadInput) {
        let id = Int(token.id)
        try reserve(id, token.content)
        if added.updateValue(token, forKey: id) != nil { throw BadInput("\(path): two tokens have the id \(id)") }
        if !token.isSpecial { tokens[id] = Array(token.content.utf8) }
        let rank = Self.endNames.firstIndex(of: token.content) ?? (mayEnd ? 2 : 3)
        if token.isSpecial, rank < 3, rank < endOfDocument.map({ Self.endNames.firstIndex(of: $0.content) ?? 2 }) ?? 3 {
            endOfDocument = token
        }
    }

    /// A token of the model.
    mutating func add(_ name: String, id: Int) throws(BadInput) {
        let bytes = ByteAlphabet.bytes(of: name)
        if let token = added[id] {
            guard token.content == name else { throw BadInput("\(path): two tokens have the id \(id)") }
            guard !token.isSpecial, let bytes else { return }
            guard bytes == tokens[id] else {
                throw BadInput("\(path): the added token `\(name)` is one of the model's with other bytes")
            }
            added[id]?.isWord = true
            ids[bytes] = token.id
            return
        }
        if name == endOfDocumentText {
            guard let end = Int32(exactly: id) else { return try reserve(id, name) }
            return try add(.end(end), mayEnd: true)
        }
        try reserve(id, name)
        guard let bytes, !bytes.isEmpty else {
            throw BadInput("\(path): the token `\(name)` is not written in GPT-2's byte alphabet")
        }
        guard tokens[id].isEmpty else { throw BadInput("\(path): two tokens have the id \(id)") }
        tokens[id] = bytes
        ids[bytes] = Int32(id)
    }

    private mutating func reserve(_ id: Int, _ name: String) throws(BadInput) {
        // More than any vocabulary has, and little enough for an array of that size to cost nothing.
        guard id >= 0, id < 1 << 20 else {
            throw BadInput("\(path): the token `\(name)` has the id \(id), outside 0..<2^20")
        }
        while tokens.count <= id { tokens.append([]) }
    }

    /// The merge of two tokens given by their names. `line` is named in errors.
    func merge(_ pair: [String], where line: String) throws(BadInput) -> BytePairTokenizer.Merge {
        guard pair.count == 2, let left = ByteAlphabet.bytes(of: pair[0]),
              let right = ByteAlphabet.bytes(of: pair[1]) else {
            throw BadInput("\(line) is not a pair of tokens")
        }
        guard let leftID = ids[left], let rightID = ids[right], let result = ids[left + right] else {
            throw BadInput("\(line) (`\(pair[0])` and `\(pair[1])`) needs a token that the vocabulary does "
                + "not have")
        }
        return BytePairTokenizer.Merge(left: leftID, right: rightID, result: result)
    }

    func tokenizer(merges: [BytePairTokenizer.Merge], style: BytePairTokenizer.Style,
                   postProcessor: String = "null") throws(BadInput) -> any Tokenizer {
        let added = added.values.sorted { $0.id < $1.id }
        guard let endOfDocument else {
            if let token = added.first(where: { Self.endNames.contains($0.content) }) {
                throw BadInput("\(path): the added token `\(token.content)` is not special, so texts could hold "
                    + "it; it stands between documents, so it must be special")
            }
            throw BadInput("\(path) has no special token \(endOfDocumentText), which stands between documents")
        }
        for byte in 0..<256 where ids[[UInt8(byte)]] == nil {
            throw BadInput("\(path) has no token for the byte \(byte)")
        }
        if style.ignoresMerges { try checkWords(added, style) }
        let isBytes = merges.isEmpty && !style.addsPrefixSpace && tokens.count == 257 && added.count == 1
            && endOfDocument.id == 256 && (0..<256).allSatisfy { tokens[$0] == [UInt8($0)] }
        if isBytes { return ByteTokenizer() }
        return BytePairTokenizer(tokens: tokens, merges: merges, endOfDocument: endOfDocument.id, style: style,
                                 added: added, postProcessor: postProcessor)
    }

    /// A special token in the model's vocabulary that is one word would be found there by `ignore_merges`,
    /// though it should stay text.
    private func checkWords(_ added: [AddedToken], _ style: BytePairTokenizer.Style) throws(BadInput) {
        let classes = WordSplitter.classes
        for token in added where token.isSpecial && token.isInModel {
            guard let bytes = ByteAlphabet.bytes(of: token.content), !bytes.isEmpty else { continue }
            let end = style.pattern.map {
                WordSplitter.wordEnd(bytes.span, from: 0, classes: classes.span, pattern: $0)
            } ?? bytes.count
            if end == bytes.count {
                throw BadInput("\(path): the special token `\(token.content)` is a word of the model, which "
                    + "`ignore_merges` would find in texts; that is not supported")
            }
        }
    }
}

/// The tokenizer at `path`: a `tokenizer.json`, or a folder with one or with GPT-2's original pair of
/// `encoder.json` and `vocab.bpe` (Hugging Face names them `vocab.json` and `merges.txt`).
public func loadTokenizer(_ path: String) throws(BadInput) -> any Tokenizer {
    let manager = FileManager.default
    var isFolder: ObjCBool = false
    guard unsafe manager.fileExists(atPath: path, isDirectory: &isFolder) else {
        throw BadInput("cannot open the tokenizer \(path): \(errorText(ENOENT))")
    }
    guard isFolder.boolValue else { return try parseTokenizer(json: contents(path), path: path) }
    if manager.fileExists(atPath: path + "/tokenizer.json") {
        return try parseTokenizer(json: contents(path + "/tokenizer.json"), path: path + "/tokenizer.json")
    }
    for (encoder, merges) in [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")] {
        let files = (path + "/" + encoder, path + "/" + merges)
        if manager.fileExists(atPath: files.0), manager.fileExists(atPath: files.1) {
            if manager.fileExists(atPath: path + "/added_tokens.json") {
                throw BadInput("\(path) has added_tokens.json, which is read within a tokenizer.json only: save "
                    + "the tokenizer as that")
            }
            return try originalTokenizer(encoder: files.0, merges: files.1)
        }
    }
    throw BadInput("\(path) has neither tokenizer.json nor encoder.json with vocab.bpe")
}

/// GPT-2's original files: ids by token, and merges as lines of two tokens, most important first.
private func originalTokenizer(encoder: String, merges: String) throws(BadInput) -> any Tokenizer {
    let json = withoutByteOrderMark(try contents(encoder))
    guard let ids = (try? JSONSerialization.jsonObject(with: Data(json))) as? [String: Int] else {
        throw BadInput("\(encoder) is not a JSON object of token ids")
    }
    var vocabulary = VocabularyFile(path: encoder)
    for (name, id) in ids { try vocabulary.add(name, id: id) }
    var list: [BytePairTokenizer.Merge] = []
    // Lines are cut as bytes: to Swift, CR and LF together are one character, which is no line feed.
    let lines = withoutByteOrderMark(try contents(merges)).split(separator: UInt8(ascii: "\n"),
                                                                 omittingEmptySubsequences: false)
    for (index, bytes) in lines.enumerated() {
        let line = String(decoding: bytes.last == UInt8(ascii: "\r") ? bytes.dropLast() : bytes, as: UTF8.self)
        if line.isEmpty || line.hasPrefix("#version") { continue }
        list.append(try vocabulary.merge(mergePair(line), where: "\(merges) line \(index + 1)"))
    }
    return try vocabulary.tokenizer(merges: list, style: BytePairTokenizer.Style())
}

private func contents(_ path: String) throws(BadInput) -> [UInt8] {
    let file = try MappedFile(path)
    return unsafe file.bytes.withUnsafeBufferPointer { unsafe Array($0) }
}
