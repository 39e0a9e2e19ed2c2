import Base
import Crypto
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The 32 random bytes that every rank of one job knows and nobody else does. Whoever holds them is part
/// of the job and trusted; an insider who misbehaves is outside what this room defends against.
///
/// The file holds 64 hexadecimal digits (or 32 raw bytes) and must be readable by its owner alone. The
/// secret never travels in arguments or environment variables, where other users could read it.
public struct JobSecret: Sendable, Equatable, CustomStringConvertible {
    public static let byteCount = 32
    package let bytes: [UInt8]

    package init(bytes: [UInt8]) {
        precondition(bytes.count == Self.byteCount, "a job secret has 32 bytes")
        self.bytes = bytes
    }

    /// Never the secret itself: this text may end in a log.
    public var description: String { "job secret (hidden)" }

    /// A fresh secret from the kernel's random source.
    public static func random() -> JobSecret {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        let failed = unsafe bytes.withUnsafeMutableBytes { unsafe getentropy($0.baseAddress, $0.count) }
        precondition(failed == 0, "the kernel gave no random bytes")
        return JobSecret(bytes: bytes)
    }

    /// Writes a fresh secret to a new file with mode 0600. An existing file is never overwritten.
    @discardableResult
    public static func create(at path: String) throws(WireError) -> JobSecret {
        let secret = random()
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .secret(path: path, problem: errorText(errno)) }
        defer { close(descriptor) }
        // The process's umask can only take rights away; fchmod makes the mode exact.
        let text = Array((hexadecimal(secret.bytes) + "\n").utf8)
        let written = unsafe text.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
        guard fchmod(descriptor, 0o600) == 0, written == text.count, fsync(descriptor) == 0 else {
            throw .secret(path: path, problem: "cannot be written: \(errorText(errno))")
        }
        return secret
    }

    /// Reads a secret, refusing a file that other users may read.
    public static func load(from path: String) throws(WireError) -> JobSecret {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw .secret(path: path, problem: errorText(errno)) }
        defer { close(descriptor) }
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else {
            throw .secret(path: path, problem: errorText(errno))
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .secret(path: path, problem: "is not a file")
        }
        guard status.st_mode & 0o077 == 0 else {
            let mode = String(status.st_mode & 0o777, radix: 8)
            throw .secret(path: path, problem: "other users may read it (mode \(mode)); run chmod 600 on it")
        }
        var content = [UInt8](repeating: 0, count: 256)
        let got = unsafe content.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
        guard got >= 0 else { throw .secret(path: path, problem: errorText(errno)) }
        guard let bytes = parse(Array(content[..<got])) else {
            throw .secret(path: path, problem: "is not 64 hexadecimal digits or 32 bytes (\(got) bytes read); make one "
                + "by skein secret new")
        }
        return JobSecret(bytes: bytes)
    }

    /// 32 raw bytes, or 64 hexadecimal digits with at most white space after them.
    package static func parse(_ content: [UInt8]) -> [UInt8]? {
        if content.count == byteCount { return content }
        var digits = content[...]
        while let last = digits.last, last == 0x0A || last == 0x0D || last == 0x20 { digits.removeLast() }
        guard digits.count == 2 * byteCount else { return nil }
        return Base.bytes(hexadecimal: digits)
    }
}

extension JobSecret {
    /// What only somebody who knows the secret can say of a text: its HMAC-SHA256, in hexadecimal digits.
    public func proof(of text: String) -> String {
        let code = HMAC<SHA256>.authenticationCode(for: Array(("skein meeting\n" + text).utf8),
                                                   using: SymmetricKey(data: bytes))
        return hexadecimal(Array(code))
    }
}
