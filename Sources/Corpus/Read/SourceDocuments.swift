import Base

/// All documents of the given sources, in their order: texts back to back in one buffer, unchanged, and token
/// files mapped.
package struct SourceDocuments {
    package struct Document {
        /// The token file that holds it; nil for text.
        package var file: Int?
        /// Bytes of `text`, or tokens of the file.
        package var range: Range<Int>
        /// What the document's table or file name says, if it says anything.
        package var split: Split?
        /// CRC-32C of the document's name, which the split rule reads.
        package var hash: UInt32
        /// Bytes of its text, where an index knows them.
        package var textBytes: Int?
        /// Which of the given sources it is of.
        package var source = 0
    }

    package private(set) var text: [UInt8] = []
    package private(set) var tokenFiles: [TokenFile] = []
    package private(set) var documents: [Document] = []
    /// See `SourceFingerprint`.
    package private(set) var fingerprint: UInt32 = 0
    /// What was passed over or guessed.
    package private(set) var notes = ReadingNotes()
    private let tokenizer: (any Tokenizer)?

    /// Reads `sources`: see `files(ofSource:)` for what they may be.
    ///
    /// A file that the user named must be text in UTF-8 and not empty; in a folder, files that are not
    /// UTF-8, hold a zero byte or nothing at all are passed over, with a note. An empty document is an error where a
    /// line or a table names it, and nothing at all between two end-of-document tokens. Token files must fit
    /// `tokenizer`; without one they are an error.
    package init(_ sources: [String], tokenizer: (any Tokenizer)? = nil, separator: String = "",
                 limits: ReadLimits = ReadLimits()) throws(BadInput) {
        try self.init(listed: listing(sources, separator: separator), tokenizer: tokenizer, limits: limits)
    }

    /// Reads the files of each source that `listing` found.
    package init(listed sources: [SourceListing], tokenizer: (any Tokenizer)? = nil,
                 limits: ReadLimits = ReadLimits()) throws(BadInput) {
        self.tokenizer = tokenizer
        var reader = TextReader(limits)
        for (number, source) in sources.enumerated() {
            let before = documents.count
            for file in source.files { try append(file, &reader) }
            notes.add(source.notes)
            guard documents.count > before else { throw source.hasNoText(reader.notes) }
            for index in before..<documents.count { documents[index].source = number }
        }
        notes.add(reader.notes)
        fingerprint = reader.fingerprint.value
    }

    private mutating func append(_ file: SourceFile, _ reader: inout TextReader) throws(BadInput) {
        switch file.kind {
        case .tokens: try appendTokens(file, &reader.fingerprint)
        case .prepared: try appendPrepared(file, &reader.fingerprint)
        case .text, .table, .lines:
            try reader.read(file) { document, bytes throws(BadInput) in
                let range = text.count..<(text.count + bytes.count)
                documents.append(Document(range: range, split: document.split, hash: document.hash))
                unsafe bytes.withUnsafeBufferPointer { unsafe text.append(contentsOf: $0) }
            }
        }
    }

    private mutating func appendTokens(_ file: SourceFile,
                                       _ fingerprint: inout SourceFingerprint) throws(BadInput) {
        guard let tokenizer else { throw holdsTokens(file.path) }
        let mapped = try MappedFile(listed: file), tokens = try TokenFile(mapped)
        // "val" as nanoGPT and llm.c name their files.
        let split = declaredSplit(baseName(file.path))
        if split == .valid { notes.add(.heldOut, file.path) }
        for range in try tokens.documents(tokenizer) {
            let hash = CRC32C.checksum(Array("\(file.key):\(range.lowerBound)".utf8))
            documents.append(Document(file: tokenFiles.count, range: range, split: split, hash: hash))
        }
        tokenFiles.append(tokens)
        fingerprint.add(file, mapped)
    }

    /// Only the index is read; the shards stay on disk until a step wants their tokens.
    private mutating func appendPrepared(_ file: SourceFile,
                                         _ fingerprint: inout SourceFingerprint) throws(BadInput) {
        guard let tokenizer else { throw holdsTokens(file.path) }
        let prepared = try PreparedData(file.path, tokenizer: tokenizer)
        for (document, place) in zip(prepared.index.documents, prepared.places) {
            documents.append(Document(file: tokenFiles.count + place.shard, range: place.range, split: document.split,
                                      hash: document.hash, textBytes: document.textBytes))
        }
        tokenFiles += prepared.shards
        fingerprint.add(prepared: prepared.index.fingerprint)
    }
}

/// The text of each document of `sources`, in their order; of a part of them, as training divides them.
public func readTexts(_ sources: [String], part: DataStatistics.Part = .all, separator: String = "") throws(BadInput)
    -> [[UInt8]] {
    let source = try SourceDocuments(sources, separator: separator), parts = DocumentParts(source)
    let chosen = switch part {
    case .all: source.documents
    case .train: parts.train
    case .valid: parts.validation
    }
    return chosen.map { Array(source.text[$0.range]) }
}

/// "val" or "train" as a word of its own in a token file's name, as nanoGPT and llm.c have it: `val.bin`,
/// `fineweb_val_000000.bin`, and not `retrieval.bin`.
private func declaredSplit(_ name: String) -> Split? {
    let words = Set(name.lowercased().split { !$0.isLetter })
    if !words.isDisjoint(with: ["val", "valid", "validation"]) { return .valid }
    return words.contains("train") ? .train : nil
}

private func holdsTokens(_ path: String) -> BadInput {
    BadInput("\(path) holds tokens, but a tokenizer learns from text; name text files")
}

/// The files of one source.
package struct SourceListing: Sendable {
    package var source: String
    package var files: [SourceFile]
    /// What the walk passed over.
    package var notes: ReadingNotes

    /// reading: what was passed over in its files.
    func hasNoText(_ reading: ReadingNotes) -> BadInput {
        var all = notes
        all.add(reading)
        let why = all.lines.isEmpty ? "hidden files and build folders are passed over"
            : all.lines.joined(separator: "; ")
        return BadInput("no text in folder \(source): \(why)")
    }
}

/// The files of each source, whose texts are cut into documents at `separator`.
package func listing(_ sources: [String], separator: String = "") throws(BadInput) -> [SourceListing] {
    guard !sources.isEmpty else { throw BadInput("no data: name a text file or a folder of texts") }
    var listings: [SourceListing] = []
    for source in sources {
        var notes = ReadingNotes()
        var found = try files(ofSource: source, &notes)
        for index in found.indices { found[index].separator = Array(separator.utf8) }
        listings.append(SourceListing(source: source, files: found, notes: notes))
    }
    return listings
}
