import Base
import Testing

@Suite struct CounterRNGTests {
    /// Known answers of Philox4x32-10, from the Random123 distribution's test vectors.
    @Test func knownAnswers() {
        let zeros = CounterRNG.rounds(counter: SIMD4(0, 0, 0, 0), key: SIMD2(0, 0))
        #expect(zeros == SIMD4(0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8))
        let ones = CounterRNG.rounds(counter: SIMD4(repeating: .max), key: SIMD2(repeating: .max))
        #expect(ones == SIMD4(0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd))
        let pi = CounterRNG.rounds(counter: SIMD4(0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344),
                                   key: SIMD2(0xa409_3822, 0x299f_31d0))
        #expect(pi == SIMD4(0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1))
    }

    @Test func streamsAndSeedsDiffer() {
        let a = CounterRNG(seed: 1, stream: 2)
        #expect(a.bits(at: 7) == CounterRNG(seed: 1, stream: 2).bits(at: 7))
        #expect(a.bits(at: 7) != CounterRNG(seed: 1, stream: 3).bits(at: 7))
        #expect(a.bits(at: 7) != CounterRNG(seed: 2, stream: 2).bits(at: 7))
        #expect(a.bits(at: 7) != a.bits(at: 8))
    }

    @Test func integersAreUniformAndInRange() {
        let rng = CounterRNG(seed: 3, stream: 0)
        var counts = [Int](repeating: 0, count: 7)
        for counter in 0..<70_000 { counts[rng.integer(below: 7, at: UInt64(counter))] += 1 }
        // Standard deviation is about 93; five of them.
        for count in counts { #expect(abs(count - 10_000) < 465) }
        #expect(rng.integer(below: 1, at: 5) == 0)
    }

    @Test func normalMoments() {
        let rng = CounterRNG(seed: 4, stream: 9)
        var sum = 0.0, squares = 0.0, fourth = 0.0
        let pairs = 100_000
        for counter in 0..<pairs {
            let (a, b) = rng.normalPair(at: UInt64(counter))
            for x in [a, b] { sum += x; squares += x * x; fourth += x * x * x * x }
        }
        let n = Double(2 * pairs)
        #expect(abs(sum / n) < 0.012)
        #expect(abs(squares / n - 1) < 0.02)
        #expect(abs(fourth / n - 3) < 0.15)
    }
}
