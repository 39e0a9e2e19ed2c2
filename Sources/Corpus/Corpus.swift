import Base

public struct CorpusOptions: Sendable {
    /// Text files, folders of text, or texts with document tables; see `Corpus`.
    public var sources: [String]
    /// Inputs in a row.
    public var sequence: Int
    /// Names the order of rows.
    public var seed: UInt64
    /// Whether attention stops at documents' ends; otherwise only at rows' ends.
    public var documentMask: Bool

    public init(sources: [String], sequence: Int, seed: UInt64, documentMask: Bool = true) {
        self.sources = sources
        self.sequence = sequence
        self.seed = seed
        self.documentMask = documentMask
    }
}

/// Texts as rows of tokens to learn from.
///
/// **Rows.** All training documents, in the order of the sources, are one stream (`TokenStream`) that is
/// cut into rows of `sequence` inputs. Rows overlap by one token, the target of the last input, so an
/// epoch makes every token a target exactly once (the very first EOT is never one). The last row is
/// filled up with targets of -1.
///
/// **Order.** Rows are numbered over the whole run: a training step takes the next globalBatchRows numbers
/// and each rank its part of them. Number r is row `Permutation(seed, epoch)[r % rowsPerEpoch]` of epoch r /
/// rowsPerEpoch. So what a step reads is a pure function of (sources, seed, step), for any number of ranks,
/// and the position to save is one counter.
///
/// **Validation.** Held-out documents (`splits(of:)`, `cutPoint(of:)`) are a second stream, cut likewise and
/// read in order.
///
/// Opening reads all texts into memory: one byte a token for bytes, two for vocabularies up to 65,536.
public final class Corpus {
    public let options: CorpusOptions
    public let tokenizer: any Tokenizer
    /// CRC-32C over the tokenizer's fingerprint and all texts with their names, lengths and
    /// tables: equal for equal data, wherever it lies. A resumed run compares it.
    public let fingerprint: UInt32

    /// Rows in an epoch, the last one perhaps partly filled.
    public let rowsPerEpoch: Int
    /// Tokens that are targets in an epoch.
    public var trainTokenCount: Int { train.length }
    public var trainDocumentCount: Int { train.documents.count }

    public let validationRowCount: Int
    public var validationTokenCount: Int { validation.length }
    public var validationDocumentCount: Int { validation.documents.count }
    /// Bytes of text in all validation rows. Bits per byte are the summed nats of all validation targets, the
    /// EOT that ends each document included, over ln 2 over this.
    public let validationByteCount: Int

    package let train: TokenStream
    package let validation: TokenStream

    /// Reads the sources. Throws `BadInput` for a source that is missing, empty, unreadable or no text, for
    /// document tables that do not fit, and for a `sequence` longer than the data.
    public init(_ options: CorpusOptions, tokenizer: any Tokenizer) throws(BadInput) {
        precondition(options.sequence > 0, "sequence must be positive")
        self.options = options
        self.tokenizer = tokenizer
        let source = try SourceDocuments(options.sources, tokenizer: tokenizer)
        var name = ByteWriter()
        name.append(tokenizer.fingerprint)
        name.append(source.fingerprint)
        fingerprint = CRC32C.checksum(name.bytes)
        let parts = DocumentParts(source)
        let builder = StreamBuilder(source, tokenizer)
        train = builder.stream(parts.train)
        validation = builder.stream(parts.validation)
        validationByteCount = builder.byteCount(parts.validation)
        let sequence = options.sequence
        guard !train.documents.isEmpty else {
            throw BadInput("nothing to train on in \(options.sources.joined(separator: ", ")): every document "
                + "is marked valid or test")
        }
        guard sequence <= train.length else {
            throw BadInput("a sequence of \(sequence) is longer than the data: \(train.length) tokens are for "
                + "training; lower training.seq_len to \(train.length) or less, or add data")
        }
        rowsPerEpoch = (train.length + sequence - 1) / sequence
        validationRowCount = (validation.length + sequence - 1) / sequence
    }

    /// Fills `batch` with the training rows numbered `rows`: see Order above. Allocates nothing.
    public func fill(_ batch: Batch, rows: Range<Int>) {
        batch.begin(sequence: options.sequence)
        for number in rows {
            let (epoch, index) = number.quotientAndRemainder(dividingBy: rowsPerEpoch)
            let order = Permutation(count: rowsPerEpoch, seed: options.seed, stream: rowOrderStream + UInt64(epoch))
            append(row: order[index], of: train, to: batch)
        }
    }

    /// Fills `batch` with validation rows, `rows` in 0..<validationRowCount. Allocates nothing.
    public func fillValidation(_ batch: Batch, rows: Range<Int>) {
        batch.begin(sequence: options.sequence)
        for row in rows { append(row: row, of: validation, to: batch) }
    }

    private func append(row: Int, of stream: TokenStream, to batch: Batch) {
        let begin = row * options.sequence
        let end = min(begin + options.sequence, stream.length)
        batch.append(begin..<end, of: stream, documentMask: options.documentMask)
    }
}

/// "rows" in the upper half, the epoch in the lower: no other purpose draws from these streams.
private let rowOrderStream: UInt64 = 0x726F_7773_0000_0000
