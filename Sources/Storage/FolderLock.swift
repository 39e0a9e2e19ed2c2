import Base
import Glibc

/// A folder that this process alone works in, for as long as the object lives.
///
/// The lock is the kernel's (`flock`) on the file `.lock` in the folder, and it goes with the process, however that
/// ends; the file stays, and means nothing by itself. Linux hands such locks on to an NFS server, so they hold between
/// machines, too, unless the folder is mounted with `nolock` or `local_lock`: then they hold on one machine only. A
/// file system without locks is a warning, not an end.
public final class FolderLock {
    public static let fileName = ".lock"

    public let path: String
    private let descriptor: Int32

    /// The folder must exist.
    /// - Throws: `BadInput` that says `user`, when another process holds it; `DiskError` when it cannot be asked for.
    public init(_ path: String, orSay busy: String) throws {
        self.path = path
        let file = joined(path, Self.fileName)
        // A folder cannot be opened for writing, which NFS wants of what it locks; hence a file.
        descriptor = unsafe open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw DiskError("open", file, code: errno) }
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            let code = errno
            switch code {
            case EINTR: continue
            case EWOULDBLOCK:
                close(descriptor)
                throw BadInput(busy)
            case ENOLCK, ENOSYS, EOPNOTSUPP, EINVAL:
                StorageWarnings.add("\(path) cannot be locked (\(errorText(code))); take care that no other process "
                    + "works in it", once: "lock " + path)
                return
            default:
                close(descriptor)
                throw DiskError("lock", file, code: code)
            }
        }
    }

    deinit { close(descriptor) }
}
