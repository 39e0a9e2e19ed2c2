#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What this process was started with.
public enum ProcessEnvironment {
    /// The environment's variables. Of a name that is there twice, the first counts, as with getenv.
    public static func current() -> [String: String] {
        var values: [String: String] = [:]
        var next = unsafe environ
        while let entry = unsafe next.pointee {
            let text = unsafe String(cString: entry)
            let parts = text.utf8.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
                .map { String($0) ?? "" }
            if parts.count == 2, !parts[0].isEmpty, values[parts[0]] == nil { values[parts[0]] = parts[1] }
            unsafe next += 1
        }
        return values
    }

    /// This program's file, to start it again. Where the file was replaced since, /proc still has the old one.
    public static func program() -> String {
        let own = "/proc/self/exe"
        var bytes = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = unsafe readlink(own, &bytes, bytes.count)
        guard count > 0, count < bytes.count else { return own }
        let path = String(decoding: bytes[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
        return unsafe access(path, X_OK) == 0 ? path : own
    }

    /// Where a program is that was given by its name, as a shell finds it; nil where there is none.
    public static func find(_ program: String) -> String? {
        if program.contains("/") { return unsafe access(program, X_OK) == 0 ? program : nil }
        let folders = (current()["PATH"] ?? "/usr/local/bin:/usr/bin:/bin").split(separator: ":")
        return folders.map { "\($0)/\(program)" }.first { unsafe access($0, X_OK) == 0 }
    }
}
