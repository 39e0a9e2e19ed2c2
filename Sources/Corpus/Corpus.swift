import Base

/// How training documents become rows.
public enum RowLayout: Sendable, Equatable {
    /// Rows of one length.
    case packed(PackingMethod)
    /// Rows of powers of two, a bucket for each; `sequence` is the longest.
    case decomposed(Decomposition)
}

public struct CorpusOptions: Sendable {
    /// Text files, folders of text, texts with document tables, JSON lines, token files; see `Corpus`.
    public var sources: [String]
    /// Where texts are cut into documents; empty: nowhere.
    public var separator = ""
    /// Inputs in a row, the longest one where lengths differ.
    public var sequence: Int
    /// Names the order of rows.
    public var seed: UInt64
    /// Whether attention stops at documents' ends; otherwise only at rows' ends.
    public var documentMask: Bool
    public var layout: RowLayout
    /// How validation documents become rows of `sequence`.
    public var validationLayout: PackingMethod
    /// `documentMask` of validation rows.
    public var validationMask: Bool
    /// Threads that encode texts. The tokens do not depend on them.
    public var threads = 1
    /// How much of each source is read; nil: all of everything, mixed as it comes.
    public var weights: SourceWeights?

    public init(sources: [String], sequence: Int, seed: UInt64, documentMask: Bool = true,
                layout: RowLayout = .packed(.concatenate), validationLayout: PackingMethod = .concatenate,
                validationMask: Bool? = nil) {
        self.sources = sources
        self.sequence = sequence
        self.seed = seed
        self.documentMask = documentMask
        self.layout = layout
        self.validationLayout = validationLayout
        self.validationMask = validationMask ?? documentMask
    }
}

/// Texts as rows of tokens to learn from.
///
/// **Rows.** All training documents, in the order of the sources, are one stream (`TokenStream`) that is cut
/// into rows: every `sequence` inputs, or packed, or decomposed into buckets of rows of one length each. A
/// row's targets go one token beyond its inputs, so in each layout an epoch makes every token a target
/// exactly once (the very first EOT is never one). Rows that are not full end in targets of -1.
///
/// **Order.** The rows of a bucket are numbered over the whole run: a training step takes the next numbers
/// and each rank its part of them. Number r is row `Permutation(seed, bucket, epoch)[r % rowsPerEpoch]` of
/// epoch r / rowsPerEpoch. So what a step reads is a pure function of (sources, seed, step), for any number
/// of ranks. With one bucket the position to save is the number; with several it is a `DataPosition`.
///
/// **Weights.** Sources with weights are decomposed or packed each for itself and have epochs of their own: the rows
/// of a bucket are numbered as before, and number r belongs to one source, see `Mixture`.
///
/// **Validation.** Held-out documents (`splits(of:)`, `cutPoint(of:)`) are a second stream, read in order.
///
/// Opening reads all texts into memory: one byte a token for bytes, two for vocabularies up to 65,536. Token
/// files stay mapped.
public final class Corpus {
    public let options: CorpusOptions
    public let tokenizer: any Tokenizer
    /// CRC-32C over the tokenizer's fingerprint and all sources with their names, lengths and tables: equal
    /// for equal data, wherever it lies. A resumed run compares it.
    public let fingerprint: UInt32
    /// What was passed over or guessed while the sources were read, a line each.
    public let notes: [String]

    /// Tokens that are targets in an epoch.
    public var trainTokenCount: Int { train.length }
    public var trainDocumentCount: Int { train.documents.count }
    public var validationTokenCount: Int { validation.length }
    public var validationDocumentCount: Int { validation.documents.count }
    public var validationRowCount: Int { validationTable.count }
    /// Bytes of text in all validation rows. Bits per byte are the summed nats of all validation targets, the
    /// EOT that ends each document included, over ln 2 over this.
    public let validationByteCount: Int

    package let train: TokenStream
    package let validation: TokenStream
    /// What is read separately: the training documents of each source with weights, or all of them.
    private let streams: [TokenStream]
    /// The rows of each stream's buckets, the shortest first.
    package let tables: [[RowTable]]
    private var mixture: Mixture?
    private let tokenFiles: [TokenFile]
    package let validationTable: RowTable

    /// Reads the sources. Throws `BadInput` for a source that is missing, empty, unreadable or no text, for
    /// document tables and token files that do not fit, and for a `sequence` longer than the data.
    public init(_ options: CorpusOptions, tokenizer: any Tokenizer) throws(BadInput) {
        precondition(options.sequence > 0, "sequence must be positive")
        self.options = options
        self.tokenizer = tokenizer
        let source = try SourceDocuments(options.sources, tokenizer: tokenizer, separator: options.separator)
        notes = source.notes.lines
        tokenFiles = source.tokenFiles
        var name = ByteWriter()
        name.append(tokenizer.fingerprint)
        name.append(source.fingerprint)
        fingerprint = CRC32C.checksum(name.bytes)
        let parts = DocumentParts(source)
        let builder = StreamBuilder(source, tokenizer, threads: options.threads)
        train = builder.stream(parts.train)
        validation = builder.stream(parts.validation)
        validationByteCount = builder.byteCount(parts.validation)
        guard !train.documents.isEmpty else {
            let names = options.sources.joined(separator: ", ")
            throw BadInput("nothing to train on in \(names): every document is marked valid or test")
        }
        guard options.sequence <= train.length else {
            throw BadInput("a sequence of \(options.sequence) is longer than the data: \(train.length) tokens "
                + "are for training; lower training.seq_len to \(train.length) or less, or add data")
        }
        if let weights = options.weights {
            precondition(weights.phases.allSatisfy { $0.weights.count == options.sources.count }, "a weight each")
            let all = train
            streams = options.sources.indices.map { source in all.selecting { parts.train[$0].source == source } }
            let tables = streams.map { rowTables($0, options) }
            mixture = try Mixture(tables, weights, sources: options.sources)
            self.tables = tables
        } else {
            streams = [train]
            mixture = nil
            tables = [rowTables(train, options)]
        }
        validationTable = packedRows(validation, sequence: options.sequence, method: options.validationLayout)
    }

    /// Buckets of rows of one length each; 1 where all rows are equally long.
    public var bucketCount: Int { tables[0].count }
    /// Inputs in a row of `bucket`.
    public func sequence(ofBucket bucket: Int) -> Int { tables[0][bucket].sequence }
    /// Rows of `bucket` in an epoch, some perhaps partly filled; of all sources, where they have weights.
    public func rowsPerEpoch(inBucket bucket: Int) -> Int { tables.reduce(0) { $0 + $1[bucket].count } }
    /// Rows in an epoch of the only bucket.
    public var rowsPerEpoch: Int { rowsPerEpoch(inBucket: 0) }

    /// Fills `batch` with the training rows of `bucket` numbered `rows`: see Order above. With weights, rows that
    /// `next` has given out. Allocates nothing.
    public func fill(_ batch: Batch, bucket: Int = 0, rows: Range<Int>, limit: SequenceLimit = .none) {
        let shape = begin(batch, tables[0][bucket], limit)
        for number in rows {
            let (source, row) = mixture?.place(number, bucket: bucket) ?? (0, number)
            let table = tables[source][bucket]
            let (epoch, index) = row.quotientAndRemainder(dividingBy: table.count)
            let stream = rowOrderStream + UInt64(source) << 36 + UInt64(bucket) << 32 + UInt64(epoch)
            let order = Permutation(count: table.count, seed: options.seed, stream: stream)
            batch.append(table[order[index]], of: streams[source], documentMask: options.documentMask,
                         window: shape.window)
        }
        if case .reshape = limit { batch.reshape(sequence: shape.window) }
    }

    /// Fills `batch` with validation rows, `rows` in 0..<sample. Where fewer than all are asked for,
    /// `sample` in number, they are spread evenly over all, because neighbours come from one source. Allocates nothing.
    public func fillValidation(_ batch: Batch, rows: Range<Int>, of sample: Int? = nil) {
        let shape = begin(batch, validationTable, .none)
        let sample = sample ?? validationRowCount
        for number in rows {
            let row = number * validationRowCount / sample
            batch.append(validationTable[row], of: validation, documentMask: options.validationMask,
                         window: shape.window)
        }
    }

    private func begin(_ batch: Batch, _ table: RowTable,
                       _ limit: SequenceLimit) -> (sequence: Int, window: Int) {
        let shape = limit.shape(of: table.sequence)
        batch.begin(sequence: shape.sequence)
        return shape
    }

    /// The begin of a run.
    public var start: DataPosition { DataPosition(fingerprint: fingerprint, seed: options.seed) }

    /// The next step's rows, and `position` moved behind them. A step takes `tokens` inputs, a multiple of
    /// `options.sequence`. Allocates nothing.
    public func next(_ position: inout DataPosition, tokens: Int, _ curriculum: Curriculum) -> StepRows {
        precondition(tokens > 0 && tokens % options.sequence == 0, "a step is whole rows of the longest")
        return mixture?.next(&position, tokens: tokens, curriculum)
            ?? position.next(tables[0], tokens: tokens, curriculum)
    }

    /// Throws unless the run that came to `position` took what a run with these weights would have taken. Only where
    /// weights have changed does that matter: then the curriculum and the tokens of a step are part of the past.
    public func checkPast(_ position: DataPosition, tokens: Int, _ curriculum: Curriculum) throws(BadInput) {
        guard let mixture, mixture.weights.phase(at: Int(position.step)) > 0 else { return }
        var replay = start
        while replay.step < position.step { _ = next(&replay, tokens: tokens, curriculum) }
        guard replay.rows == position.rows else {
            throw BadInput("data.weights changed before step \(position.step), and the rows taken until then do not "
                + "follow from this config; keep data.curriculum, data.odds, data.cycles and "
                + "training.global_batch_size as they were, or go on without data.weights in a new run")
        }
    }

    /// The source that row `number` of `bucket` is of, after `next` has given it out; 0 without weights.
    public func source(ofRow number: Int, bucket: Int) -> Int { mixture?.place(number, bucket: bucket).source ?? 0 }

    /// Throws unless `position` belongs to this data and seed.
    public func check(_ position: DataPosition) throws(BadInput) {
        guard position.fingerprint == fingerprint else {
            throw BadInput("the data has changed since the checkpoint was written (its fingerprint is "
                + "\(hexadecimal(position.fingerprint)), now \(hexadecimal(fingerprint))); use the data and "
                + "the tokenizer of that run, or begin a new one")
        }
        guard position.seed == options.seed else {
            throw BadInput("the checkpoint's data order has the seed \(position.seed), not \(options.seed); "
                + "set debug.seed to it, or begin a new run")
        }
    }

    /// Throws when a token of prepared data that has been read was none: nobody looks at them all beforehand.
    public func checkTokens() throws(BadInput) {
        for file in tokenFiles {
            guard let (index, value) = file.damage else { continue }
            throw BadInput("\(file.path): token \(index), at byte \(file.offset(of: index)), is \(value), outside the "
                + "vocabulary of \(tokenizer.vocabularySize); the file is damaged (skein data verify)")
        }
    }
}

private func rowTables(_ stream: TokenStream, _ options: CorpusOptions) -> [RowTable] {
    switch options.layout {
    case .packed(let method): return [packedRows(stream, sequence: options.sequence, method: method)]
    case .decomposed(let plan):
        precondition(options.sequence == 1 << plan.maximum, "the sequence is the longest piece")
        return Buckets(stream, plan).tables
    }
}

/// "row" in the upper bits; then four for the source, four for the bucket, and the epoch in the lower half: no other
/// purpose draws from these streams.
private let rowOrderStream: UInt64 = 0x726F_7700_0000_0000
