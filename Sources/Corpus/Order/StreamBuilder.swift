/// Turns documents into token streams. Token files are used as they are; bytes are their own tokens, so with
/// the byte tokenizer the texts are shared; any other tokenizer encodes them, on so many threads.
struct StreamBuilder {
    private let source: SourceDocuments
    private let tokenizer: any Tokenizer
    private let threads: Int

    init(_ source: SourceDocuments, _ tokenizer: any Tokenizer, threads: Int = 1) {
        self.source = source
        self.tokenizer = tokenizer
        self.threads = threads
    }

    func stream(_ documents: [SourceDocuments.Document]) -> TokenStream {
        let isNarrow = tokenizer.vocabularySize <= 1 << 16, isBytes = tokenizer is ByteTokenizer
        var narrow: [UInt16] = [], wide: [Int32] = [], counts: [Int] = []
        if !isBytes {
            let texts = documents.filter { $0.file == nil }.map(\.range)
            let encoder = StreamEncoder(tokenizer: tokenizer, threads: threads)
            if isNarrow {
                (narrow, counts) = encoder.encode(texts, of: source.text, as: UInt16.self)
            } else {
                (wide, counts) = encoder.encode(texts, of: source.text, as: Int32.self)
            }
        }
        var offset = 0, next = 0
        let entries = documents.map { document -> TokenStream.Document in
            // Storage 0 is what was text; token files follow.
            let storage = document.file.map { $0 + 1 } ?? 0
            if isBytes || storage > 0 {
                let range = document.range
                return .init(storage: storage, offset: range.lowerBound, count: range.count)
            }
            defer { (offset, next) = (offset + counts[next], next + 1) }
            return .init(storage: 0, offset: offset, count: counts[next])
        }
        let text: TokenStorage = isBytes ? .bytes(source.text) : isNarrow ? .narrow(narrow) : .wide(wide)
        return TokenStream(entries, storage: [text] + source.tokenFiles.map { .file($0) },
                           endOfDocument: tokenizer.endOfDocument)
    }

    /// Bytes of text that `documents` stand for.
    func byteCount(_ documents: [SourceDocuments.Document]) -> Int {
        documents.reduce(0) { sum, document in
            guard let file = document.file else { return sum + document.range.count }
            if let known = document.textBytes { return sum + known }
            return sum + source.tokenFiles[file].byteCount(document.range, tokenizer)
        }
    }
}
