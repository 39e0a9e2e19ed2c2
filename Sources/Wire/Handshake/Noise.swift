import Crypto

/// The pattern NNpsk0 of the Noise Protocol Framework (revision 34, sections 5, 7.4 and 9):
/// `Noise_NNpsk0_25519_AESGCM_SHA256`.
///
///     -> psk, e
///     <- e, ee
///
/// Both sides know a secret of 32 bytes and nothing else about each other. The first message can only be
/// made by somebody who knows the secret; the second proves to the initiator that the responder knows it
/// and answers this very message; the first transport message proves the same to the responder. The keys
/// come from fresh X25519 pairs, so a secret that leaks later does not open recorded traffic.
package struct NoiseNNpsk0 {
    package static let name = "Noise_NNpsk0_25519_AESGCM_SHA256"
    package static let publicKeyByteCount = 32
    package static let tagByteCount = 16
    /// How much longer a handshake message is than its payload.
    package static let overhead = publicKeyByteCount + tagByteCount

    package enum Failure: Error { case cannotOpen }

    private var chainingKey: [UInt8]
    private var hash: [UInt8]
    private var cipher = NoiseCipher(key: SymmetricKey(data: [UInt8](repeating: 0, count: 32)))
    /// Made when it is first needed, so that a listener spends no curve arithmetic on a stranger.
    private var ephemeral: Curve25519.KeyAgreement.PrivateKey?

    /// `ephemeral` is a parameter for the known-answer test only.
    package init(secret: [UInt8], prologue: [UInt8], ephemeral: Curve25519.KeyAgreement.PrivateKey? = nil) {
        // The name has exactly the hash's 32 bytes, so it is the first hash itself (section 5.2).
        hash = Array(Self.name.utf8)
        chainingKey = hash
        self.ephemeral = ephemeral
        mixHash(prologue)
        mixKeyAndHash(secret)
    }

    /// Section 5.2: a hash over everything that both sides have said so far.
    package var transcript: [UInt8] { hash }

    package mutating func writeFirst(_ payload: [UInt8]) -> [UInt8] {
        writeEphemeral() + encryptAndHash(payload)
    }

    package mutating func readFirst(_ message: [UInt8]) throws(Failure) -> [UInt8] {
        let (_, sealed) = try readEphemeral(message)
        return try decryptAndHash(sealed)
    }

    /// The responder's answer to the message whose public key `readFirst` saw.
    package mutating func writeSecond(_ payload: [UInt8], to first: [UInt8]) throws(Failure) -> [UInt8] {
        let own = writeEphemeral()
        try mixSharedKey(with: Array(first.prefix(Self.publicKeyByteCount)))
        return own + encryptAndHash(payload)
    }

    package mutating func readSecond(_ message: [UInt8]) throws(Failure) -> [UInt8] {
        let (key, sealed) = try readEphemeral(message)
        try mixSharedKey(with: key)
        return try decryptAndHash(sealed)
    }

    /// The transport keys: from initiator to responder, and back (section 5.2, Split).
    package func split() -> (NoiseCipher, NoiseCipher) {
        let keys = derive([], count: 2)
        return (NoiseCipher(key: SymmetricKey(data: keys[0])), NoiseCipher(key: SymmetricKey(data: keys[1])))
    }

    private mutating func writeEphemeral() -> [UInt8] {
        let own = ephemeral ?? Curve25519.KeyAgreement.PrivateKey()
        ephemeral = own
        let key = Array(own.publicKey.rawRepresentation)
        mixHash(key)
        mixKey(key)     // With a psk, the ephemeral key is also mixed into the cipher's key (section 9.2).
        return key
    }

    private mutating func readEphemeral(_ message: [UInt8]) throws(Failure) -> ([UInt8], [UInt8]) {
        guard message.count >= Self.overhead else { throw .cannotOpen }
        let key = Array(message.prefix(Self.publicKeyByteCount))
        mixHash(key)
        mixKey(key)
        return (key, Array(message.dropFirst(Self.publicKeyByteCount)))
    }

    private mutating func mixSharedKey(with publicKey: [UInt8]) throws(Failure) {
        // A key of low order gives no secret; the library refuses it.
        guard let own = ephemeral,
              let other = try? Curve25519.KeyAgreement.PublicKey(rawRepresentation: publicKey),
              let shared = try? own.sharedSecretFromKeyAgreement(with: other) else { throw .cannotOpen }
        mixKey(unsafe shared.withUnsafeBytes { unsafe Array($0) })
    }

    private mutating func mixHash(_ data: [UInt8]) {
        hash = Array(SHA256.hash(data: hash + data))
    }

    private mutating func mixKey(_ material: [UInt8]) {
        let keys = derive(material, count: 2)
        chainingKey = keys[0]
        cipher = NoiseCipher(key: SymmetricKey(data: keys[1]))
    }

    private mutating func mixKeyAndHash(_ material: [UInt8]) {
        let keys = derive(material, count: 3)
        chainingKey = keys[0]
        mixHash(keys[1])
        cipher = NoiseCipher(key: SymmetricKey(data: keys[2]))
    }

    /// HKDF as Noise has it (section 4.3): extract with the chaining key as salt, expand without info.
    private func derive(_ material: [UInt8], count: Int) -> [[UInt8]] {
        let output = HKDF<SHA256>.deriveKey(
            inputKeyMaterial: SymmetricKey(data: material), salt: chainingKey, info: [UInt8](),
            outputByteCount: 32 * count)
        let bytes = unsafe output.withUnsafeBytes { unsafe Array($0) }
        return (0..<count).map { Array(bytes[(32 * $0)..<(32 * $0 + 32)]) }
    }

    private mutating func encryptAndHash(_ plain: [UInt8]) -> [UInt8] {
        let sealed = cipher.seal(plain, authenticating: hash)
        mixHash(sealed)
        return sealed
    }

    private mutating func decryptAndHash(_ sealed: [UInt8]) throws(Failure) -> [UInt8] {
        guard let plain = cipher.open(sealed, authenticating: hash) else { throw .cannotOpen }
        mixHash(sealed)
        return plain
    }
}

/// A key and its counter (section 5.1). AES-GCM's nonce is 4 zero bytes and the counter, big-endian.
package struct NoiseCipher {
    private let key: SymmetricKey
    private var counter: UInt64 = 0

    init(key: SymmetricKey) { self.key = key }

    /// Ciphertext and tag.
    package mutating func seal(_ plain: [UInt8], authenticating data: [UInt8] = []) -> [UInt8] {
        let box = try? AES.GCM.seal(plain, using: key, nonce: nonce(), authenticating: data)
        guard let box else { preconditionFailure("AES-GCM refused a valid key and nonce") }
        counter += 1
        return Array(box.ciphertext) + Array(box.tag)
    }

    /// Nil when a bit was changed, or the key is another. The counter then stays.
    package mutating func open(_ sealed: [UInt8], authenticating data: [UInt8] = []) -> [UInt8]? {
        guard sealed.count >= NoiseNNpsk0.tagByteCount,
              let box = try? AES.GCM.SealedBox(
                  nonce: nonce(), ciphertext: sealed.dropLast(NoiseNNpsk0.tagByteCount),
                  tag: sealed.suffix(NoiseNNpsk0.tagByteCount)),
              let plain = try? AES.GCM.open(box, using: key, authenticating: data) else { return nil }
        counter += 1
        return Array(plain)
    }

    /// A key for something else than handshake messages, so that counters cannot meet.
    package func derived(for purpose: String) -> SymmetricKey {
        HKDF<SHA256>.deriveKey(inputKeyMaterial: key, salt: [UInt8](), info: Array(purpose.utf8),
                               outputByteCount: 32)
    }

    private func nonce() -> AES.GCM.Nonce {
        var bytes = [UInt8](repeating: 0, count: 12)
        for byte in 0..<8 { bytes[4 + byte] = UInt8(truncatingIfNeeded: counter >> UInt64(56 - 8 * byte)) }
        guard let nonce = try? AES.GCM.Nonce(data: bytes) else { preconditionFailure("a nonce has 12 bytes") }
        return nonce
    }
}
