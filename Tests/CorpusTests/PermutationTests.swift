import Corpus
import Testing

@Suite struct PermutationTests {
    @Test func isABijectionForEverySmallCount() {
        for count in 1...300 {
            for seed in [0, 1, 0xFFFF_FFFF_FFFF_FFFF] as [UInt64] {
                let order = Permutation(count: count, seed: seed, stream: UInt64(count))
                let images = Set((0..<count).map { order[$0] })
                #expect(images == Set(0..<count), "\(count) elements, seed \(seed)")
            }
        }
    }

    @Test func isABijectionAtALargerPrime() {
        let count = 100_003
        let order = Permutation(count: count, seed: 7, stream: 1)
        var seen = [Bool](repeating: false, count: count)
        for index in 0..<count { seen[order[index]] = true }
        #expect(!seen.contains(false))
    }

    @Test func keysGiveDifferentOrders() {
        func order(_ seed: UInt64, _ stream: UInt64) -> [Int] {
            let order = Permutation(count: 50, seed: seed, stream: stream)
            return (0..<50).map { order[$0] }
        }
        #expect(order(1, 1) == order(1, 1))
        #expect(order(1, 1) != order(1, 2))
        #expect(order(1, 1) != order(2, 1))
        #expect(order(1, 1) != Array(0..<50))
    }

    /// Over many keys, each element must visit each place about equally often: mean 200, deviation 14.
    @Test func everyPlaceIsReachedFromEverywhere() {
        let count = 10, keys = 2_000
        var counts = [Int](repeating: 0, count: count * count)
        for key in 0..<keys {
            let order = Permutation(count: count, seed: UInt64(key), stream: 3)
            for index in 0..<count { counts[index * count + order[index]] += 1 }
        }
        for visits in counts { #expect(abs(visits - keys / count) < 80) }
    }

    @Test func hugeCountsStayInRange() {
        let count = 1 << 61 + 12_345
        let order = Permutation(count: count, seed: 5, stream: 5)
        var images: Set<Int> = []
        for index in 0..<1_000 {
            let image = order[count - 1 - index]
            #expect(image >= 0 && image < count)
            images.insert(image)
        }
        #expect(images.count == 1_000)
    }
}
