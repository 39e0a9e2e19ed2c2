/// A 64-bit hash of memory, to compare replicated results between ranks. Not cryptographic: it finds
/// corruption and divergence, not malice.
///
/// Four lanes of 8-byte little-endian words, so that four multiplications are under way at once. Each lane
/// step is a bijection of the word, hence a change in one word always changes the result of its lane.
public func hash64(of bytes: UnsafeRawBufferPointer) -> UInt64 {
    let multiplier: UInt64 = 0x9E37_79B9_7F4A_7C15
    var lanes = SIMD4<UInt64>(0x243F_6A88_85A3_08D3, 0x1319_8A2E_0370_7344,
                              0xA409_3822_299F_31D0, 0x082E_FA98_EC4E_6C89)
    func mix(_ lane: UInt64, _ word: UInt64) -> UInt64 {
        let product = (lane ^ word) &* multiplier
        return product ^ (product >> 32)
    }
    var offset = 0
    while offset + 32 <= bytes.count {
        for lane in 0..<4 {
            let word = unsafe bytes.loadUnaligned(fromByteOffset: offset + 8 * lane, as: UInt64.self)
            lanes[lane] = mix(lanes[lane], UInt64(littleEndian: word))
        }
        offset += 32
    }
    var hash = UInt64(bytes.count)
    while offset < bytes.count {
        hash = mix(hash, unsafe UInt64(bytes[offset]))
        offset += 1
    }
    for lane in 0..<4 { hash = mix(hash, lanes[lane]) }
    hash ^= hash >> 29
    hash = hash &* 0xBF58_476D_1CE4_E5B9
    return hash ^ (hash >> 32)
}

/// The hash of a row of floats, bit by bit: -0 and 0 differ, and so do different NaNs.
public func hash64(of floats: UnsafeBufferPointer<Float>) -> UInt64 {
    unsafe hash64(of: UnsafeRawBufferPointer(floats))
}
