import Base
import Planner
import Testing

@Suite struct LengthTests {
    @Test func filesAreRead() throws {
        #expect(try parseLengths("12\n\n  7 # a comment\n# none\n4096\n", file: "f") == [12, 7, 4_096])
        #expect(try parseLengths("5\r\n6\r\n", file: "f") == [5, 6])
    }

    @Test(arguments: ["12x", "0", "-3", "1.5", "1 2", "99999999999999999999", "1073741825", "٣", "\u{0}"])
    func badLinesAreRefused(_ word: String) {
        #expect { try parseLengths("8\n# fine\n\(word)\n9\n", file: "lengths.txt") } throws: { error in
            "\(error)".hasPrefix("lengths.txt:3: ") && !"\(error)".contains("\n")
        }
    }

    @Test func emptyFilesAreRefused() {
        #expect(throws: BadInput.self) { try parseLengths("# nothing\n\n", file: "f") }
        #expect(throws: BadInput.self) { try readLengths(file: "/nowhere/lengths.txt") }
    }

    /// A sequence longer than all ranks can hold is refused with the numbers.
    @Test func whatDoesNotFitIsRefused() {
        func refusal(_ lengths: [Int], ranks: Int, cap: Int, _ cost: CostModel, degree: Int? = nil) -> String? {
            do {
                _ = try PlanProblem(lengths: lengths, rates: RankRates(equal: ranks), tokenCap: cap, cost: cost,
                                    degree: degree)
                return nil
            } catch { return error.description }
        }
        let model = cost(heads: 6, keyHeads: 6)
        #expect(refusal([100, 4_000, 4_001], ranks: 4, cap: 1_000, model)
            == "sequence 3 of the batch has 4,001 tokens, and 4 ranks of 1,000 hold 4,000; raise "
            + "training.max_tokens_per_task, use more ranks, or cut it")
        #expect(refusal([100, 4_000], ranks: 4, cap: 1_000, model) == nil)
        #expect(refusal([100, 0], ranks: 4, cap: 1_000, model)?.contains("sequence 2") == true)
        #expect(refusal([3_001], ranks: 6, cap: 1_000, model, degree: 3)?.contains("3 ranks of 1,000") == true)
        #expect(refusal([3_001], ranks: 6, cap: 1_000, model, degree: 4)?.contains("divide") == true)
        // Without a ring, only as many ranks as heads can be dealt to.
        var dealt = model
        dealt.ring = nil
        #expect(refusal([3_001], ranks: 4, cap: 1_000, dealt)?.contains("3 ranks of 1,000 hold 3,000") == true)
        #expect(refusal([3_000], ranks: 4, cap: 1_000, dealt) == nil)
        #expect(refusal([10], ranks: 4, cap: 1_000, dealt, degree: 4)?.contains("6 heads") == true)
    }

    /// Against all cuts: 8 lengths have 128.
    @Test func bucketsAreTheBest() {
        for seed in 0..<60 {
            var draws = Draws(seed)
            let tokens = draws.lengths(draws.integer(1...8), median: 40).sorted(by: >)
            for count in 1...5 {
                func distance(_ buckets: [Range<Int>]) -> Int {
                    buckets.reduce(0) { sum, bucket in
                        sum + bucket.reduce(0) { $0 + tokens[$1] - tokens[bucket.upperBound - 1] }
                    }
                }
                let buckets = lengthBuckets(tokens, count: count)
                #expect(buckets.flatMap(\.self) == Array(tokens.indices) && buckets.count <= count)
                var least = Int.max
                for set in 0..<(1 << (tokens.count - 1)) where set.nonzeroBitCount < count {
                    let cuts = [0] + tokens.indices.dropFirst().filter { set >> ($0 - 1) & 1 == 1 } + [tokens.count]
                    least = min(least, distance(zip(cuts, cuts.dropFirst()).map { $0..<$1 }))
                }
                #expect(distance(buckets) == least, "seed \(seed), \(count) buckets")
            }
        }
    }
}
