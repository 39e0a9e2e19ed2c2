import Base
import Glibc

/// The kernel's file systems.
///
/// Files are read with `pread`, not mapped: a mapped file that is cut short or sits on a bad sector kills the
/// process with SIGBUS, whereas here both must become one line of text.
public struct RealDisk: Disk {
    public init() {}

    public func kind(_ path: String) throws(DiskError) -> PathKind? {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw DiskError("look at", path, code: errno)
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return .file(size: Int(status.st_size))
        case S_IFDIR: return .folder
        default: return .other
        }
    }

    public func list(_ folder: String) throws(DiskError) -> [String] {
        guard let stream = unsafe opendir(folder) else { throw DiskError("list", folder, code: errno) }
        defer { unsafe closedir(stream) }
        var names: [String] = []
        while true {
            // The end and an error differ only in errno.
            errno = 0
            guard let entry = unsafe readdir(stream) else { break }
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        guard errno == 0 else { throw DiskError("list", folder, code: errno) }
        return names
    }

    public func createFolder(_ path: String) throws(DiskError) {
        guard unsafe mkdir(path, 0o777) == 0 else { throw DiskError("create the folder", path, code: errno) }
    }

    public func create(_ path: String, size: Int) throws(DiskError) -> OpenFile {
        let descriptor = unsafe Glibc.open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw DiskError("create", path, code: errno) }
        // Unlike its neighbours it returns the error and refuses a length of 0. Where the file system has
        // no such call, the C library writes to every block instead.
        var code = size == 0 ? 0 : posix_fallocate(descriptor, 0, size)
        if Self.cannot(code) {
            StorageWarnings.add("\(path): this file system cannot reserve room; a full disk will show only in the "
                + "middle of a save, which then fails", once: "reserve")
            code = ftruncate(descriptor, size) == 0 ? 0 : errno
        }
        guard code == 0 else {
            _ = Glibc.close(descriptor)
            throw DiskError("reserve \(Units.bytes(size)) for", path, code: code)
        }
        return OpenFile(path: path, descriptor: descriptor)
    }

    public func open(_ path: String) throws(DiskError) -> OpenFile {
        let descriptor = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw DiskError("open", path, code: errno) }
        return OpenFile(path: path, descriptor: descriptor)
    }

    public func close(_ file: OpenFile) { _ = Glibc.close(file.descriptor) }

    public func write(_ bytes: UnsafeRawBufferPointer, to file: OpenFile, at offset: Int)
        throws(DiskError) {
        var done = 0
        while done < bytes.count {
            let count = unsafe pwrite(file.descriptor, bytes.baseAddress! + done, bytes.count - done,
                                      offset + done)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw DiskError("write", file.path, code: count < 0 ? errno : EIO) }
            done += count
        }
    }

    public func read(into buffer: UnsafeMutableRawBufferPointer, from file: OpenFile, at offset: Int)
        throws(DiskError) {
        var done = 0
        while done < buffer.count {
            let count = unsafe pread(file.descriptor, buffer.baseAddress! + done, buffer.count - done,
                                     offset + done)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw DiskError("read", file.path, code: count < 0 ? errno : 0) }
            done += count
        }
    }

    public func cut(_ file: OpenFile, to size: Int) throws(DiskError) {
        while ftruncate(file.descriptor, size) != 0 {
            guard errno == EINTR else { throw DiskError("cut", file.path, code: errno) }
        }
    }

    public func sync(_ file: OpenFile) throws(DiskError) {
        guard fsync(file.descriptor) == 0 else { throw DiskError("sync", file.path, code: errno) }
    }

    public func syncFolder(_ path: String) throws(DiskError) {
        let descriptor = unsafe Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw DiskError("sync the folder", path, code: errno) }
        defer { _ = Glibc.close(descriptor) }
        if fsync(descriptor) == 0 { return }
        let code = errno
        guard Self.cannot(code) else { throw DiskError("sync the folder", path, code: code) }
        StorageWarnings.add("\(path): this file system cannot sync a folder (\(errorText(code))); what is saved is on "
            + "the disk, but after a power cut its name may not be", once: "sync a folder")
    }

    /// Whether the file system does not know the operation at all, as CIFS and FUSE do not know the sync of a folder.
    /// What is left is as safe as that file system can be; a device that fails (EIO) or is full (ENOSPC) is not this.
    private static func cannot(_ code: Int32) -> Bool { [EINVAL, EOPNOTSUPP, ENOSYS].contains(code) }

    public func rename(_ old: String, to new: String) throws(DiskError) {
        guard unsafe Glibc.rename(old, new) == 0 else { throw DiskError("rename", old, code: errno) }
    }

    public func remove(_ file: String) throws(DiskError) {
        guard unsafe unlink(file) == 0 else { throw DiskError("remove", file, code: errno) }
    }

    public func removeFolder(_ path: String) throws(DiskError) {
        guard unsafe rmdir(path) == 0 else { throw DiskError("remove the folder", path, code: errno) }
    }
}
