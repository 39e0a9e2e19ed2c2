import Base

/// Text to token ids and back. A tokenizer is a value without moving parts: the same bytes give the same
/// ids on every rank, in every run, in any thread.
public protocol Tokenizer: Sendable {
    /// "bytes" or "bpe", for people.
    var name: String { get }

    /// Ids are 0..<vocabularySize.
    var vocabularySize: Int { get }

    /// The one id that no text encodes to. It ends a document and begins the next one, so a stream of
    /// documents is EOT, document, EOT, document, EOT.
    var endOfDocument: Int32 { get }

    /// CRC-32C of everything that decides ids: equal for tokenizers that encode alike.
    var fingerprint: UInt32 { get }

    /// Appends the ids of `text`, which need not be valid UTF-8. Never appends `endOfDocument`.
    func encode(_ text: Span<UInt8>, into tokens: inout [Int32])

    /// A place of `text` at or after `start` where it may be cut: both parts encoded one after the other give the ids
    /// of the whole. Nil where there is none, or none is known.
    func cut(_ text: Span<UInt8>, atOrAfter start: Int) -> Int?

    /// Appends the bytes of `tokens`. Single tokens may be parts of a character, so the result is UTF-8
    /// only where the tokens end at a character. `endOfDocument` and ids outside the vocabulary are left out.
    func decode(_ tokens: Span<Int32>, into text: inout [UInt8])

    /// How many bytes of text `token` stands for: 0 for `endOfDocument`.
    func byteCount(_ token: Int32) -> Int

    /// The whole tokenizer as a `tokenizer.json` in Hugging Face's format. A checkpoint carries it, and
    /// `parseTokenizer(json:path:)` reads it back.
    var json: [UInt8] { get }
}

extension Tokenizer {
    public func cut(_ text: Span<UInt8>, atOrAfter start: Int) -> Int? { nil }

    public func encode(_ text: String) -> [Int32] {
        var tokens: [Int32] = []
        encode(Array(text.utf8).span, into: &tokens)
        return tokens
    }

    public func decode(_ tokens: [Int32]) -> [UInt8] {
        var text: [UInt8] = []
        decode(tokens.span, into: &text)
        return text
    }
}
