import Base

/// What a folder of prepared data holds, as its file `index.skein` says it.
///
/// **The folder.** `index.skein`, `tokenizer.json` (Hugging Face's format) and `tokens-00000.bin`, `tokens-00001.bin`,
/// ... Each shard is a token file as llm.c reads it (see `ShardHeader`): an end-of-document token, a document's
/// tokens, an end-of-document token, the next document's, without one at the end. A document never spans shards.
/// The index is written last, so a folder that has one is complete. All bytes depend on the sources and the
/// tokenizer alone: not on threads, on paths, on dates, or on how often the work was interrupted.
///
/// **index.skein**, little-endian:
///
///     0   8 bytes  "SKEINIDX"
///     8   u32      format version, 1
///     12  u32      CRC-32C of all bytes from 16 on
///     16  u32      fingerprint of the sources, as a corpus of them would have it
///     20  u32      plan: what the shards' headers repeat; see `PreparationPlan`
///     24  u32      fingerprint of the tokenizer
///     28  u32      vocabulary size
///     32  u32      end-of-document token
///     36  u32      bytes of a token: 2, or 4 for vocabularies above 65,536
///     40  u64      documents
///     48  u32      shards
///     52  u32      sources
///     56  shards   each 24 bytes: u64 tokens, u64 bytes of text, u32 documents, u32 CRC-32C of the tokens' bytes
///     ..  documents, in their order, each 24 bytes: u64 tokens (without its end-of-document token), u64 bytes of
///         text, u32 CRC-32C of its name, u16 source, u8 declared split (0 none, 1 train, 2 valid, 3 test), u8 zero
///     ..  sources  each u32 length and the name, the last part of the path that was given
package struct PreparedIndex: Equatable, Sendable {
    package struct Shard: Equatable, Sendable {
        /// End-of-document tokens included.
        package var tokenCount: Int
        package var textBytes: Int
        package var documentCount: Int
        package var checksum: UInt32
    }

    package struct Document: Equatable, Sendable {
        package var tokenCount: Int
        package var textBytes: Int
        package var hash: UInt32
        package var split: Split?
        package var source: Int
    }

    package var fingerprint: UInt32
    package var plan: UInt32
    package var tokenizer: UInt32
    package var vocabularySize: Int
    package var endOfDocument: Int32
    package var shards: [Shard] = []
    package var documents: [Document] = []
    package var sources: [String] = []

    package var isWide: Bool { vocabularySize > 1 << 16 }
    package var tokenCount: Int { shards.reduce(0) { $0 + $1.tokenCount } }
    package var textBytes: Int { shards.reduce(0) { $0 + $1.textBytes } }

    package static let fileName = "index.skein"
    /// A document's source takes two bytes.
    package static let mostSources = 1 << 16
    private static let magic = Array("SKEINIDX".utf8)

    package init(fingerprint: UInt32, plan: UInt32, tokenizer: any Tokenizer) {
        self.fingerprint = fingerprint
        self.plan = plan
        self.tokenizer = tokenizer.fingerprint
        vocabularySize = tokenizer.vocabularySize
        endOfDocument = tokenizer.endOfDocument
    }

    package var bytes: [UInt8] {
        var body = ByteWriter(capacity: 40 + 24 * (shards.count + documents.count))
        for value in [fingerprint, plan, tokenizer, UInt32(vocabularySize), UInt32(endOfDocument), isWide ? 4 : 2] {
            body.append(value)
        }
        body.append(UInt64(documents.count))
        body.append(UInt32(shards.count))
        body.append(UInt32(sources.count))
        for shard in shards {
            body.append(UInt64(shard.tokenCount))
            body.append(UInt64(shard.textBytes))
            body.append(UInt32(shard.documentCount))
            body.append(shard.checksum)
        }
        for document in documents {
            body.append(UInt64(document.tokenCount))
            body.append(UInt64(document.textBytes))
            body.append(document.hash)
            body.append(UInt16(document.source))
            body.append(UInt8(document.split.map { Split.allCases.firstIndex(of: $0)! + 1 } ?? 0))
            body.append(UInt8(0))
        }
        for source in sources {
            body.append(UInt32(source.utf8.count))
            body.append(bytes: source.utf8)
        }
        var file = ByteWriter(capacity: 16 + body.bytes.count)
        file.append(bytes: Self.magic)
        file.append(UInt32(1))
        file.append(CRC32C.checksum(body.bytes))
        file.append(bytes: body.bytes)
        return file.bytes
    }

    /// Throws `BadInput`, naming the file, unless it holds what `bytes` wrote, all of it.
    private static func requireWhole(_ file: MappedFile) throws(BadInput) {
        let path = file.path
        guard file.count >= 56, (0..<8).allSatisfy({ file.bytes[$0] == magic[$0] }) else {
            throw BadInput("\(path) is no index of prepared data; run skein data prepare again")
        }
        let version = file.integer(UInt32.self, at: 8)
        guard version == 1 else {
            throw BadInput("\(path) has the format \(version), this program knows 1; prepare the data with this one")
        }
        let declared = file.integer(UInt32.self, at: 12), found = checksum(file.bytes.extracting(16...), from: 0)
        guard declared == found else {
            throw BadInput("\(path): its checksum is \(hexadecimal(declared)), its \(file.count) bytes have "
                + "\(hexadecimal(found)); copy it again, or run skein data prepare again")
        }
    }

    /// Reads what `bytes` wrote. Throws `BadInput` for anything else, naming its path.
    package init(_ file: MappedFile) throws(BadInput) {
        try Self.requireWhole(file)
        fingerprint = file.integer(UInt32.self, at: 16)
        plan = file.integer(UInt32.self, at: 20)
        tokenizer = file.integer(UInt32.self, at: 24)
        vocabularySize = Int(file.integer(UInt32.self, at: 28))
        endOfDocument = file.integer(Int32.self, at: 32)
        // The checksum holds, so what follows is as somebody wrote it; who forges data can reckon a checksum, too.
        try Self.requireCounts(file)
        var offset = 56
        for _ in 0..<file.integer(UInt32.self, at: 48) {
            shards.append(Shard(tokenCount: file.integer(Int.self, at: offset),
                                textBytes: file.integer(Int.self, at: offset + 8),
                                documentCount: Int(file.integer(UInt32.self, at: offset + 16)),
                                checksum: file.integer(UInt32.self, at: offset + 20)))
            offset += 24
        }
        documents.reserveCapacity(file.integer(Int.self, at: 40))
        for _ in 0..<file.integer(Int.self, at: 40) {
            let split = Int(file.integer(UInt8.self, at: offset + 22))
            documents.append(Document(tokenCount: file.integer(Int.self, at: offset),
                                      textBytes: file.integer(Int.self, at: offset + 8),
                                      hash: file.integer(UInt32.self, at: offset + 16),
                                      split: split == 0 ? nil : Split.allCases[split - 1],
                                      source: Int(file.integer(UInt16.self, at: offset + 20))))
            offset += 24
        }
        for _ in 0..<file.integer(UInt32.self, at: 52) {
            guard file.count - offset >= 4 else { throw Self.contradiction(file.path) }
            let count = Int(file.integer(UInt32.self, at: offset))
            guard count <= file.count - offset - 4 else { throw Self.contradiction(file.path) }
            sources.append(unsafe file.bytes.extracting((offset + 4)..<(offset + 4 + count))
                .withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) })
            offset += 4 + count
        }
        guard offset == file.count, isSound else { throw Self.contradiction(file.path) }
    }

    private static func contradiction(_ path: String) -> BadInput {
        BadInput("\(path) contradicts itself: its counts do not fit each other; run skein data prepare again")
    }

    /// Tables within the file, and no split that there is not.
    private static func requireCounts(_ file: MappedFile) throws(BadInput) {
        let room = (file.count - 56) / 24
        let shards = Int(file.integer(UInt32.self, at: 48)), documents = file.integer(UInt64.self, at: 40)
        guard documents <= UInt64(room), shards <= room - Int(documents) else { throw contradiction(file.path) }
        for document in 0..<Int(documents) {
            let split = file.integer(UInt8.self, at: 56 + 24 * (shards + document) + 22)
            guard Int(split) <= Split.allCases.count else { throw contradiction(file.path) }
        }
    }

    /// Whether the parts add up, so that sums and places need no checks behind this one. Tokens of a shard are counted
    /// in 32 bits, and no text is longer than a file can be.
    private var isSound: Bool {
        var documentCount = 0, texts = 0
        for shard in shards {
            guard 0...Int(UInt32.max) ~= shard.tokenCount, 0..<1 << 56 ~= shard.textBytes else { return false }
            documentCount += shard.documentCount
            texts += shard.textBytes >> 20
        }
        for document in documents {
            guard 0...Int(UInt32.max) ~= document.tokenCount, 0..<1 << 56 ~= document.textBytes,
                  document.source < sources.count else { return false }
        }
        return documentCount == documents.count && texts < 1 << 40 && 0..<vocabularySize ~= Int(endOfDocument)
    }
}
