import Base

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A file that a source leads to.
package struct SourceFile: Equatable, Sendable {
    /// Where to open it.
    package var path: String
    /// Its name below the source that was given: the same wherever the source lies. The split rule and the
    /// fingerprint use it.
    package var key: String
    /// The `docs.tsv` that says where its documents begin, if there is one.
    package var table: String?
    /// Named by the user, so it must be text. Files found in folders are skipped when they are not.
    package var named: Bool
}

/// The files of `source`, in an order that does not depend on the file system: a file is itself; a folder is
/// walked recursively, names sorted by their bytes. In folders, hidden entries, symbolic links and the names
/// in `skippedFolders` are passed over; a folder that holds a text with a document table (`docs.txt` with
/// `docs.tsv`, or `NAME.txt` with `NAME.docs.tsv`) contributes those texts and nothing else.
package func files(ofSource source: String) throws(BadInput) -> [SourceFile] {
    switch fileKind(source, following: true) {
    case nil:
        throw BadInput("cannot open \(source): \(errorText(errno))")
    case .folder?:
        var found: [SourceFile] = []
        try walk(source, key: "", into: &found)
        return found
    default:
        let text = textBeside(table: source) ?? source
        let table = tablePath(ofText: text)
        let hasTable = fileKind(table, following: true) == .file
        return [SourceFile(path: text, key: baseName(text), table: hasTable ? table : nil, named: true)]
    }
}

/// Folders of build products and downloads, which nobody means by "train on this folder".
package let skippedFolders: Set<String> = ["outputs", "build", "DerivedData", "node_modules", "__pycache__"]

private func walk(_ folder: String, key: String, into found: inout [SourceFile]) throws(BadInput) {
    let names = try entries(of: folder)
    let texts = names.filter { name in
        name.hasSuffix(".txt") && names.contains(tablePath(ofText: name))
            && fileKind(folder + "/" + name, following: true) == .file
    }
    for name in texts.isEmpty ? names : texts {
        let path = folder + "/" + name
        let below = key.isEmpty ? name : key + "/" + name
        switch fileKind(path, following: !texts.isEmpty) {
        case .folder? where !skippedFolders.contains(name):
            try walk(path, key: below, into: &found)
        case .file?:
            let table = texts.isEmpty ? nil : tablePath(ofText: path)
            found.append(SourceFile(path: path, key: below, table: table, named: table != nil))
        default:
            continue
        }
    }
}

/// The visible names in `folder`, sorted by their bytes.
private func entries(of folder: String) throws(BadInput) -> [String] {
    guard let stream = unsafe opendir(folder) else {
        throw BadInput("cannot read folder \(folder): \(errorText(errno))")
    }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
        let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { raw in
            unsafe String(validating: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
        if let name, !name.hasPrefix(".") { names.append(name) }
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
    let stem = path.hasSuffix(".txt") ? String(path.dropLast(4)) : path
    return baseName(path) == "docs.txt" ? stem + ".tsv" : stem + ".docs.tsv"
}

/// Naming the table means the text beside it.
private func textBeside(table path: String) -> String? {
    if path.hasSuffix(".docs.tsv") { return path.dropLast(9) + ".txt" }
    if baseName(path) == "docs.tsv" { return path.dropLast(4) + ".txt" }
    return nil
}

package func baseName(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
}
