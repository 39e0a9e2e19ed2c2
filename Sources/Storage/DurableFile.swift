import Base
import Glibc
import Synchronization

extension Disk {
    /// A new file under a name that may be taken. It is whole or not there: written beside `path` first, then synced,
    /// renamed over it, and its folder synced. What a killed process leaves behind ends in `.tmp`.
    public func replace(_ path: String, with parts: [[UInt8]]) throws(DiskError) {
        let temporary = path + ".tmp"
        if try kind(temporary) != nil { try remove(temporary) }
        let file = try create(temporary, size: parts.reduce(0) { $0 + $1.count })
        defer { close(file) }
        var offset = 0
        for part in parts {
            try unsafe part.span.bytes.withUnsafeBytes { bytes throws(DiskError) in
                try unsafe write(bytes, to: file, at: offset)
            }
            offset += part.count
        }
        try sync(file)
        try rename(temporary, to: path)
        try syncFolder(split(path).folder)
    }
}

/// What a file system cannot do, and this program can do without: said once for a process, by whoever shows warnings.
public enum StorageWarnings {
    private static let state = Mutex<(known: Set<String>, fresh: [String])>(([], []))

    static func add(_ text: String, once key: String) {
        state.withLock { if $0.known.insert(key).inserted { $0.fresh.append(text) } }
    }

    /// Those that were not taken before.
    public static func take() -> [String] {
        state.withLock { state in
            defer { state.fresh = [] }
            return state.fresh
        }
    }
}
