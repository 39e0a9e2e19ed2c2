import Base
import CUV
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

// MEMORY THAT TWO RANKS OF ONE MACHINE SHARE
// ==========================================
// One of the two makes a file in memory (memfd) and tells the other on their control stream, which is authenticated:
// its process, the descriptor, the size, and 32 random bytes. The other opens /proc/PID/fd/N, which the kernel allows
// to the same user in the same process namespace, and compares the 32 bytes with those that stand in the memory. If
// anything is different, it says no, and the two go on by TCP. So no socket, file or name is there that a third could
// open, and the memory goes with the two processes, whatever ends them.
//
//   offset  bytes
//        0     32  the cookie
//     4096         ring from the lower rank to the higher one: positions, then data
//      ...         ring from the higher rank to the lower one
//
/// A mapping of such memory, unmapped at its end. The descriptor is open only until the other rank has opened it, too,
/// so that shared memory costs a running rank none.
@safe package final class SharedSegment {
    static let cookieByteCount = 32
    private static let headByteCount = 4096
    static let byteCount = headByteCount + 2 * SharedRing.byteCount

    private var descriptor: Int32
    private let memory: UnsafeMutableRawPointer

    /// How an offer names the memory.
    package struct Name: Equatable, Sendable {
        var process: UInt32
        var descriptor: UInt32
        var byteCount: UInt64
        var cookie: [UInt8]
    }

    /// Takes the descriptor over, whatever comes of it.
    private init?(descriptor: Int32, isSized: (Int32) -> Bool) {
        guard descriptor >= 0 else { return nil }
        guard isSized(descriptor),
              let mapping = unsafe mmap(nil, Self.byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0),
              unsafe mapping != MAP_FAILED else {
            Self.close(descriptor)
            return nil
        }
        self.descriptor = descriptor
        unsafe memory = unsafe mapping
    }

    deinit {
        unsafe munmap(memory, Self.byteCount)
        closeDescriptor()
    }

    /// Nobody needs to open it any more.
    func closeDescriptor() {
        if descriptor >= 0 { Self.close(descriptor) }
        descriptor = -1
    }

    private static func close(_ descriptor: Int32) {
#if canImport(Glibc)
        Glibc.close(descriptor)
#else
        Musl.close(descriptor)
#endif
    }

    /// Makes the memory; nil where the system does not give any.
    static func make() -> (segment: SharedSegment, name: Name)? {
        let descriptor = unsafe skein_memory_file("skein")
        // Preallocated: a full memory cgroup is found out here and not by a signal in the middle of a step.
        let segment = SharedSegment(descriptor: descriptor) {
            ftruncate($0, byteCount) == 0 && posix_fallocate($0, 0, byteCount) == 0
        }
        guard let segment else { return nil }
        var random = SystemRandomNumberGenerator()
        let cookie = (0..<cookieByteCount).map { _ in UInt8.random(in: 0...255, using: &random) }
        unsafe UnsafeMutableRawBufferPointer(start: segment.memory, count: cookieByteCount).copyBytes(from: cookie)
        return (segment, Name(process: UInt32(getpid()), descriptor: UInt32(descriptor), byteCount: UInt64(byteCount),
                              cookie: cookie))
    }

    /// Opens what a peer has offered; nil where it is not to be had, or is something else.
    static func open(_ name: Name) -> SharedSegment? {
        guard name.byteCount == byteCount, name.cookie.count == cookieByteCount else { return nil }
        let path = "/proc/\(name.process)/fd/\(name.descriptor)"
        // On another machine of the same name the path leads anywhere: nothing but such memory is opened.
        var target = [CChar](repeating: 0, count: 64)
        guard unsafe readlink(path, &target, target.count - 1) > 0,
              String(decoding: target.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                .hasPrefix("/memfd:skein") else { return nil }
        let segment = SharedSegment(descriptor: Self.openFile(path)) { descriptor in
            var status = stat()
            return unsafe fstat(descriptor, &status) == 0 && Int(status.st_size) == byteCount
        }
        guard let segment else { return nil }
        segment.closeDescriptor()
        let found = unsafe Array(UnsafeRawBufferPointer(start: segment.memory, count: cookieByteCount))
        return found == name.cookie ? segment : nil
    }

    private static func openFile(_ path: String) -> Int32 {
#if canImport(Glibc)
        unsafe Glibc.open(path, O_RDWR | O_CLOEXEC)
#else
        unsafe Musl.open(path, O_RDWR | O_CLOEXEC)
#endif
    }

    /// The ring in one of the two directions.
    func ring(fromLower: Bool) -> SharedRing {
        unsafe SharedRing(memory + Self.headByteCount + (fromLower ? 0 : SharedRing.byteCount))
    }
}
