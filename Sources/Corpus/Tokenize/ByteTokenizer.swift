import Base

/// Bytes as tokens (ByT5, 2105.13626, without its two other special ids): ids 0...255 are the bytes and
/// 256 ends a document, so the vocabulary is 257.
public struct ByteTokenizer: Tokenizer, Equatable {
    public init() {}

    public var name: String { "bytes" }
    public var vocabularySize: Int { 257 }
    public var endOfDocument: Int32 { 256 }

    public func encode(_ text: Span<UInt8>, into tokens: inout [Int32]) {
        tokens.reserveCapacity(tokens.count + text.count)
        for index in text.indices { tokens.append(Int32(text[index])) }
    }

    public func decode(_ tokens: Span<Int32>, into text: inout [UInt8]) {
        text.reserveCapacity(text.count + tokens.count)
        for index in tokens.indices {
            if let byte = UInt8(exactly: tokens[index]) { text.append(byte) }
        }
    }

    public var fingerprint: UInt32 { CRC32C.checksum(Array(name.utf8)) }

    public func byteCount(_ token: Int32) -> Int { token == endOfDocument ? 0 : 1 }

    /// A byte-level BPE without merges says the same thing in Hugging Face's format: the vocabulary maps
    /// the byte alphabet's letters to the bytes that they stand for.
    public var json: [UInt8] {
        var style = BytePairTokenizer.Style()
        style.pattern = nil
        return tokenizerJSON(vocabulary: (0..<256).map { [UInt8($0)] } + [[]], merges: [],
                             added: [.end(endOfDocument)], style: style, postProcessor: "null")
    }
}
