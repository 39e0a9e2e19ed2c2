import Base
import Storage

/// How far a preparation is.
public struct PreparationProgress: Sendable, Equatable {
    public enum Phase: Sendable { case reading, writing }
    public var phase: Phase
    /// Bytes of text, of all that there are; while reading, nobody knows yet how many.
    public var bytes: Int
    public var totalBytes: Int?
    public var shards: Int
    public var totalShards: Int
}

/// What was prepared.
public struct PreparationSummary: Sendable, Equatable {
    public var documents: Int
    public var textBytes: Int
    /// Without end-of-document tokens.
    public var tokens: Int
    public var shards: Int
    /// Shards that an earlier, interrupted preparation had finished.
    public var keptShards: Int
    /// What was passed over or guessed, a line each.
    public var notes: [String]
}

/// Makes token shards and an index of texts: see `PreparedIndex` for what is written.
///
/// The sources are read twice: once to know the documents, once to encode them a shard at a time, on all threads. So
/// memory holds one shard's text and tokens, however much there is. A shard is on disk whole or not at all; whoever
/// starts again with the same sources keeps those that are there, each of them checked against its checksum.
public struct Preparation {
    public var sources: [String]
    public var folder: String
    public var threads: Int
    /// Bytes of text after which a shard ends.
    public var shardBytes: Int
    /// Where texts are cut into documents, `data.separator`; empty: nowhere.
    public var separator = ""

    public init(sources: [String], folder: String, threads: Int, shardBytes: Int = 1 << 25) {
        precondition(threads > 0 && shardBytes > 0, "no threads, or shards of nothing")
        self.sources = sources
        self.folder = folder
        self.threads = threads
        self.shardBytes = shardBytes
    }

    /// Throws `BadInput` for sources that cannot be read and for a folder with something else in it, `DiskError`
    /// when the disk fails, and whatever `progress` throws, which ends the work as a kill would.
    public func run(_ tokenizer: any Tokenizer,
                    progress: (PreparationProgress) throws -> Void) throws -> PreparationSummary {
        guard sources.count <= PreparedIndex.mostSources else {
            throw BadInput("\(Units.grouped(sources.count)) sources, \(Units.grouped(PreparedIndex.mostSources)) are "
                + "the most; name the folders that they are in")
        }
        let listings = try listing(sources, separator: separator)
        let disk = RealDisk()
        try makeFolder(disk)
        // Before the lock, whose file would be the first thing of ours in somebody else's folder.
        try requireOurs()
        let lock = try FolderLock(folder, orSay: "another process is writing to \(folder)")
        defer { withExtendedLifetime(lock) {} }
        var pulse = Pulse()
        let plan = try PreparationPlan(listings, tokenizer: tokenizer, shardBytes: shardBytes) { bytes in
            guard pulse.isDue() else { return }
            // What is only shown must not end the reading.
            try? progress(PreparationProgress(phase: .reading, bytes: bytes, shards: 0, totalShards: 0))
        }
        try disk.replace(folder + "/tokenizer.json", with: [tokenizer.json])
        var writer = ShardWriter(folder: folder, plan: plan, tokenizer: tokenizer, threads: threads)
        try writer.keepWhatIsThere()
        try writer.write(listings, progress)
        let index = writer.index(sources: sources.map(baseName))
        let shards = Set(plan.shards.indices.map(ShardHeader.fileName))
        for name in try entries(of: folder) where isForeign(name, shards) { try disk.remove(folder + "/" + name) }
        try disk.replace(folder + "/" + PreparedIndex.fileName, with: [index.bytes])
        return PreparationSummary(documents: index.documents.count, textBytes: index.textBytes,
                                  tokens: index.tokenCount - index.documents.count, shards: index.shards.count,
                                  keptShards: writer.kept, notes: plan.notes.lines)
    }

    /// The folder itself, not those above it, unless it is there.
    private func makeFolder(_ disk: RealDisk) throws(BadInput) {
        do throws(DiskError) {
            if try disk.kind(folder) == nil { try disk.createFolder(folder) }
        } catch {
            throw BadInput(error.description)
        }
    }

    /// Refuses a folder that holds anything that a preparation would not have left there.
    private func requireOurs() throws {
        for name in try entries(of: folder) where name != FolderLock.fileName {
            let plain = name.hasSuffix(".tmp") ? String(name.dropLast(4)) : name
            guard plain == PreparedIndex.fileName || plain == "tokenizer.json" || ShardHeader.isFileName(plain) else {
                throw BadInput("\(folder) holds \(name), which is no prepared data; name a new folder")
            }
        }
    }

    /// Shards beyond the last one, of other sources that were once prepared here, and what a kill left behind.
    private func isForeign(_ name: String, _ shards: Set<String>) -> Bool {
        name.hasSuffix(".tmp") || (ShardHeader.isFileName(name) && !shards.contains(name))
    }
}

/// Lets something happen ten times a second.
private struct Pulse {
    private var last = 0.0

    mutating func isDue() -> Bool {
        let now = MonotonicClock.seconds()
        guard now - last >= 0.1 else { return false }
        last = now
        return true
    }
}
