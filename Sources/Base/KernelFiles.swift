#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What the kernel tells in small files of /proc and /sys.
public enum KernelFiles {
    /// The lines of a file; none where there is no such file.
    public static func lines(of path: String) -> [String] {
        guard let file = unsafe fopen(path, "r") else { return [] }
        defer { unsafe fclose(file) }
        var lines: [String] = []
        var buffer = [CChar](repeating: 0, count: 4_096)
        while unsafe fgets(&buffer, Int32(buffer.count), file) != nil {
            let bytes = buffer.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }
            lines.append(String(decoding: bytes, as: UTF8.self))
        }
        return lines
    }

    /// The first line of a file that begins so.
    public static func line(of path: String, beginning: String) -> String? {
        lines(of: path).first { $0.hasPrefix(beginning) }
    }

    /// A list as the kernel writes it, "0-3,8"; nil where it is none, or names more than a million numbers.
    public static func numbers(_ list: some StringProtocol) -> [Int]? {
        var found: [Int] = []
        for part in list.split(separator: ",") {
            let range = String(part).filter { !$0.isWhitespace }
            let ends = range.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard let first = ends.first ?? nil, let last = ends.last ?? nil, ends.count <= 2, first <= last,
                  found.count + last - first < 1_000_000 else { return nil }
            found += first...last
        }
        return found.isEmpty ? nil : found
    }
}
