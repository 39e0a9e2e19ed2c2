import Base
import Foundation

/// A vocabulary while it is read from a file: tokens arrive in any order and are checked as they come.
struct VocabularyFile {
    let path: String
    private var tokens: [[UInt8]] = []
    private var ids: [[UInt8]: Int32] = [:]
    private var special: Set<Int> = []
    private var endOfDocument: Int32?

    init(path: String) { self.path = path }

    /// A token outside the byte alphabet. `<|endoftext|>` ends documents; so does the only special token
    /// (`mayEnd`), whatever its name.
    mutating func addSpecial(_ name: String, id: Int, mayEnd: Bool) throws(BadInput) {
        try reserve(id, name)
        special.insert(id)
        if name == endOfDocumentText || (mayEnd && endOfDocument == nil) { endOfDocument = Int32(id) }
    }

    mutating func add(_ name: String, id: Int) throws(BadInput) {
        if special.contains(id) { return }
        if name == endOfDocumentText { return try addSpecial(name, id: id, mayEnd: true) }
        try reserve(id, name)
        guard let bytes = ByteAlphabet.bytes(of: name), !bytes.isEmpty else {
            throw BadInput("\(path): the token `\(name)` is not written in GPT-2's byte alphabet")
        }
        guard tokens[id].isEmpty else { throw BadInput("\(path): two tokens have the id \(id)") }
        tokens[id] = bytes
        ids[bytes] = Int32(id)
    }

    private mutating func reserve(_ id: Int, _ name: String) throws(BadInput) {
        guard id >= 0, id < 1 << 24 else {
            throw BadInput("\(path): the token `\(name)` has the id \(id), outside 0..<2^24")
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

    func tokenizer(merges: [BytePairTokenizer.Merge],
                   style: BytePairTokenizer.Style) throws(BadInput) -> any Tokenizer {
        guard let endOfDocument else {
            throw BadInput("\(path) has no token \(endOfDocumentText), which stands between documents")
        }
        for byte in 0..<256 where ids[[UInt8(byte)]] == nil {
            throw BadInput("\(path) has no token for the byte \(byte)")
        }
        let isBytes = merges.isEmpty && !style.addsPrefixSpace && tokens.count == 257 && endOfDocument == 256
            && (0..<256).allSatisfy { tokens[$0] == [UInt8($0)] }
        if isBytes { return ByteTokenizer() }
        return BytePairTokenizer(tokens: tokens, merges: merges, endOfDocument: endOfDocument, style: style)
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
            return try originalTokenizer(encoder: files.0, merges: files.1)
        }
    }
    throw BadInput("\(path) has neither tokenizer.json nor encoder.json with vocab.bpe")
}

/// GPT-2's original files: ids by token, and merges as lines of two tokens, most important first.
private func originalTokenizer(encoder: String, merges: String) throws(BadInput) -> any Tokenizer {
    let json = try contents(encoder)
    guard let ids = (try? JSONSerialization.jsonObject(with: Data(json))) as? [String: Int] else {
        throw BadInput("\(encoder) is not a JSON object of token ids")
    }
    var vocabulary = VocabularyFile(path: encoder)
    for (name, id) in ids { try vocabulary.add(name, id: id) }
    var list: [BytePairTokenizer.Merge] = []
    let lines = String(decoding: try contents(merges), as: UTF8.self).split(separator: "\n",
                                                                            omittingEmptySubsequences: false)
    for (index, line) in lines.enumerated() where !line.isEmpty {
        if index == 0, line.hasPrefix("#version") { continue }
        list.append(try vocabulary.merge(line.split(separator: " ").map(String.init),
                                         where: "\(merges) line \(index + 1)"))
    }
    return try vocabulary.tokenizer(merges: list, style: BytePairTokenizer.Style())
}

private func contents(_ path: String) throws(BadInput) -> [UInt8] {
    let file = try MappedFile(path)
    return unsafe file.bytes.withUnsafeBufferPointer { unsafe Array($0) }
}
