/// A counter-based random number generator: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random
/// numbers: as easy as 1, 2, 3", SC 2011).
///
/// There is no state to save or to hand from one thread to the next: the value at (seed, stream, counter)
/// is a pure function, so every rank and every resumed run draws the same numbers for the same purpose.
/// `stream` separates purposes (initialisation of one tensor, order of documents of one epoch); `counter`
/// walks along one purpose.
public struct CounterRNG: Sendable, Equatable {
    public let seed: UInt64
    public let stream: UInt64

    public init(seed: UInt64, stream: UInt64) {
        self.seed = seed
        self.stream = stream
    }

    /// The 128 bits at `counter`, as four words.
    public func block(at counter: UInt64) -> SIMD4<UInt32> {
        Self.philox(
            counter: SIMD4(UInt32(truncatingIfNeeded: counter), UInt32(truncatingIfNeeded: counter >> 32),
                           UInt32(truncatingIfNeeded: stream), UInt32(truncatingIfNeeded: stream >> 32)),
            key: SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32)))
    }

    /// 64 uniform bits at `counter`.
    public func bits(at counter: UInt64) -> UInt64 {
        let words = block(at: counter)
        return UInt64(words.x) | UInt64(words.y) << 32
    }

    /// A uniform Double in [0, 1) with 53 random bits.
    public func uniform(at counter: UInt64) -> Double {
        Double(bits(at: counter) >> 11) * 0x1p-53
    }

    /// An unbiased integer in 0..<bound by Lemire's multiply-and-reject; `bound` > 0. A rejected draw
    /// (chance under bound / 2^64) reads the block's other half, and after that the counter's complement,
    /// so the value stays a function of the counter alone.
    public func integer(below bound: Int, at counter: UInt64) -> Int {
        precondition(bound > 0, "integer(below:) needs a positive bound")
        let range = UInt64(bound)
        let threshold = (0 &- range) % range
        var words = block(at: counter)
        var attempt: UInt64 = 0
        while true {
            for draw in [UInt64(words.x) | UInt64(words.y) << 32, UInt64(words.z) | UInt64(words.w) << 32] {
                let product = draw.multipliedFullWidth(by: range)
                if product.low >= threshold { return Int(product.high) }
            }
            attempt += 1
            words = CounterRNG(seed: seed, stream: stream ^ (attempt << 56)).block(at: ~counter)
        }
    }

    /// Ten rounds of Philox4x32. Known answers are in the tests.
    static func philox(counter: SIMD4<UInt32>, key: SIMD2<UInt32>) -> SIMD4<UInt32> {
        var c = counter
        var k = key
        for round in 0..<10 {
            if round > 0 { k &+= SIMD2(0x9E37_79B9, 0xBB67_AE85) }
            let a = c.x.multipliedFullWidth(by: 0xD251_1F53)
            let b = c.z.multipliedFullWidth(by: 0xCD9E_8D57)
            c = SIMD4(b.high ^ c.y ^ k.x, b.low, a.high ^ c.w ^ k.y, a.low)
        }
        return c
    }

    /// Philox on raw words, for the known-answer tests.
    package static func rounds(counter: SIMD4<UInt32>, key: SIMD2<UInt32>) -> SIMD4<UInt32> {
        philox(counter: counter, key: key)
    }
}

extension CounterRNG {
    /// Two standard normal values at `counter` (Box-Muller), from independent halves of one block.
    public func normalPair(at counter: UInt64) -> (Double, Double) {
        let words = block(at: counter)
        let first = UInt64(words.x) | UInt64(words.y) << 32
        let second = UInt64(words.z) | UInt64(words.w) << 32
        let u = (Double(first >> 11) + 1) * 0x1p-53          // (0, 1], so the logarithm is finite
        let angle = 2 * Double.pi * Double(second >> 11) * 0x1p-53
        let radius = (-2 * log(u)).squareRoot()
        return (radius * cos(angle), radius * sin(angle))
    }
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
