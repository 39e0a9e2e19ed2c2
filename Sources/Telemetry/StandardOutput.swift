#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Writes bytes to a file descriptor in full, waiting where a reader is slow. What a closed terminal or pipe refuses
/// is dropped, since telemetry never ends a run; then the answer is false, and nobody will read any more.
///
/// A pipe may be non-blocking without our doing: the flag belongs to the pipe, and its other end may have set it.
@discardableResult
public func writeAll(_ bytes: [UInt8], to descriptor: Int32) -> Bool {
    var offset = 0
    while offset < bytes.count {
        let count = unsafe bytes.withUnsafeBytes { buffer in
            unsafe write(descriptor, buffer.baseAddress! + offset, buffer.count - offset)
        }
        if count > 0 {
            offset += count
        } else if errno == EAGAIN {
            var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            _ = unsafe poll(&ready, 1, -1)
        } else if errno != EINTR {
            return false
        }
    }
    return true
}

/// The same for text.
@discardableResult
func writeAll(_ text: String, to descriptor: Int32) -> Bool { writeAll(Array(text.utf8), to: descriptor) }

/// One line on standard error.
public func printError(_ line: String) { writeAll(line + "\n", to: 2) }
