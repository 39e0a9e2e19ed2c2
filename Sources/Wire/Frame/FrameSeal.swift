import Base
import Crypto
import Foundation

/// The AES-256-GCM key of one stream in one direction. The caller guarantees that a sequence number is
/// used once; the nonce is made of it. The crypto library has no in-place form, so sealed frames allocate.
package struct FrameSeal: Sendable {
    private let key: SymmetricKey

    package init(key: SymmetricKey) { self.key = key }

    private static let nonceByteCount = 12

    /// Ciphertext followed by the tag, with the header as associated data.
    package func seal(_ payload: UnsafeRawBufferPointer, header: UnsafeRawBufferPointer,
                      sequence: UInt64) -> Data {
        let box = unsafe try? AES.GCM.seal(payload, using: key, nonce: Self.nonce(sequence),
                                           authenticating: header)
        // The box holds nonce, ciphertext and tag in a row; the slice shares its memory.
        guard let row = box?.combined else { preconditionFailure("AES-GCM refused a valid key and nonce") }
        return row.dropFirst(Self.nonceByteCount)
    }

    /// Opens `payload` in place. False means that a bit of payload, tag or header was changed, and leaves
    /// the payload as it was.
    package func open(_ payload: UnsafeMutableRawBufferPointer, tag: [UInt8],
                      header: UnsafeRawBufferPointer, sequence: UInt64) -> Bool {
        guard let box = unsafe try? AES.GCM.SealedBox(nonce: Self.nonce(sequence),
                                                      ciphertext: UnsafeRawBufferPointer(payload), tag: tag),
              let plain = unsafe try? AES.GCM.open(box, using: key, authenticating: header),
              plain.count == payload.count else { return false }
        unsafe plain.copyBytes(to: payload)
        return true
    }

    private static func nonce(_ sequence: UInt64) -> AES.GCM.Nonce {
        var bytes = [UInt8](repeating: 0, count: nonceByteCount)
        for byte in 0..<8 { bytes[4 + byte] = UInt8(truncatingIfNeeded: sequence >> UInt64(56 - 8 * byte)) }
        guard let nonce = try? AES.GCM.Nonce(data: bytes) else { preconditionFailure("a nonce has 12 bytes") }
        return nonce
    }
}
