import Base

/// A byte-level byte-pair encoding as GPT-2's (Radford et al., 2019): text is cut into words, a word's bytes
/// are joined pair by pair in the order in which training learnt the pairs. Any bytes can be encoded; there
/// is no unknown token. Text that looks like a special token is text (as with `encode_special_tokens` of
/// Hugging Face's `tokenizers`); added tokens that are not special are found in text before it is cut.
public final class BytePairTokenizer: Tokenizer {
    /// One learnt pair: `left` and `right` become `result`.
    package struct Merge: Equatable, Sendable {
        package var left: Int32
        package var right: Int32
        package var result: Int32
        package init(left: Int32, right: Int32, result: Int32) {
            (self.left, self.right, self.result) = (left, right, result)
        }
    }

    /// What a vocabulary file says beside its tokens and merges.
    package struct Style: Equatable, Sendable {
        /// How text is cut into words; nil: a text is one word.
        package var pattern: WordPattern? = .gpt2
        /// Whether a space goes before a text that begins with none, and before one behind an added token.
        package var addsPrefixSpace = false
        /// Whether a word that is a token is taken whole, whatever its merges say.
        package var ignoresMerges = false
        /// Whether text is brought into Unicode's normal form C first. Added tokens that are not "normalized" are found
        /// before that, the others behind it.
        package var composes = false
        package init() {}
    }

    public let vocabularySize: Int
    public let endOfDocument: Int32
    public let fingerprint: UInt32
    package let merges: [Merge]
    package let style: Style
    /// The added tokens by their ids; `endOfDocument` is one.
    package let added: [AddedToken]
    /// The post-processor of the file, as JSON. It puts special tokens around texts where it is asked to,
    /// which is never here.
    package let postProcessor: String
    private let finder: AddedTokenFinder?
    private let vocabulary: Vocabulary
    private let pairs: PairTable
    private let byteTokens: [Int32]

    public var name: String { "bpe" }

    /// `tokens[id]` are a token's bytes; `merges` come most important first. Every byte must be a token.
    /// `added` has the added tokens, by default a plain one for the end of document.
    package init(tokens: [[UInt8]], merges: [Merge], endOfDocument: Int32, style: Style = Style(),
                 added: [AddedToken]? = nil, postProcessor: String = "null") {
        vocabularySize = tokens.count
        self.endOfDocument = endOfDocument
        self.merges = merges
        self.style = style
        self.added = added ?? [.end(endOfDocument)]
        self.postProcessor = postProcessor
        finder = AddedTokenFinder(self.added, composes: style.composes)
        let apart = Set(self.added.filter { !$0.isWord }.map(\.id)).union([endOfDocument])
        var pairs = PairTable(capacity: merges.count)
        for (rank, merge) in merges.enumerated() {
            pairs.insert(merge.left, merge.right, PairTable.value(rank: rank, result: merge.result))
        }
        var byteTokens = [Int32](repeating: -1, count: 256)
        for (id, token) in tokens.enumerated() where token.count == 1 && !apart.contains(Int32(id)) {
            if byteTokens[Int(token[0])] < 0 { byteTokens[Int(token[0])] = Int32(id) }
        }
        precondition(!byteTokens.contains(-1), "a byte-level vocabulary has a token for each byte")
        fingerprint = bytePairFingerprint(tokens: tokens, merges: merges, endOfDocument: endOfDocument,
                                          style: style, added: self.added)

        // Words that are tokens are found by one look-up. It must say what merging would, so only tokens
        // that their own merges lead to are indexed: all of them, where the vocabulary comes from training.
        var vocabulary = Vocabulary(tokens)
        var word = BytePairMerge()
        for (id, token) in tokens.enumerated() where !token.isEmpty && !apart.contains(Int32(id)) {
            word.symbols = token.map { byteTokens[Int($0)] }
            if !style.ignoresMerges { word.merge(pairs) }
            if style.ignoresMerges || word.symbols == [Int32(id)] { vocabulary.index(Int32(id)) }
        }
        self.vocabulary = vocabulary
        self.pairs = pairs
        self.byteTokens = byteTokens
    }

    public func encode(_ text: Span<UInt8>, into tokens: inout [Int32]) {
        guard let finder else {
            if style.composes, let text = CanonicalComposition.composed(text) {
                encodePiece(text.span, into: &tokens)
            } else {
                encodePiece(text, into: &tokens)
            }
            return
        }
        for piece in finder.pieces(text, normalized: false) {
            if let token = piece.token {
                tokens.append(token)
            } else if style.composes, let text = CanonicalComposition.composed(text.extracting(piece.range)) {
                encodeNormalized(text.span, finder, into: &tokens)
            } else {
                encodeNormalized(text.extracting(piece.range), finder, into: &tokens)
            }
        }
    }

    /// Between a letter or digit of ASCII and a space. No pattern has a word that goes on from the one to the other,
    /// and none looks back; nor does a mark behind the space compose with what is before it. Added tokens may go
    /// across, and without a pattern a text is one word.
    public func cut(_ text: Span<UInt8>, atOrAfter start: Int) -> Int? {
        guard finder == nil, style.pattern != nil else { return nil }
        var place = max(start, 1)
        while place < text.count {
            if text[place] == UInt8(ascii: " ") {
                switch text[place - 1] {
                case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                     UInt8(ascii: "a")...UInt8(ascii: "z"): return place
                default: break
                }
            }
            place += 1
        }
        return nil
    }

    private func encodeNormalized(_ text: Span<UInt8>, _ finder: AddedTokenFinder, into tokens: inout [Int32]) {
        for piece in finder.pieces(text, normalized: true) {
            if let token = piece.token {
                tokens.append(token)
            } else {
                encodePiece(text.extracting(piece.range), into: &tokens)
            }
        }
    }

    private func encodePiece(_ text: Span<UInt8>, into tokens: inout [Int32]) {
        guard style.addsPrefixSpace, !text.isEmpty, text[0] != UInt8(ascii: " ") else {
            encodeWords(text, into: &tokens)
            return
        }
        var spaced = [UInt8(ascii: " ")]
        for index in text.indices { spaced.append(text[index]) }
        encodeWords(spaced.span, into: &tokens)
    }

    private func encodeWords(_ text: Span<UInt8>, into tokens: inout [Int32]) {
        let classes = WordSplitter.classes, isGPT2 = style.pattern == .gpt2
        var scratch = BytePairMerge()
        var begin = 0
        while begin < text.count {
            let end = if isGPT2 {
                WordSplitter.wordEnd(text, from: begin, classes: classes.span)
            } else if let pattern = style.pattern {
                WordSplitter.wordEnd(text, from: begin, classes: classes.span, pattern: pattern)
            } else {
                text.count
            }
            encode(word: text.extracting(begin..<end), into: &tokens, &scratch)
            begin = end
        }
    }

    private func encode(word: Span<UInt8>, into tokens: inout [Int32], _ scratch: inout BytePairMerge) {
        let whole = vocabulary.find(word)
        if whole >= 0 {
            tokens.append(whole)
            return
        }
        scratch.symbols.removeAll(keepingCapacity: true)
        for index in word.indices { scratch.symbols.append(byteTokens[Int(word[index])]) }
        scratch.merge(pairs)
        tokens.append(contentsOf: scratch.symbols)
    }

    public func decode(_ tokens: Span<Int32>, into text: inout [UInt8]) {
        for index in tokens.indices {
            let id = tokens[index]
            guard id >= 0, id < vocabularySize, id != endOfDocument else { continue }
            text.append(contentsOf: vocabulary.bytes(id))
        }
    }

    public func byteCount(_ token: Int32) -> Int {
        token == endOfDocument ? 0 : vocabulary.byteCount(token)
    }

    public var json: [UInt8] {
        tokenizerJSON(vocabulary: (0..<Int32(vocabularySize)).map { Array(vocabulary.bytes($0)) },
                      merges: merges.map { ($0.left, $0.right) }, added: added, style: style,
                      postProcessor: postProcessor)
    }
}

/// CRC-32C of all that decides ids: tokens and merges, and where they are not GPT-2's, the way of cutting words
/// and the added tokens; `unicode` is the version of the table that words are cut by, which is left out for
/// GPT-2's way over Unicode 16, so that those tokenizers keep the fingerprints they had before there were others.
package func bytePairFingerprint(tokens: [[UInt8]], merges: [BytePairTokenizer.Merge], endOfDocument: Int32,
                                 style: BytePairTokenizer.Style, added: [AddedToken],
                                 unicode: String = UnicodeClasses.version) -> UInt32 {
    var digest = ByteWriter()
    func append(_ text: String) {
        digest.append(UInt32(text.utf8.count))
        digest.append(bytes: Array(text.utf8))
    }
    for merge in merges {
        digest.append(merge.left)
        digest.append(merge.right)
    }
    for (id, token) in tokens.enumerated() where id != endOfDocument {
        digest.append(UInt32(token.count))
        digest.append(bytes: token)
    }
    digest.append(endOfDocument)
    let isPlain = added.allSatisfy { $0.id == endOfDocument && $0.content == endOfDocumentText }
    if style == BytePairTokenizer.Style(), isPlain, unicode == "16.0" { return CRC32C.checksum(digest.bytes) }
    append(unicode)
    append("\(style.pattern?.regex ?? "") \(style.addsPrefixSpace) \(style.ignoresMerges)"
        + (style.composes ? " NFC" : ""))
    for token in added {
        digest.append(token.id)
        append(token.content)
        append("\(token.isSpecial) \(token.isNormalized)")
    }
    return CRC32C.checksum(digest.bytes)
}
