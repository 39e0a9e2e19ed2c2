/// The bytes of each token, in one buffer, and the way back from bytes to a token.
package struct Vocabulary: Sendable {
    private let bytes: [UInt8]
    private let starts: [Int]
    private var slots: [Int32]
    private let shift: Int

    /// `tokens[id]`; ids that stand for no bytes are empty.
    package init(_ tokens: [[UInt8]]) {
        var starts = [0]
        for token in tokens { starts.append(starts.last! + token.count) }
        bytes = Array(tokens.joined())
        self.starts = starts
        var bits = 4
        while 1 << bits < 2 * tokens.count { bits += 1 }
        shift = 64 - bits
        slots = Array(repeating: -1, count: 1 << bits)
    }

    package var count: Int { starts.count - 1 }

    package func byteCount(_ id: Int32) -> Int { starts[Int(id) + 1] - starts[Int(id)] }

    package func bytes(_ id: Int32) -> ArraySlice<UInt8> { bytes[starts[Int(id)]..<starts[Int(id) + 1]] }

    /// Makes `find` return `id` for its bytes, unless another token with the same bytes is there already.
    package mutating func index(_ id: Int32) {
        let slot = slot(of: bytes.span.extracting(starts[Int(id)]..<starts[Int(id) + 1]))
        if slots[slot] < 0 { slots[slot] = id }
    }

    /// The indexed token whose bytes are `word`, or -1.
    package func find(_ word: Span<UInt8>) -> Int32 { slots[slot(of: word)] }

    /// Where `word` is, or the free slot where it would be.
    private func slot(of word: Span<UInt8>) -> Int {
        var slot = Int(truncatingIfNeeded: wordHash(word) >> UInt64(shift))
        while slots[slot] >= 0, !isEqual(slots[slot], word) { slot = (slot + 1) & (slots.count - 1) }
        return slot
    }

    private func isEqual(_ id: Int32, _ word: Span<UInt8>) -> Bool {
        let begin = starts[Int(id)]
        guard starts[Int(id) + 1] - begin == word.count else { return false }
        for index in word.indices where bytes[begin + index] != word[index] { return false }
        return true
    }
}

/// FNV-1a, then a product that spreads it into the high bits.
@inline(__always)
func wordHash(_ word: Span<UInt8>) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for index in word.indices { hash = (hash ^ UInt64(word[index])) &* 0x100_0000_01B3 }
    return hash &* 0x9E37_79B9_7F4A_7C15
}
