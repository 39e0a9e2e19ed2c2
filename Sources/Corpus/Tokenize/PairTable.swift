/// Which merge joins two neighbouring tokens: a flat hash table with open addressing, because it is asked
/// for every pair of neighbours in every word.
package struct PairTable: Sendable {
    /// What no pair of ids hashes from, and what a pair without a merge is worth: later than any merge.
    package static let none = UInt64.max

    private var keys: [UInt64]
    private var values: [UInt64]
    private let shift: Int

    package init(capacity: Int) {
        var bits = 4
        while 1 << bits < 2 * capacity { bits += 1 }
        keys = Array(repeating: Self.none, count: 1 << bits)
        values = Array(repeating: Self.none, count: 1 << bits)
        shift = 64 - bits
    }

    /// `rank` and `result` in one word, so that comparing words compares ranks.
    package static func value(rank: Int, result: Int32) -> UInt64 {
        UInt64(rank) << 32 | UInt64(UInt32(bitPattern: result))
    }

    /// Keeps the last value of a pair, as Hugging Face does with a merge that is listed twice.
    package mutating func insert(_ left: Int32, _ right: Int32, _ value: UInt64) {
        let key = Self.key(left, right)
        var slot = slot(of: key)
        while keys[slot] != Self.none {
            if keys[slot] == key { break }
            slot = (slot + 1) & (keys.count - 1)
        }
        keys[slot] = key
        values[slot] = value
    }

    package subscript(left: Int32, right: Int32) -> UInt64 {
        let key = Self.key(left, right)
        var slot = slot(of: key)
        while keys[slot] != key {
            if keys[slot] == Self.none { return Self.none }
            slot = (slot + 1) & (keys.count - 1)
        }
        return values[slot]
    }

    private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    }

    private func slot(of key: UInt64) -> Int {
        // Fibonacci hashing: the high bits of a product with 2^64 over the golden ratio.
        Int(truncatingIfNeeded: ((key ^ key >> 32) &* 0x9E37_79B9_7F4A_7C15) >> UInt64(shift))
    }
}
