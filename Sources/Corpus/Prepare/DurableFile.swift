import Base

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The disk is full, or gone: nothing that the input could help.
public struct WriteFault: Fault, Equatable {
    public let description: String
    public var kind: FaultKind { .running }
}

/// Writes `parts` to a new file that is whole or not there: under another name first, then to the disk, then renamed.
/// What a killed process leaves behind ends in `.tmp`.
func writeDurably(_ parts: [[UInt8]], to path: String) throws(WriteFault) {
    let temporary = path + ".tmp"
    func fault(_ what: String) -> WriteFault { WriteFault(description: "cannot \(what): \(errorText(errno))") }
    let file = unsafe open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw fault("create \(temporary)") }
    defer { close(file) }
    for part in parts {
        var done = 0
        while done < part.count {
            let count = unsafe part.withUnsafeBytes { unsafe write(file, $0.baseAddress! + done, part.count - done) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw fault("write \(temporary) at byte \(done)") }
            done += count
        }
    }
    guard fsync(file) == 0 else { throw fault("write \(temporary) to the disk") }
    guard unsafe rename(temporary, path) == 0 else { throw fault("rename \(temporary)") }
    // The name is on the disk once its folder is.
    let folder = unsafe open(path.contains("/") ? String(path[..<path.lastIndex(of: "/")!]) + "/" : ".",
                             O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { throw fault("open the folder of \(path)") }
    defer { close(folder) }
    guard fsync(folder) == 0 else { throw fault("write the folder of \(path) to the disk") }
}

/// A folder that this process alone writes to, for as long as the object lives.
final class LockedFolder {
    let path: String
    private let descriptor: Int32

    /// Makes the folder (not those above it) unless it is there. Throws when another process is at work in it.
    init(_ path: String) throws(BadInput) {
        self.path = path
        if unsafe mkdir(path, 0o755) != 0, errno != EEXIST {
            throw BadInput("cannot make the folder \(path): \(errorText(errno))")
        }
        let opened = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard opened >= 0 else { throw BadInput("cannot open the folder \(path): \(errorText(errno))") }
        descriptor = opened
        guard flock(opened, LOCK_EX | LOCK_NB) == 0 else {
            throw BadInput("another process is writing to \(path)")
        }
    }

    deinit { close(descriptor) }

    func remove(_ name: String) { unsafe _ = unlink(path + "/" + name) }
}
