import Base
import Compression

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A file that a source leads to.
package struct SourceFile: Equatable, Sendable {
    package enum Kind: Equatable, Sendable {
        /// One document.
        case text
        /// Documents as the `docs.tsv` at this path says.
        case table(String)
        /// A JSON object with a `text` on each line.
        case lines
        /// Token ids: see `TokenFile`.
        case tokens
        /// A folder that `skein data prepare` made: see `PreparedIndex`.
        case prepared
    }

    /// Where to open it.
    package var path: String
    /// Its name below the source that was given: the same wherever the source lies. The split rule and the
    /// fingerprint use it.
    package var key: String
    package var kind: Kind
    /// Whether it must be usable. Plain files found in folders are skipped when they are not text.
    package var isNamed: Bool
    /// Whether the user named it, and not a folder that it is in.
    package var isGivenByName = false

    /// Where its texts are cut into documents: `data.separator`. Empty: nowhere.
    package var separator: [UInt8] = []

    package init(path: String, key: String, kind: Kind, isNamed: Bool) {
        (self.path, self.key, self.kind, self.isNamed) = (path, key, kind, isNamed)
    }

    package enum Compression: String, Sendable { case zstd = ".zst", gzip = ".gz" }

    /// How it is packed.
    package var compression: Compression? { unpackedName(path).compression }
    package var isCompressed: Bool { compression != nil }
}

/// The files of `source`, in an order that does not depend on the file system: a file is itself; a folder is
/// walked recursively, names sorted by their bytes.
///
/// `NAME.txt` with `NAME.docs.tsv`, or `docs.txt` with `docs.tsv`, is a text with a document table; `.jsonl`
/// (as `.ndjson`, and `.json` with an object a line) is JSON lines; all texts may be compressed as `.zst` or `.gz`;
/// `.bin` is a token file (naming Megatron's `.idx` means its `.bin`); all else is plain text. Upper and lower case are
/// the same. A folder that `skein data prepare` made is one thing, and passed over below other folders. In those,
/// hidden entries and the names in `skippedFolders` are passed over; links are followed, and what is reached a second
/// time is taken once, with a note; a folder that holds a text with a table, or a token file called `train*.bin`,
/// `val*.bin` or with an `.idx`, contributes those and nothing else.
package func files(ofSource source: String) throws(BadInput) -> [SourceFile] {
    var notes = ReadingNotes()
    return try files(ofSource: source, &notes)
}

func files(ofSource source: String, _ notes: inout ReadingNotes) throws(BadInput) -> [SourceFile] {
    switch fileKind(source, following: true) {
    case nil:
        throw BadInput("cannot open \(source): \(errorText(errno))")
    case .folder?:
        if try isPrepared(source) {
            return [SourceFile(path: source, key: baseName(source), kind: .prepared, isNamed: true)]
        }
        var walk = SourceWalk()
        try walk.enter(source, key: "")
        notes.add(walk.notes)
        return walk.found
    default:
        let path = dataBeside(index: source) ?? source
        var file = SourceFile(path: path, key: baseName(path), kind: kind(of: path), isNamed: true)
        file.isGivenByName = true
        return [file]
    }
}

/// Bytes of all files that `sources` lead to, without reading them.
public func fileBytes(ofSources sources: [String]) throws(BadInput) -> Int {
    var bytes = 0
    for source in sources {
        for file in try files(ofSource: source) {
            var status = stat()
            // Token files stay mapped, and their pages belong to the page cache.
            guard file.kind != .tokens, file.kind != .prepared, unsafe stat(file.path, &status) == 0 else { continue }
            bytes += try file.isCompressed ? contentBytes(file) : Int(status.st_size)
        }
    }
    return bytes
}

/// Tokens of all files that stay mapped, about, and how many documents prepared data have; nobody knows how many other
/// token files have without reading them.
public func mappedData(ofSources sources: [String]) throws(BadInput) -> (tokens: Int, documents: Int) {
    var (tokens, documents) = (0, 0)
    for source in sources {
        for file in try files(ofSource: source) {
            switch file.kind {
            case .tokens: tokens += try MappedFile(listed: file).count / 2
            case .prepared:
                let index = try PreparedIndex(MappedFile(file.path + "/" + PreparedIndex.fileName))
                tokens += index.tokenCount
                documents += index.documents.count
            case .text, .table, .lines: continue
            }
        }
    }
    return (tokens, documents)
}

/// Bytes of a compressed text. Frames that do not say are taken to hold five times their size, more than zstd makes
/// of most texts.
private func contentBytes(_ file: SourceFile) throws(BadInput) -> Int {
    let mapped = try MappedFile(listed: file)
    return (file.compression == .zstd ? zstdContentSize(mapped.bytes) : nil) ?? 5 * mapped.count
}

private func kind(of path: String) -> SourceFile.Kind {
    let (path, compression) = unpackedName(path)
    let name = path.lowercased()
    if [".jsonl", ".ndjson", ".json"].contains(where: name.hasSuffix) { return .lines }
    if name.hasSuffix(".bin"), compression == nil { return .tokens }
    guard path.hasSuffix(".txt") else { return .text }
    let table = tablePath(ofText: path)
    return isFile(table) ? .table(table) : .text
}

/// A path without the ending of its compression.
private func unpackedName(_ path: String) -> (path: String, compression: SourceFile.Compression?) {
    for compression in [SourceFile.Compression.zstd, .gzip] where path.lowercased().hasSuffix(compression.rawValue) {
        return (String(path.dropLast(compression.rawValue.count)), compression)
    }
    return (path, nil)
}

func isGone(_ path: String) -> Bool { fileKind(path, following: true) == nil }

package func isFile(_ path: String) -> Bool { fileKind(path, following: true) == .file }

/// Folders of build products and downloads, which nobody means by "train on this folder".
package let skippedFolders: Set<String> = ["outputs", "build", "DerivedData", "node_modules", "__pycache__"]

/// The walk through one source's folders.
private struct SourceWalk {
    var found: [SourceFile] = []
    var notes = ReadingNotes()
    /// What was reached already, by device and number: links may lead back, or twice to one place.
    private var reached: Set<FileIdentity> = []

    mutating func enter(_ folder: String, key: String) throws(BadInput) {
        guard isNew(folder) else { return }
        let names = try entries(of: folder, &notes)
        let indexed = names.filter { isIndexed($0, among: names) }
        for name in indexed.isEmpty ? names : indexed {
            let path = folder + "/" + name
            let below = key.isEmpty ? name : key + "/" + name
            switch fileKind(path, following: true) {
            case .folder? where indexed.isEmpty && !skippedFolders.contains(name):
                guard try !isPrepared(path) else { continue }
                try enter(path, key: below)
            case .folder?: continue
            case .file?:
                guard isNew(path) else { continue }
                let kind = indexed.isEmpty && name.hasSuffix(".bin") ? .text : kind(of: path)
                // Of the JSON in a folder some may be settings.
                let isNamed = kind != .text && !unpackedName(name).path.lowercased().hasSuffix(".json")
                found.append(SourceFile(path: path, key: below, kind: kind, isNamed: isNamed))
            case .other?, nil:
                notes.add(.dangling, path)
            }
        }
    }

    private mutating func isNew(_ path: String) -> Bool {
        guard let identity = FileIdentity(path) else { return true }
        if reached.insert(identity).inserted { return true }
        notes.add(.double, path)
        return false
    }
}

private struct FileIdentity: Hashable {
    let device, number: UInt

    init?(_ path: String) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { return nil }
        (device, number) = (UInt(status.st_dev), UInt(status.st_ino))
    }
}

/// Whether the file `name` is data whose documents or splits are known from beside it or from its name.
private func isIndexed(_ name: String, among names: [String]) -> Bool {
    let text = unpackedName(name).path
    if text.hasSuffix(".txt") { return names.contains(tablePath(ofText: text)) }
    guard name.hasSuffix(".bin") else { return false }
    return name.hasPrefix("train") || name.hasPrefix("val") || names.contains(name.dropLast(4) + ".idx")
}

/// The visible names in `folder`, sorted by their bytes.
func entries(of folder: String) throws(BadInput) -> [String] {
    var notes = ReadingNotes()
    return try entries(of: folder, &notes)
}

/// The same; names that are not UTF-8 are noted.
private func entries(of folder: String, _ notes: inout ReadingNotes) throws(BadInput) -> [String] {
    guard let stream = unsafe opendir(folder) else {
        throw BadInput("cannot read folder \(folder): \(errorText(errno))")
    }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
        let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { raw in
            unsafe String(validating: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
        if let name {
            if !name.hasPrefix(".") { names.append(name) }
        } else {
            let text = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { raw in
                unsafe shellEscaped(raw.prefix { $0 != 0 })
            }
            notes.add(.unreadableName, folder + "/" + text)
        }
    }
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
}

private enum FileKind { case file, folder, other }

/// nil, with `errno` set, when there is nothing at `path`.
private func fileKind(_ path: String, following: Bool) -> FileKind? {
    var status = stat()
    let failed = unsafe following ? stat(path, &status) : lstat(path, &status)
    guard failed == 0 else { return nil }
    switch status.st_mode & S_IFMT {
    case S_IFREG: return .file
    case S_IFDIR: return .folder
    default: return .other
    }
}

/// `docs.txt` -> `docs.tsv`, `NAME.txt` -> `NAME.docs.tsv`.
package func tablePath(ofText path: String) -> String {
    path.dropLast(4) + (baseName(path) == "docs.txt" ? ".tsv" : ".docs.tsv")
}

/// Naming an index means the data beside it.
private func dataBeside(index path: String) -> String? {
    if path.hasSuffix(".idx") { return path.dropLast(4) + ".bin" }
    let isTable = path.hasSuffix(".docs.tsv"), isDocuments = baseName(path) == "docs.tsv"
    guard isTable || isDocuments else { return nil }
    let text = String(path.dropLast(isTable ? 9 : 4)) + ".txt"
    return [text, text + ".zst", text + ".gz"].first(where: isFile) ?? text
}

package func baseName(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
}
