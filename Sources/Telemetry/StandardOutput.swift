#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Writes bytes to a file descriptor in full. What a closed terminal or pipe refuses is dropped: telemetry
/// never ends a run.
public func writeAll(_ bytes: [UInt8], to descriptor: Int32) {
    var offset = 0
    while offset < bytes.count {
        let count = unsafe bytes.withUnsafeBytes { buffer in
            unsafe write(descriptor, buffer.baseAddress! + offset, buffer.count - offset)
        }
        if count < 0, errno == EINTR { continue }
        if count <= 0 { return }
        offset += count
    }
}

/// One line on standard error.
public func printError(_ line: String) { writeAll(Array((line + "\n").utf8), to: 2) }
