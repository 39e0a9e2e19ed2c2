/// A 64-bit hash of memory, to compare replicated results between ranks. Not cryptographic: it finds
/// corruption and divergence, not malice.
///
/// Four lanes of 8-byte little-endian words, so that four multiplications are under way at once. Each lane
/// step is a bijection of the word, hence a change in one word always changes the result of its lane.
public func hash64(of bytes: UnsafeRawBufferPointer) -> UInt64 {
    let multiplier: UInt64 = 0x9E37_79B9_7F4A_7C15
    func mix(_ lane: UInt64, _ word: UInt64) -> UInt64 {
        let product = (lane ^ word) &* multiplier
        return product ^ (product >> 32)
    }
    func word(at offset: Int) -> UInt64 {
        UInt64(littleEndian: unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    // Separate variables: they stay in registers, as the members of a vector would not.
    var a: UInt64 = 0x243F_6A88_85A3_08D3
    var b: UInt64 = 0x1319_8A2E_0370_7344
    var c: UInt64 = 0xA409_3822_299F_31D0
    var d: UInt64 = 0x082E_FA98_EC4E_6C89
    var offset = 0
    while offset + 32 <= bytes.count {
        a = mix(a, word(at: offset))
        b = mix(b, word(at: offset + 8))
        c = mix(c, word(at: offset + 16))
        d = mix(d, word(at: offset + 24))
        offset += 32
    }
    var hash = UInt64(bytes.count)
    while offset < bytes.count {
        hash = mix(hash, unsafe UInt64(bytes[offset]))
        offset += 1
    }
    hash = mix(mix(mix(mix(hash, a), b), c), d)
    hash ^= hash >> 29
    hash = hash &* 0xBF58_476D_1CE4_E5B9
    return hash ^ (hash >> 32)
}

/// The hash of a row of floats, bit by bit: -0 and 0 differ, and so do different NaNs.
public func hash64(of floats: UnsafeBufferPointer<Float>) -> UInt64 {
    unsafe hash64(of: UnsafeRawBufferPointer(floats))
}
