/// Turns documents into token streams. Token files are used as they are; bytes are their own tokens, so with
/// the byte tokenizer the texts are shared; any other tokenizer encodes them document by document.
struct StreamBuilder {
    private let source: SourceDocuments
    private let tokenizer: any Tokenizer

    init(_ source: SourceDocuments, _ tokenizer: any Tokenizer) {
        self.source = source
        self.tokenizer = tokenizer
    }

    func stream(_ documents: [SourceDocuments.Document]) -> TokenStream {
        var narrow: [UInt16] = [], wide: [Int32] = [], tokens: [Int32] = []
        let isNarrow = tokenizer.vocabularySize <= 1 << 16, isBytes = tokenizer is ByteTokenizer
        let entries = documents.map { document -> TokenStream.Document in
            // Storage 0 is what was text; token files follow.
            let storage = document.file.map { $0 + 1 } ?? 0
            if isBytes || storage > 0 {
                let range = document.range
                return .init(storage: storage, offset: range.lowerBound, count: range.count)
            }
            tokens.removeAll(keepingCapacity: true)
            tokenizer.encode(source.text.span.extracting(document.range), into: &tokens)
            let offset = isNarrow ? narrow.count : wide.count
            if isNarrow {
                for token in tokens { narrow.append(UInt16(token)) }
            } else {
                wide.append(contentsOf: tokens)
            }
            return .init(storage: 0, offset: offset, count: tokens.count)
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
