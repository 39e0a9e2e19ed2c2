import Base
import Glibc
import Synchronization

/// A disk on which work can be given up from another thread: after `cancel` every operation that would bring a file
/// further is refused with ECANCELED, as a failing disk would refuse it. So whoever writes needs no notion of being
/// cancelled, and leaves things as after any other failure. Removing what was begun stays possible.
public final class CancellableDisk: Disk {
    private let disk: any Disk
    private let isCancelled = Atomic(false)

    public init(_ disk: any Disk) { self.disk = disk }

    public func cancel() { isCancelled.store(true, ordering: .relaxed) }

    private func goesOn(_ operation: String, _ path: String) throws(DiskError) {
        if isCancelled.load(ordering: .relaxed) { throw DiskError(operation, path, code: ECANCELED) }
    }

    public func createFolder(_ path: String) throws(DiskError) {
        try goesOn("create the folder", path)
        try disk.createFolder(path)
    }

    public func create(_ path: String, size: Int) throws(DiskError) -> OpenFile {
        try goesOn("create", path)
        return try disk.create(path, size: size)
    }

    public func write(_ bytes: UnsafeRawBufferPointer, to file: OpenFile, at offset: Int) throws(DiskError) {
        try goesOn("write", file.path)
        try unsafe disk.write(bytes, to: file, at: offset)
    }

    public func cut(_ file: OpenFile, to size: Int) throws(DiskError) {
        try goesOn("cut", file.path)
        try disk.cut(file, to: size)
    }

    public func sync(_ file: OpenFile) throws(DiskError) {
        try goesOn("sync", file.path)
        try disk.sync(file)
    }

    public func rename(_ old: String, to new: String) throws(DiskError) {
        try goesOn("rename", old)
        try disk.rename(old, to: new)
    }

    public func kind(_ path: String) throws(DiskError) -> PathKind? { try disk.kind(path) }
    public func list(_ folder: String) throws(DiskError) -> [String] { try disk.list(folder) }
    public func open(_ path: String) throws(DiskError) -> OpenFile { try disk.open(path) }
    public func close(_ file: OpenFile) { disk.close(file) }

    public func read(into buffer: UnsafeMutableRawBufferPointer, from file: OpenFile, at offset: Int)
        throws(DiskError) {
        try unsafe disk.read(into: buffer, from: file, at: offset)
    }

    public func syncFolder(_ path: String) throws(DiskError) { try disk.syncFolder(path) }
    public func remove(_ file: String) throws(DiskError) { try disk.remove(file) }
    public func removeFolder(_ path: String) throws(DiskError) { try disk.removeFolder(path) }
}
