import Base
import Parallel
import Recipe
import Testing

/// Who holds which tokens, and which heads.
@Suite struct SequenceSplitTests {
    private func batches() -> [[Int]] {
        let random = CounterRNG(seed: 5, stream: 0)
        return (0..<60).map { batch in
            let base = UInt64(batch) * 100
            return (0...Int(random.bits(at: base) % 9)).map { Int(random.bits(at: base + 1 + UInt64($0)) % 40) + 1 }
        } + [[1], [7], [64], [1, 1, 1, 1, 1, 1, 1, 1, 1]]
    }

    private func starts(_ lengths: [Int]) -> [Int32] {
        lengths.reduce(into: [0]) { $0.append($0[$0.count - 1] + Int32($1)) }
    }

    /// Every token is one rank's, shares are even, and own rows with pairs are what the causal mask shows, each once.
    @Test func everyTokenSeesWhatItShould() {
        for lengths in batches() {
            for degree in 1...8 {
                for split in [SequenceSplit.zigzag(starts: starts(lengths), degree: degree),
                              .contiguous(starts: starts(lengths), degree: degree)] {
                    check(split, lengths, degree)
                }
            }
        }
    }

    private func check(_ split: SequenceSplit, _ lengths: [Int], _ degree: Int) {
        let total = lengths.reduce(0, +)
        var place = [(rank: Int, row: Int)?](repeating: nil, count: total)
        for rank in 0..<degree {
            for piece in split.pieces[rank] {
                for (token, row) in zip(piece.tokens, piece.rows) {
                    #expect(place[token] == nil)
                    place[token] = (rank, row)
                }
            }
        }
        let counts = (0..<degree).map { split.count(of: $0) }
        #expect(counts.reduce(0, +) == total && place.allSatisfy { $0 != nil })
        #expect((counts.max() ?? 0) - (counts.min() ?? 0) <= 2)
        #expect(counts.allSatisfy { $0 <= SequenceMemory.local(total, degree: degree) })
        // seen[query's rank][key's rank]: pairs of rows.
        var seen = Set<[Int]>()
        for reader in 0..<degree {
            let starts = split.localStarts(of: reader)
            for (from, to) in zip(starts, starts.dropFirst()) {
                for query in from..<to {
                    for key in from...query { seen.insert([reader, Int(query), reader, Int(key)]) }
                }
            }
            for source in 0..<degree where source != reader {
                for pair in split.visible(of: source, to: reader) {
                    for query in pair.queries {
                        for key in pair.keys { #expect(seen.insert([reader, query, source, key]).inserted) }
                    }
                }
            }
        }
        var count = 0, first = 0
        for length in lengths {
            for query in first..<(first + length) {
                for key in first...query {
                    guard let q = place[query], let k = place[key] else { continue }
                    #expect(seen.contains([q.rank, q.row, k.rank, k.row]))
                    count += 1
                }
            }
            first += length
        }
        #expect(seen.count == count)
    }

    /// A long document loads ranks alike: each sees as many keys as the others, up to one row's.
    @Test func theCausalMaskIsBalanced() {
        for degree in 2...8 {
            let split = SequenceSplit.zigzag(starts: [0, Int32(64 * degree)], degree: degree)
            let work = (0..<degree).map { rank in
                split.pieces[rank].reduce(0) { $0 + $1.tokens.reduce(0) { $0 + $1 + 1 } }
            }
            #expect(work.allSatisfy { $0 == work[0] })
        }
    }

    /// Every query head has one rank, with the key head that it reads; runs are as `AttentionShape` wants them.
    @Test func headsAreDealtOut() {
        for (heads, keyHeads) in [(12, 1), (12, 2), (12, 3), (12, 4), (12, 6), (12, 12), (7, 7), (5, 1), (32, 8)] {
            for degree in 1...16 {
                let shares = HeadShares(heads: heads, keyHeads: keyHeads, degree: degree)
                var dealt: [Int] = []
                for rank in 0..<degree {
                    #expect(abs(Double(shares.queries(of: rank)) - Double(heads) / Double(degree)) < 1)
                    #expect(shares.chunks[rank].count == shares.chunkCount)
                    for run in shares.chunks[rank].joined() {
                        #expect(run.queries.count % run.keys.count == 0)
                        dealt += run.queries
                        for (index, query) in run.queries.enumerated() {
                            let key = run.keys.lowerBound + index / (run.queries.count / run.keys.count)
                            #expect(key == query / (heads / keyHeads))
                        }
                    }
                }
                #expect(shares.isAligned || dealt == Array(0..<heads))
                #expect(dealt.sorted() == Array(0..<heads))
                // Where ranks divide heads evenly no key head is sent twice without need.
                guard heads % degree == 0, keyHeads % degree == 0 || degree % keyHeads == 0 else { continue }
                #expect(shares.chunks.allSatisfy { $0.allSatisfy { $0.count == 1 } })
                #expect(shares.allColumns == heads + 2 * max(keyHeads, degree))
            }
        }
    }

    /// Where key heads divide by ranks and chunks, a chunk of all ranks is as large a part of all heads as the others,
    /// side by side: so a layer can make it by itself.
    @Test(arguments: [(8, 8, 4, 2), (8, 4, 2, 2), (12, 12, 4, 3), (12, 12, 2, 2), (12, 12, 6, 2), (32, 16, 8, 2)])
    func chunksAreGroupsOfHeads(heads: Int, keyHeads: Int, degree: Int, chunks: Int) {
        let shares = HeadShares(heads: heads, keyHeads: keyHeads, degree: degree)
        #expect(shares.isAligned && shares.chunkCount == chunks)
        for chunk in 0..<chunks {
            let runs = (0..<degree).flatMap { shares.chunks[$0][chunk] }
            func part(_ all: Int) -> [Int] { Array((all * chunk / chunks)..<(all * (chunk + 1) / chunks)) }
            #expect(runs.flatMap { Array($0.queries) } == part(heads))
            #expect(runs.flatMap { Array($0.keys) } == part(keyHeads))
        }
        for (keyHeads, degree) in [(1, 2), (2, 2), (4, 4), (12, 5), (12, 8), (12, 1)] {
            #expect(!HeadShares(heads: 12, keyHeads: keyHeads, degree: degree).isAligned)
        }
    }
}
