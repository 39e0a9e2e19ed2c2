import Base

/// A keyed permutation of 0..<count that is computed, not stored: where element i goes costs a constant
/// time, so any step of any epoch can be visited without a state.
///
/// It is a Feistel network on mixed radix (Black and Rogaway, "Ciphers with arbitrary finite domains",
/// CT-RSA 2002): i is written as (left, right) with left in 0..<a and right in 0..<b, a * b >= count, and
/// eight rounds add a keyed function of one half to the other, modulo its radix. Each round can be undone,
/// so all rounds are a permutation of 0..<a*b; results beyond `count` are sent round again until they
/// fall inside (cycle walking), which keeps it a permutation of 0..<count. With a = ceil(sqrt(count)) fewer
/// than a of a*b results are outside.
package struct Permutation: Sendable {
    package let count: Int
    private let left: Int
    private let right: Int
    private let rng: CounterRNG

    /// `count` > 0 and at most 2^62. The same (seed, stream) gives the same order.
    package init(count: Int, seed: UInt64, stream: UInt64) {
        precondition(count > 0 && count <= 1 << 62, "a permutation needs 1...2^62 elements")
        self.count = count
        var root = Int(Double(count).squareRoot())
        while root * root < count { root += 1 }
        left = root
        right = (count + root - 1) / root
        rng = CounterRNG(seed: seed, stream: stream)
    }

    package subscript(index: Int) -> Int {
        precondition(index >= 0 && index < count, "index outside the permutation")
        var value = index
        repeat { value = network(value) } while value >= count
        return value
    }

    private func network(_ value: Int) -> Int {
        var (a, b) = value.quotientAndRemainder(dividingBy: right)
        for round in 0..<4 {
            a = (a + draw(2 * round, b, below: left)) % left
            b = (b + draw(2 * round + 1, a, below: right)) % right
        }
        return a * right + b
    }

    /// Uniform up to 2^-32 in 0..<radix, a function of (key, round, half).
    private func draw(_ round: Int, _ half: Int, below radix: Int) -> Int {
        let bits = rng.bits(at: UInt64(round) << 32 | UInt64(half))
        return Int(bits.multipliedFullWidth(by: UInt64(radix)).high)
    }
}
