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
        #expect(group.index == 1 && group.size == 3 && group.id == nil)
        #expect(Group(ranks: [2, 5, 7], rank: 2) != group && Group(ranks: [5, 2, 7], rank: 2) == group)
        #expect(Group(worldSize: 3, rank: 2).ranks == [0, 1, 2])
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
            Request(.allReduce, .float32, count: 100, group: group, reduction: .maximum),
            Request(.allReduce, .float32, count: 100, group: group, wire: .bfloat16),
            Request(.allReduce, .float32, count: 100, group: group, algorithm: .direct),
            Request(.allReduce, .float32, count: 100, group: group, label: 1),
            Request(.allReduce, .int64, count: 100, group: group),
            Request(.reduce, .float32, count: 100, group: group),
            Request(.gather, .byte, count: 100, group: group),
            Request(.scatter, .byte, count: 100, group: group),
        ].map { $0.fingerprint(segmentBytes: 1024) }
        #expect(Set(prints).count == prints.count)
        let member = Request(.allReduce, .float32, count: 100, group: Group(worldSize: 4, rank: 3))
        #expect(member.fingerprint(segmentBytes: 1024) == prints[0])
        #expect(member.fingerprint(segmentBytes: 2048) != prints[0])
    }

    /// Every bfloat16 comes back as itself; what lies between two goes to the nearer, the middle to the even one, and
    /// what is beyond the largest to infinity. Not-a-numbers stay that.
    @Test func everyBfloat16() {
        for code in 0...UInt16.max {
            let value = widened(code)
            guard !value.isNaN else {
                #expect(widened(narrowed(value)).isNaN)
                continue
            }
            #expect(narrowed(value) == code)
            // Towards the next code, away from zero.
            guard value.isFinite else { continue }
            let middle = value.bitPattern + 0x8000, even = code & 1 == 0 ? code : code + 1
            #expect(narrowed(Float(bitPattern: middle)) == even)
            #expect(narrowed(Float(bitPattern: middle - 1)) == code)
            #expect(narrowed(Float(bitPattern: middle + 1)) == code + 1)
        }
        for payload in [0x7F80_0001, 0x7FFF_FFFF, 0xFF80_0001, 0xFFFF_FFFF] as [UInt32] {
            #expect(widened(narrowed(Float(bitPattern: payload))).isNaN)
        }
    }

    /// The table decides by kind, bytes and ranks; the first rule that fits and can serve is taken.
    @Test func theChoice() throws {
        let table = try Choice(text: "# measured\nall-reduce up-to 1000 ranks 2...4 direct\n\n"
            + "all-reduce up-to any ranks 8...8 halving-doubling\n", name: "t")
        func chosen(_ bytes: Int, _ ranks: Int) -> Algorithm {
            table.algorithm(for: .allReduce, bytes: bytes, groupSize: ranks)
        }
        #expect(chosen(1000, 4) == .direct && chosen(1001, 4) == .recursiveDoubling && chosen(10, 5) != .direct)
        #expect(chosen(1 << 30, 8) == .halvingDoubling && chosen(1 << 30, 7) == .ring)
        #expect(try Choice(text: table.text, name: "t") == table)
        let canonical = Choice(isCanonical: true)
        for ranks in [2, 4, 8, 16] {
            for kind in [CollectiveKind.allReduce, .reduceScatter] {
                for bytes in [4, 1 << 20] {
                    let found = canonical.algorithm(for: kind, bytes: bytes, groupSize: ranks)
                    #expect(found.isCanonical(kind, groupSize: ranks))
                }
            }
        }
        #expect(Choice(forced: .direct).algorithm(for: .broadcast, bytes: 5, groupSize: 3) == .tree)
        for kind in CollectiveKind.allCases {
            for ranks in 1...17 {
                let found = Choice().algorithm(for: kind, bytes: 1 << 20, groupSize: ranks)
                #expect(found.serves(kind, groupSize: ranks))
            }
        }
        for line in ["all-reduce", "all-reduce up-to -1 ranks 2...4 ring", "all-reduce up-to 5 ranks 4...2 ring",
                     "broadcast up-to 5 ranks 2...4 ring", "sum up-to 5 ranks 2...4 ring"] {
            #expect(throws: BadInput.self) { try Choice(text: "\n" + line, name: "t") }
        }
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
