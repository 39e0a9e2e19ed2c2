import Base

/// A token that stands beside the vocabulary, as `added_tokens` of a `tokenizer.json` lists it.
package struct AddedToken: Equatable, Sendable {
    package var id: Int32
    package var content: String
    /// Special tokens are for those who put ids together; where a text has one written out, it stays text.
    package var isSpecial: Bool
    /// Normalized tokens are looked for after the others.
    package var isNormalized: Bool
    /// Flags that would move the borders of a match. Only special tokens, which are never matched, have them.
    package var flags: [String: Bool] = [:]
    /// Whether the model's vocabulary has the token too, rather than its id coming behind it.
    package var isInModel = true
    /// Whether merges may lead to it as well.
    package var isWord = false

    package static let flagNames = ["single_word", "lstrip", "rstrip"]

    package init(id: Int32, content: String, isSpecial: Bool, isNormalized: Bool) {
        (self.id, self.content, self.isSpecial, self.isNormalized) = (id, content, isSpecial, isNormalized)
    }

    /// The plain token between documents.
    static func end(_ id: Int32) -> AddedToken {
        AddedToken(id: id, content: endOfDocumentText, isSpecial: true, isNormalized: false)
    }
}

/// Finds added tokens in text as Hugging Face's `tokenizers` does with `encode_special_tokens`: from the left,
/// the longest of those that begin at a place; first the tokens that are not normalized in the whole text, then
/// the normalized ones in what is left. A special token takes part, so that nothing within it is found in the
/// same pass, but it stays text.
struct AddedTokenFinder: Sendable {
    struct Piece {
        var range: Range<Int>
        /// nil for text.
        var token: Int32?
    }

    private let plain: Trie
    private let normalized: Trie

    /// nil where every added token is special, so that all text stays text.
    init?(_ tokens: [AddedToken], composes: Bool) {
        guard tokens.contains(where: { !$0.isSpecial }) else { return nil }
        plain = Trie(tokens.filter { !$0.isNormalized }) { $0 }
        // What is looked for in a normalized text has to be normalized itself.
        normalized = Trie(tokens.filter(\.isNormalized)) { text in
            composes ? CanonicalComposition.composed(text.span) ?? text : text
        }
    }

    /// `text` in pieces, none of them empty, cut where tokens of one kind stand: first those that are looked for in the
    /// text as it is, then, in what is left of it, those that are looked for in the normalized text.
    func pieces(_ text: Span<UInt8>, normalized isNormalized: Bool) -> [Piece] {
        var pieces: [Piece] = []
        (isNormalized ? normalized : plain).cut(text, text.indices, into: &pieces)
        return pieces
    }

    /// The tokens of one pass by their bytes.
    private struct Trie {
        private struct Node {
            var bytes: [UInt8] = []
            var children: [Int] = []
            /// The token that ends here, if any, and whether it is to stay text.
            var token: Int32 = -1
            var isText = false
        }

        private var nodes = [Node()]
        private var begins = [Bool](repeating: false, count: 256)
        var isEmpty: Bool { nodes.count == 1 }

        init(_ tokens: [AddedToken], _ form: ([UInt8]) -> [UInt8]) {
            for token in tokens {
                let content = form(Array(token.content.utf8))
                var node = 0
                for byte in content { node = child(of: node, byte) }
                nodes[node].token = token.id
                nodes[node].isText = token.isSpecial
                if let first = content.first { begins[Int(first)] = true }
            }
        }

        private mutating func child(of node: Int, _ byte: UInt8) -> Int {
            if let place = nodes[node].bytes.firstIndex(of: byte) { return nodes[node].children[place] }
            nodes[node].bytes.append(byte)
            nodes[node].children.append(nodes.count)
            nodes.append(Node())
            return nodes.count - 1
        }

        func cut(_ text: Span<UInt8>, _ range: Range<Int>, into pieces: inout [Piece]) {
            var begin = range.lowerBound, place = begin
            while place < range.upperBound {
                guard begins[Int(text[place])], let found = longest(text, place..<range.upperBound) else {
                    place += 1
                    continue
                }
                if !nodes[found.node].isText {
                    if begin < place { pieces.append(Piece(range: begin..<place, token: nil)) }
                    pieces.append(Piece(range: place..<found.end, token: nodes[found.node].token))
                    begin = found.end
                }
                place = found.end
            }
            if begin < place { pieces.append(Piece(range: begin..<place, token: nil)) }
        }

        private func longest(_ text: Span<UInt8>, _ range: Range<Int>) -> (node: Int, end: Int)? {
            var node = 0, found: (node: Int, end: Int)?
            for place in range {
                guard let edge = nodes[node].bytes.firstIndex(of: text[place]) else { break }
                node = nodes[node].children[edge]
                if nodes[node].token >= 0 { found = (node, place + 1) }
            }
            return found
        }
    }
}
