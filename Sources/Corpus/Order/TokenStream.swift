import Base

/// Tokens in memory, as narrow as their vocabulary allows, or in a mapped file. End-of-document tokens are
/// not among them: they stand between documents, and `TokenStream` knows where.
package enum TokenStorage {
    case bytes([UInt8])
    case narrow([UInt16])
    case wide([Int32])
    case file(TokenFile)

    /// Writes the tokens at `range` to `output`, from its element `begin` on.
    func copy(_ range: Range<Int>, into output: inout [Int32], at begin: Int) {
        switch self {
        case .bytes(let tokens): Self.widen(tokens.span.extracting(range), into: &output, at: begin)
        case .narrow(let tokens): Self.widen(tokens.span.extracting(range), into: &output, at: begin)
        case .wide(let tokens): Self.widen(tokens.span.extracting(range), into: &output, at: begin)
        case .file(let tokens): tokens.copy(range, into: &output, at: begin)
        }
    }

    private static func widen<T: FixedWidthInteger>(_ tokens: Span<T>, into output: inout [Int32],
                                                    at begin: Int) {
        var place = output.mutableSpan
        for index in tokens.indices { place[begin + index] = Int32(truncatingIfNeeded: tokens[index]) }
    }
}

/// Documents one after the other, as the model sees them: EOT, document, EOT, document, EOT.
///
/// **Positions.** Document d with n tokens takes n + 1 input positions, its leading EOT and its tokens; the
/// target of a position is the token at the next one, so the document's own targets are its n tokens and
/// the EOT that ends it. `length` counts inputs, and as many targets: everything except the first EOT is a
/// target exactly once if each position is used once. So any way to use all data exactly once is a way to
/// cut 0..<length into pieces, which need no overlap.
package struct TokenStream {
    package struct Document {
        /// Which of `storage` holds it, and where.
        package var storage: Int
        package var offset: Int
        /// Its tokens, without end-of-document tokens.
        package var count: Int

        package init(storage: Int, offset: Int, count: Int) {
            (self.storage, self.offset, self.count) = (storage, offset, count)
        }
    }

    package let endOfDocument: Int32
    package let documents: [Document]
    /// `starts[d]` is the input position of document d's leading EOT; one more entry is `length`.
    package let starts: [Int]
    private let storage: [TokenStorage]

    package init(_ documents: [Document], storage: [TokenStorage], endOfDocument: Int32) {
        self.documents = documents
        self.storage = storage
        self.endOfDocument = endOfDocument
        var starts = [0]
        starts.reserveCapacity(documents.count + 1)
        for document in documents { starts.append(starts.last! + document.count + 1) }
        self.starts = starts
    }

    /// The stream of those documents alone that `isMeant` picks by their number, from the same storage.
    func selecting(_ isMeant: (Int) -> Bool) -> TokenStream {
        TokenStream(documents.indices.filter(isMeant).map { documents[$0] }, storage: storage,
                    endOfDocument: endOfDocument)
    }

    /// The number of input positions.
    package var length: Int { starts[documents.count] }

    /// Writes the tokens at positions `range` to `output` from element `begin` on. `range` may include the
    /// position `length`, where the last EOT is.
    package func copy(_ range: Range<Int>, into output: inout [Int32], at begin: Int) {
        precondition(range.lowerBound >= 0 && range.upperBound <= length + 1, "positions outside the stream")
        var position = range.lowerBound
        var index = document(at: position)
        while position < range.upperBound {
            let target = begin + position - range.lowerBound
            // The last EOT is a document of its own here: `document(at: length)` is documents.count.
            let within = position - starts[index]
            if within == 0 {
                output[target] = endOfDocument
                position += 1
                if index == documents.count { return }
            } else {
                let document = documents[index]
                let count = min(document.count - (within - 1), range.upperBound - position)
                let first = document.offset + within - 1
                storage[document.storage].copy(first..<(first + count), into: &output, at: target)
                position += count
            }
            if position == starts[index + 1] { index += 1 }
        }
    }

    /// The document that holds `position`: the last one that starts at or before it.
    package func document(at position: Int) -> Int {
        var low = 0, high = starts.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if starts[middle] <= position { low = middle } else { high = middle }
        }
        return low
    }
}
