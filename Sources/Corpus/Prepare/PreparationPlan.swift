import Base

/// What is to be prepared, found out by reading the sources once: the documents in their order, and which of them go
/// into which shard. A shard is as many whole documents as reach `shardBytes` bytes of text, so the cut depends on
/// the texts alone.
struct PreparationPlan {
    struct Document {
        var textBytes: Int
        var hash: UInt32
        var split: Split?
        var source: Int
    }

    private(set) var documents: [Document] = []
    /// The documents of each shard.
    private(set) var shards: [Range<Int>] = []
    /// Of the sources.
    let fingerprint: UInt32
    let textBytes: Int
    /// CRC-32C over the sources' and the tokenizer's fingerprints and `shardBytes`: shards of an interrupted
    /// preparation are kept if they are of the same plan.
    let plan: UInt32
    /// What was passed over or guessed.
    private(set) var notes = ReadingNotes()
    /// A single training document is cut in two, as a corpus of its source would: the first part's document and its
    /// bytes.
    private(set) var cut: (document: Int, bytes: Int)?

    /// `read` is told of bytes of text as they are read.
    init(_ sources: [SourceListing], tokenizer: any Tokenizer, shardBytes: Int, read: (Int) -> Void) throws(BadInput) {
        var reader = TextReader(), bytes = 0, documents: [Document] = []
        for (number, source) in sources.enumerated() {
            let before = documents.count
            for file in source.files {
                try reader.read(textFile: file) { document, text throws(BadInput) in
                    guard text.count < Self.mostTextBytes else {
                        throw BadInput("\(file.path): a document of \(Units.bytes(text.count)), the most is 2 GiB; "
                            + "cut it into several")
                    }
                    documents.append(Document(textBytes: text.count, hash: document.hash, split: document.split,
                                              source: number))
                    bytes += text.count
                    read(bytes)
                }
            }
            notes.add(source.notes)
            guard documents.count > before else { throw source.hasNoText(reader.notes) }
        }
        notes.add(reader.notes)
        fingerprint = reader.fingerprint.value
        textBytes = bytes
        var name = ByteWriter()
        for value in [fingerprint, tokenizer.fingerprint] { name.append(value) }
        name.append(UInt64(shardBytes))
        plan = CRC32C.checksum(name.bytes)
        self.documents = documents
        try cutTheOnlyOne(sources)
        fillShards(shardBytes)
    }

    /// A shard's count of tokens must stay below 2^31, and no byte-level tokenizer makes more tokens than bytes.
    private static let mostTextBytes = 1 << 31 - 1 << 16

    /// As `DocumentParts` cuts it. The sources are read once more, up to this document.
    private mutating func cutTheOnlyOne(_ sources: [SourceListing]) throws(BadInput) {
        let splits = splits(of: documents.map { ($0.split, $0.hash) })
        guard !splits.contains(.valid), let only = splits.firstIndex(of: .train),
              splits.lastIndex(of: .train) == only else { return }
        var reader = TextReader(), index = 0, bytes = 0
        for file in sources.flatMap(\.files) where index <= only {
            try reader.read(textFile: file) { _, text throws(BadInput) in
                if index == only { bytes = cutPoint(of: text) }
                index += 1
            }
        }
        guard bytes > 0, bytes < documents[only].textBytes else { return }
        cut = (only, bytes)
        var rest = documents[only]
        (documents[only].textBytes, documents[only].split) = (bytes, .train)
        (rest.textBytes, rest.split) = (rest.textBytes - bytes, .valid)
        documents.insert(rest, at: only + 1)
    }

    private mutating func fillShards(_ shardBytes: Int) {
        var first = 0, bytes = 0
        for (index, document) in documents.enumerated() {
            bytes += document.textBytes
            guard bytes >= shardBytes || index == documents.count - 1 else { continue }
            shards.append(first..<(index + 1))
            (first, bytes) = (index + 1, 0)
        }
    }
}

extension TextReader {
    /// `read`, for files that must be text.
    mutating func read(textFile file: SourceFile, _ body: Body) throws(BadInput) {
        if file.kind == .prepared {
            throw BadInput("\(file.path) is prepared already; name the sources that it was made of")
        }
        guard file.kind != .tokens else {
            throw BadInput("\(file.path) holds tokens already: training reads it as it is; name texts")
        }
        try read(file, body)
    }
}
