import Base

/// Every operation that a checkpoint asks of the machine's storage.
///
/// The promise "no lost checkpoint" is a promise about what happens when one of these fails or is the last
/// one before the power goes. So all of them pass through here: `RealDisk` is the kernel, and a disk in the
/// tests remembers what was synced, fails at the n-th operation, and forgets the rest.
///
/// None of them retries. In particular a failed `sync` is final: after it the kernel may have dropped
/// the dirty pages and a second `fsync` would report success for data that is gone (Rebello et al., "Can
/// Applications Recover from fsync Failures?", USENIX ATC 2020).
public protocol Disk: Sendable {
    /// What `path` is, or nil if there is nothing.
    func kind(_ path: String) throws(DiskError) -> PathKind?
    /// The names in a folder, in no particular order, without "." and "..".
    func list(_ folder: String) throws(DiskError) -> [String]

    /// Makes one folder. Its parent must exist, it must not.
    func createFolder(_ path: String) throws(DiskError)
    /// Makes a file of `size` bytes whose blocks are reserved, so that a full disk shows up here and
    /// not in the middle of a write. The file must not exist.
    func create(_ path: String, size: Int) throws(DiskError) -> OpenFile
    func open(_ path: String) throws(DiskError) -> OpenFile
    /// Never fails: whatever mattered was synced before.
    func close(_ file: OpenFile)

    func write(_ bytes: UnsafeRawBufferPointer, to file: OpenFile, at offset: Int) throws(DiskError)
    /// Fills `buffer`. A file that ends earlier is a `DiskError` without a code.
    func read(into buffer: UnsafeMutableRawBufferPointer, from file: OpenFile, at offset: Int)
        throws(DiskError)

    /// Gives back what was reserved beyond the first `size` bytes: the file ends there.
    func cut(_ file: OpenFile, to size: Int) throws(DiskError)

    /// Returns when the file's bytes and size are on the medium.
    func sync(_ file: OpenFile) throws(DiskError)
    /// Returns when the folder's names are on the medium.
    func syncFolder(_ path: String) throws(DiskError)

    /// Replaces `new`, if it exists, in one step.
    func rename(_ old: String, to new: String) throws(DiskError)
    func remove(_ file: String) throws(DiskError)
    /// Removes a folder, which must be empty.
    func removeFolder(_ path: String) throws(DiskError)
}

/// A file between `open` or `create` and `close`.
public struct OpenFile: Sendable {
    public let path: String
    /// The kernel's descriptor, or whatever number another disk uses.
    package let descriptor: Int32

    package init(path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
    }
}

public enum PathKind: Equatable, Sendable {
    case file(size: Int)
    case folder
    /// A device, a socket.
    case other
}

/// An operation that the storage refused.
public struct DiskError: Fault, Equatable {
    /// What was tried, as it follows "cannot": "write", "sync".
    public let operation: String
    public let path: String
    /// The C library's `errno`; 0 if a file ended before the bytes that were asked for.
    public let code: Int32

    public init(_ operation: String, _ path: String, code: Int32) {
        self.operation = operation
        self.path = path
        self.code = code
    }

    public var kind: FaultKind { .running }

    public var description: String {
        "cannot \(operation) \(path): " + (code == 0 ? "the file ends too early" : errorText(code))
    }
}

/// `folder` and `name` joined by one slash.
package func joined(_ folder: String, _ name: String) -> String {
    folder.isEmpty ? name : (folder.hasSuffix("/") ? folder + name : folder + "/" + name)
}

/// The folder that holds `path`, and the last part of it. "a" is in ".", "/a" is in "/".
package func split(_ path: String) -> (folder: String, name: String) {
    let trimmed = trimmingSlashes(path)
    guard let slash = trimmed.lastIndex(of: "/") else { return (".", trimmed) }
    let folder = trimmingSlashes(String(trimmed[..<slash]))
    return (folder.isEmpty ? "/" : folder, String(trimmed[trimmed.index(after: slash)...]))
}

package func trimmingSlashes(_ path: String) -> String {
    var path = Substring(path)
    while path.count > 1, path.last == "/" { path.removeLast() }
    return String(path)
}
