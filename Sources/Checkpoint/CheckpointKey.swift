import Base
import Crypto

/// The 32 secret bytes with which manifests are signed (HMAC-SHA256, RFC 2104). A manifest vouches for every other
/// byte of its checkpoint by SHA-256, so whoever has no key can change none of them unnoticed.
public struct CheckpointKey: Sendable, Equatable, CustomStringConvertible {
    public static let byteCount = 32
    private let bytes: [UInt8]

    public init(bytes: [UInt8]) {
        precondition(bytes.count == Self.byteCount, "a checkpoint key has 32 bytes")
        self.bytes = bytes
    }

    /// 64 lower-case hex digits.
    func signature(of message: [UInt8]) -> String {
        hexadecimal(HMAC<SHA256>.authenticationCode(for: message, using: SymmetricKey(data: bytes)))
    }

    /// Never the key itself: this text may end in a log.
    public var description: String { "checkpoint key (hidden)" }
}
