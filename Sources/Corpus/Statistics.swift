import Base

/// What a token costs a model, forward and backward: some operations whatever it sees, and some for each token that
/// it looks back at.
public struct TokenCost: Sendable, Equatable {
    public var each: Double
    public var context: Double

    public init(each: Double, context: Double) {
        self.each = each
        self.context = context
    }
}

/// Documents that have from `length` to twice as many tokens, less one.
public struct LengthClass: Sendable, Equatable {
    public var length: Int
    public var documents: Int
    public var tokens: Int
}

/// What rows of one layout would be like.
public struct LayoutStatistics: Sendable, Equatable {
    /// The rows of one length.
    public struct Bucket: Sendable, Equatable {
        public var length: Int
        public var sequences: Int
        /// Targets in them.
        public var tokens: Int
    }

    public var name: String
    /// The shortest first. Of a decomposition, without the rests; of a packing, one.
    public var buckets: [Bucket]
    /// Rows of the shortest bucket that rests of documents share, and the tokens in them.
    public var restRows: Int
    public var restTokens: Int
    /// Positions that are computed, padding included.
    public var inputs: Int
    /// Summed over these positions: how many before it each looks back at.
    public var contextSum: Double

    public var tokens: Int { buckets.reduce(restTokens) { $0 + $1.tokens } }
    /// Mean attention context (2405.13226, section 3: sum of l (l - 1) over twice the sum of l).
    public var meanContext: Double { contextSum / Double(max(inputs, 1)) }
    /// The share of positions that are no padding.
    public var efficiency: Double { Double(tokens) / Double(max(inputs, 1)) }

    /// Operations for each token that is learnt.
    public func cost(_ model: TokenCost) -> Double {
        (model.each * Double(inputs) + model.context * contextSum) / Double(max(tokens, 1))
    }
}

/// The lengths of documents, and what follows from them alone.
public struct DataStatistics {
    /// Tokens of each document, its end-of-document token included.
    public let lengths: [Int]
    /// Documents for training, for validation and for testing, whatever `lengths` is of.
    public private(set) var documents = (train: 0, valid: 0, test: 0)
    /// Bytes of text of the documents in `lengths`.
    public private(set) var textBytes = 0
    /// What was passed over or guessed, a line each.
    public private(set) var notes: [String] = []
    private let stream: TokenStream

    /// Which documents to look at.
    public enum Part: String, Sendable, CaseIterable { case all, train, valid }

    /// Reads `sources`, or only the index of prepared data. Throws as `Corpus` does.
    public init(sources: [String], tokenizer: any Tokenizer, part: Part, separator: String = "") throws(BadInput) {
        let source = try SourceDocuments(sources, tokenizer: tokenizer, separator: separator)
        let parts = DocumentParts(source)
        let chosen: [SourceDocuments.Document] = switch part {
        case .all: source.documents
        case .train: parts.train
        case .valid: parts.validation
        }
        let builder = StreamBuilder(source, tokenizer)
        self.init(lengths: builder.stream(chosen).documents.map { $0.count + 1 })
        let splits = splits(of: source.documents.map { ($0.split, $0.hash) })
        documents = (parts.train.count, parts.validation.count, splits.count { $0 == .test })
        textBytes = builder.byteCount(chosen)
        notes = source.notes.lines
    }

    package init(lengths: [Int]) {
        self.lengths = lengths
        stream = TokenStream(lengths.map { .init(storage: 0, offset: 0, count: $0 - 1) }, storage: [],
                             endOfDocument: 0)
    }

    public var tokens: Int { stream.length }

    /// Documents by powers of two, from the shortest class that has any to the longest.
    public var histogram: [LengthClass] {
        guard let shortest = lengths.min(), let longest = lengths.max() else { return [] }
        var classes = (magnitude(shortest)...magnitude(longest)).map {
            LengthClass(length: 1 << $0, documents: 0, tokens: 0)
        }
        for length in lengths {
            classes[magnitude(length) - magnitude(shortest)].documents += 1
            classes[magnitude(length) - magnitude(shortest)].tokens += length
        }
        return classes
    }

    /// The share `part` of documents is no longer than this.
    public func length(at part: Double) -> Int {
        let sorted = lengths.sorted()
        return sorted.isEmpty ? 0 : sorted[min(sorted.count - 1, Int(part * Double(sorted.count)))]
    }

    /// Rows of `sequence`, packed by `method`. Without the document mask every row is one segment.
    public func packed(_ method: PackingMethod, sequence: Int, documentMask: Bool) -> LayoutStatistics {
        let table = packedRows(stream, sequence: sequence, method: method)
        return LayoutStatistics(
            name: method.rawValue + (documentMask ? "" : ", no mask"),
            buckets: [.init(length: sequence, sequences: table.count, tokens: table.tokenCount)], restRows: 0,
            restTokens: 0, inputs: table.count * sequence, contextSum: contextSum(table, documentMask: documentMask))
    }

    /// Rows of powers of two; each piece is of one document, so the mask makes no difference but for the rests.
    public func decomposed(_ plan: Decomposition) -> LayoutStatistics {
        let buckets = Buckets(stream, plan), rests = buckets.tables[0].count - buckets.restRowCount
        var restTokens = 0
        for row in rests..<buckets.tables[0].count {
            restTokens += buckets.tables[0][row].reduce(0) { $0 + $1.count }
        }
        let name = switch plan.mode {
        case .greedy: "greedy"
        case .random: "random"
        case .quota: "quota"
        }
        return LayoutStatistics(
            name: name, buckets: buckets.tables.enumerated().map { index, table in
                .init(length: table.sequence, sequences: index == 0 ? rests : table.count,
                      tokens: table.tokenCount - (index == 0 ? restTokens : 0))
            },
            restRows: buckets.restRowCount, restTokens: restTokens,
            inputs: buckets.tables.reduce(0) { $0 + $1.count * $1.sequence },
            contextSum: buckets.tables.reduce(0) { $0 + contextSum($1, documentMask: true) })
    }

    private func contextSum(_ table: RowTable, documentMask: Bool) -> Double {
        func segment(_ length: Int) -> Double { Double(length) * Double(length - 1) / 2 }
        guard documentMask else { return Double(table.count) * segment(table.sequence) }
        var sum = 0.0
        for row in 0..<table.count {
            var used = 0
            for piece in table[row] {
                used += piece.count
                let end = piece.position + piece.count
                var begin = piece.position, document = stream.document(at: begin)
                while begin < end {
                    let next = min(end, stream.starts[document + 1])
                    sum += segment(next - begin)
                    (begin, document) = (next, document + 1)
                }
            }
            sum += segment(table.sequence - used)
        }
        return sum
    }
}
