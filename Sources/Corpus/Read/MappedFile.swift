import Base

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A file's bytes, mapped read-only for as long as this object lives. The kernel loads pages on demand and
/// shares them between ranks of one host. A file that somebody shortens meanwhile ends the process with a line
/// that names it, so only token files stay mapped; texts are copied when they are opened.
@safe package final class MappedFile {
    package let path: String
    package let count: Int
    private let base: UnsafeRawPointer?
    /// Done with the first file.
    private static let namesShortenedFiles: Void = nameShortenedFiles()

    /// Maps the regular file at `path`, which may be empty.
    package init(_ path: String) throws(BadInput) {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw BadInput("cannot open \(path): \(errorText(errno))") }
        defer { close(file) }
        var status = stat()
        guard unsafe fstat(file, &status) == 0 else {
            throw BadInput("cannot read \(path): \(errorText(errno))")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw BadInput("\(path) is not a regular file; name a text file or a folder")
        }
        _ = Self.namesShortenedFiles
        self.path = path
        count = Int(status.st_size)
        guard count > 0 else {
            unsafe base = nil
            return
        }
        let address = unsafe mmap(nil, count, PROT_READ, MAP_PRIVATE, file, 0)
        guard let address = unsafe address, unsafe address != MAP_FAILED else {
            throw BadInput("cannot map \(path): \(errorText(errno))")
        }
        unsafe base = UnsafeRawPointer(address)
    }

    deinit {
        if let base = unsafe base { unsafe munmap(UnsafeMutableRawPointer(mutating: base), count) }
    }

    /// All bytes, valid while `self` lives.
    package var bytes: Span<UInt8> {
        @_lifetime(borrow self) get {
            let buffer = unsafe UnsafeBufferPointer(
                start: base?.assumingMemoryBound(to: UInt8.self), count: count)
            return unsafe _overrideLifetime(Span(_unsafeElements: buffer), borrowing: self)
        }
    }

    /// The same bytes, for loading integers.
    package var raw: RawSpan {
        @_lifetime(borrow self) get {
            let buffer = unsafe UnsafeRawBufferPointer(start: base, count: count)
            return unsafe _overrideLifetime(RawSpan(_unsafeBytes: buffer), borrowing: self)
        }
    }

    /// The little-endian integer at byte `offset`, which need not be aligned.
    package func integer<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type, at offset: Int) -> T {
        unsafe T(littleEndian: raw.unsafeLoadUnaligned(fromByteOffset: offset, as: T.self))
    }
}
