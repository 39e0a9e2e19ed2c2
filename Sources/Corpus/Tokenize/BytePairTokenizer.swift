import Base

/// A byte-level byte-pair encoding as GPT-2's (Radford et al., 2019): text is cut into words, a word's bytes
/// are joined pair by pair in the order in which training learnt the pairs. Any bytes can be encoded; there
/// is no unknown token. Text that looks like a special token is text.
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
        /// Whether GPT-2's pattern cuts text into words; otherwise a text is one word.
        package var splitsWords = true
        /// Whether a space goes before a text that begins with none.
        package var addsPrefixSpace = false
        /// Whether a word that is a token is taken whole, whatever its merges say.
        package var ignoresMerges = false
        package init() {}
    }

    public let vocabularySize: Int
    public let endOfDocument: Int32
    public let fingerprint: UInt32
    package let merges: [Merge]
    package let style: Style
    private let vocabulary: Vocabulary
    private let pairs: PairTable
    private let byteTokens: [Int32]

    public var name: String { "bpe" }

    /// `tokens[id]` are a token's bytes; `merges` come most important first. Every byte must be a token.
    package init(tokens: [[UInt8]], merges: [Merge], endOfDocument: Int32, style: Style = Style()) {
        vocabularySize = tokens.count
        self.endOfDocument = endOfDocument
        self.merges = merges
        self.style = style
        var pairs = PairTable(capacity: merges.count)
        var digest = ByteWriter()
        for (rank, merge) in merges.enumerated() {
            pairs.insert(merge.left, merge.right, PairTable.value(rank: rank, result: merge.result))
            digest.append(merge.left)
            digest.append(merge.right)
        }
        var byteTokens = [Int32](repeating: -1, count: 256)
        for (id, token) in tokens.enumerated() where id != endOfDocument {
            if token.count == 1, byteTokens[Int(token[0])] < 0 { byteTokens[Int(token[0])] = Int32(id) }
            digest.append(UInt32(token.count))
            digest.append(bytes: token)
        }
        precondition(!byteTokens.contains(-1), "a byte-level vocabulary has a token for each byte")
        digest.append(endOfDocument)
        fingerprint = CRC32C.checksum(digest.bytes)

        // Words that are tokens are found by one look-up. It must say what merging would, so only tokens
        // that their own merges lead to are indexed: all of them, where the vocabulary comes from training.
        var vocabulary = Vocabulary(tokens)
        var word = BytePairMerge()
        for (id, token) in tokens.enumerated() where id != endOfDocument && !token.isEmpty {
            word.symbols = token.map { byteTokens[Int($0)] }
            if !style.ignoresMerges { word.merge(pairs) }
            if style.ignoresMerges || word.symbols == [Int32(id)] { vocabulary.index(Int32(id)) }
        }
        self.vocabulary = vocabulary
        self.pairs = pairs
        self.byteTokens = byteTokens
    }

    public func encode(_ text: Span<UInt8>, into tokens: inout [Int32]) {
        guard style.addsPrefixSpace, !text.isEmpty, text[0] != UInt8(ascii: " ") else {
            encodeWords(text, into: &tokens)
            return
        }
        var spaced = [UInt8(ascii: " ")]
        for index in text.indices { spaced.append(text[index]) }
        encodeWords(spaced.span, into: &tokens)
    }

    private func encodeWords(_ text: Span<UInt8>, into tokens: inout [Int32]) {
        let classes = WordSplitter.classes
        var scratch = BytePairMerge()
        var begin = 0
        while begin < text.count {
            let end = style.splitsWords
                ? WordSplitter.wordEnd(text, from: begin, classes: classes.span) : text.count
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
                      merges: merges.map { ($0.left, $0.right) }, endOfDocument: endOfDocument, style: style)
    }
}
