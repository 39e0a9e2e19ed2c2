/// Who is to blame decides the exit code: the input (2), or something that went wrong while running (1).
public enum FaultKind: Sendable {
    /// A file, key or flag that the user can correct. Nothing was changed. Exit code 2.
    case badInput
    /// A dead peer, a full disk, a broken promise of ours. Exit code 1.
    case running

    public var exitCode: Int32 { self == .badInput ? 2 : 1 }
}

/// An operating error. Each room declares its own enum or struct; the text is one line that names the
/// thing (file, key, rank, offset) and says what to do. Programmer errors trap instead.
public protocol Fault: Error, CustomStringConvertible, Sendable {
    var kind: FaultKind { get }
}

/// The plain case: input that cannot be used, said in one line.
public struct BadInput: Fault, Equatable {
    public let description: String
    public var kind: FaultKind { .badInput }
    public init(_ description: String) { self.description = description }
}

/// The text of the C library's `errno` value, for example "No such file or directory". Where it is this process's limit
/// of open files, the limit, and how it is raised.
public func errorText(_ code: Int32) -> String {
    let text = unsafe String(cString: strerror(code))
    guard code == EMFILE else { return text }
    var limit = rlimit()
    _ = unsafe getrlimit(__rlimit_resource_t(UInt32(RLIMIT_NOFILE.rawValue)), &limit)
    return "\(text) (the limit of this process is \(limit.rlim_cur); raise it, for example by ulimit -n 4096)"
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
