import Base
import Storage

/// Writes the shards of a plan that are not there yet.
struct ShardWriter {
    private let folder: String
    private let plan: PreparationPlan
    private let tokenizer: any Tokenizer
    private let threads: Int
    private var shards: [PreparedIndex.Shard?]
    /// Tokens of each document of the shards that are done.
    private var counts: [Int]
    /// Shards that were there.
    private(set) var kept = 0

    init(folder: String, plan: PreparationPlan, tokenizer: any Tokenizer, threads: Int) {
        self.folder = folder
        self.plan = plan
        self.tokenizer = tokenizer
        self.threads = threads
        shards = Array(repeating: nil, count: plan.shards.count)
        counts = Array(repeating: 0, count: plan.documents.count)
    }

    private func path(_ number: Int) -> String { folder + "/" + ShardHeader.fileName(number) }

    /// Looks for shards of this plan, reads them whole and keeps those whose checksum is right.
    mutating func keepWhatIsThere() throws(BadInput) {
        for number in plan.shards.indices where isFile(path(number)) {
            let file = try MappedFile(path(number))
            guard let header = ShardHeader(file), header.plan == plan.plan, header.number == number,
                  header.documentCount == plan.shards[number].count,
                  checksum(file.bytes.extracting(ShardHeader.byteCount...), from: 0) == header.tokensChecksum
            else { continue }
            // The documents' lengths are where the end-of-document tokens are.
            let found = try TokenFile(file).documents(tokenizer)
            guard found.count == header.documentCount else { continue }
            for (document, range) in zip(plan.shards[number], found) { counts[document] = range.count }
            shards[number] = shard(number, tokens: header.tokenCount, checksum: header.tokensChecksum)
            kept += 1
        }
    }

    private func shard(_ number: Int, tokens: Int, checksum: UInt32) -> PreparedIndex.Shard {
        let documents = plan.shards[number]
        let textBytes = plan.documents[documents].reduce(0) { $0 + $1.textBytes }
        return PreparedIndex.Shard(tokenCount: tokens, textBytes: textBytes, documentCount: documents.count,
                                   checksum: checksum)
    }

    /// Reads the sources again and writes what is missing. `progress` hears of every shard.
    mutating func write(_ sources: [SourceListing], _ progress: (PreparationProgress) throws -> Void) throws {
        guard shards.contains(where: { $0 == nil }) else { return }
        var reader = TextReader(), text = ShardText(), document = 0, number = 0, done = 0, failure: (any Error)?
        var state = PreparationProgress(phase: .writing, bytes: 0, totalBytes: plan.textBytes, shards: 0,
                                        totalShards: shards.count)
        try progress(state)
        // One document of the plan after the other, as the reader hands them out.
        func take(_ bytes: Span<UInt8>, _ hash: UInt32, _ file: SourceFile) throws {
            guard document < plan.documents.count, plan.documents[document].textBytes == bytes.count,
                  plan.documents[document].hash == hash else { throw changed(file.path) }
            if shards[number] == nil { text.append(bytes) }
            document += 1
            done += bytes.count
            guard document == plan.shards[number].upperBound else { return }
            if shards[number] == nil { try finish(number, text) }
            text = ShardText()
            number += 1
            (state.bytes, state.shards) = (done, number)
            try progress(state)
        }
        func hand(_ bytes: Span<UInt8>, _ hash: UInt32, _ file: SourceFile) throws {
            guard let cut = plan.cut, cut.document == document else { return try take(bytes, hash, file) }
            guard cut.bytes < bytes.count else { throw changed(file.path) }
            try take(bytes.extracting(..<cut.bytes), hash, file)
            try take(bytes.extracting(cut.bytes...), hash, file)
        }
        do {
            for file in sources.flatMap(\.files) {
                try reader.read(textFile: file) { known, bytes throws(BadInput) in
                    // The reader knows faults of input only; what else goes wrong is carried past it.
                    do {
                        try hand(bytes, known.hash, file)
                    } catch {
                        failure = error
                        throw BadInput("\(error)")
                    }
                }
            }
        } catch {
            throw failure ?? error
        }
        guard document == plan.documents.count, reader.fingerprint.value == plan.fingerprint else {
            throw changed(sources[0].source)
        }
    }

    private func changed(_ path: String) -> BadInput {
        BadInput("\(path) changed while it was prepared; start again when nothing writes to it")
    }

    private mutating func finish(_ number: Int, _ text: ShardText) throws(DiskError) {
        let encoded = encode(text, tokenizer, threads: threads)
        let tokens = encoded.counts.reduce(0, +) + encoded.counts.count
        let header = ShardHeader(isWide: tokenizer.vocabularySize > 1 << 16, tokenCount: tokens, plan: plan.plan,
                                 number: number, documentCount: encoded.counts.count,
                                 tokensChecksum: CRC32C.checksum(encoded.bytes))
        try RealDisk().replace(path(number), with: [header.bytes, encoded.bytes])
        for (document, count) in zip(plan.shards[number], encoded.counts) { counts[document] = count }
        shards[number] = shard(number, tokens: tokens, checksum: header.tokensChecksum)
    }

    /// To be called when all shards are there.
    func index(sources: [String]) -> PreparedIndex {
        var index = PreparedIndex(fingerprint: plan.fingerprint, plan: plan.plan, tokenizer: tokenizer)
        index.shards = shards.map { $0! }
        index.documents = zip(plan.documents, counts).map { document, count in
            .init(tokenCount: count, textBytes: document.textBytes, hash: document.hash, split: document.split,
                  source: document.source)
        }
        index.sources = sources
        return index
    }
}
