import Base
import Collectives
import Testing

@Suite struct PartsTests {
    @Test func evenPartitionsCoverEverythingOnce() {
        for count in [0, 1, 2, 5, 8, 9, 1009] {
            for parts in 1...9 {
                let partition = Partition(evenly: count, over: parts)
                #expect((0..<parts).flatMap { Array(partition[$0]) } == Array(0..<count))
                let sizes = (0..<parts).map { partition[$0].count }
                #expect(sizes.max()! - sizes.min()! <= 1)
            }
        }
        #expect(Partition(bounds: [0, 3, 3, 4]).parts == 3)
    }

    @Test func groupsKnowTheirOrder() {
        let group = Group(ranks: [5, 2, 7], rank: 2)
        #expect(group.index == 1 && group.size == 3 && group.id != 0)
        #expect(Group(ranks: [2, 5, 7], rank: 2).id != group.id)
        #expect(Group(worldSize: 3, rank: 2).id == 0)
    }

    /// Anything that changes the schedule changes the fingerprint.
    @Test func fingerprintsTellRequestsApart() {
        let group = Group(worldSize: 4, rank: 0)
        let prints = [
            Request(.allReduce, .float32, count: 100, group: group),
            Request(.allReduce, .float32, count: 101, group: group),
            Request(.allReduce, .float32, count: 100, group: group, algorithm: .ring),
            Request(.reduceScatter, .float32, count: 100, group: group),
            Request(.allGather, .float32, count: 100, group: group),
            Request(.allGather, .byte, count: 100, group: group),
            Request(.allGather, .byte, count: 100, group: group,
                    partition: Partition(bounds: [0, 1, 2, 3, 100])),
            Request(.broadcast, .byte, count: 100, group: group),
            Request(.broadcast, .byte, count: 100, group: group, root: 1),
            Request(.allReduce, .float32, count: 100, group: Group(ranks: [0, 1, 3, 2], rank: 0)),
        ].map { $0.fingerprint(segmentBytes: 1024) }
        #expect(Set(prints).count == prints.count)
        let member = Request(.allReduce, .float32, count: 100, group: Group(worldSize: 4, rank: 3))
        #expect(member.fingerprint(segmentBytes: 1024) == prints[0])
        #expect(member.fingerprint(segmentBytes: 2048) != prints[0])
    }

    /// Every length around the 32-byte block, every bit.
    @Test func hashesSeeEveryBit() {
        let rng = CounterRNG(seed: 1, stream: 0)
        for count in 0...70 {
            var bytes = (0..<count).map { UInt8(truncatingIfNeeded: rng.bits(at: UInt64($0))) }
            let hash = unsafe bytes.withUnsafeBytes { unsafe hash64(of: $0) }
            #expect(unsafe (bytes + [0]).withUnsafeBytes { unsafe hash64(of: $0) } != hash)
            for bit in 0..<(8 * count) {
                bytes[bit / 8] ^= 1 << (bit % 8)
                #expect(unsafe bytes.withUnsafeBytes { unsafe hash64(of: $0) } != hash)
                bytes[bit / 8] ^= 1 << (bit % 8)
            }
            // The same bytes elsewhere have the same hash.
            let shifted = [7] + bytes
            #expect(unsafe shifted.withUnsafeBytes { unsafe hash64(of: .init(rebasing: $0[1...])) } == hash)
        }
    }

    /// Swapped words and opposite flips in neighbouring lanes must not cancel.
    @Test func hashesSeeOrder() {
        let words = (0..<64).map { UInt64($0) }
        func hash(_ words: [UInt64]) -> UInt64 {
            unsafe words.withUnsafeBytes { unsafe hash64(of: $0) }
        }
        for a in 0..<64 {
            for b in 0..<a {
                var swapped = words
                swapped.swapAt(a, b)
                #expect(hash(swapped) != hash(words))
                var flipped = words
                flipped[a] ^= 1 << 63
                flipped[b] ^= 1 << 63
                #expect(hash(flipped) != hash(words))
            }
        }
    }
}
