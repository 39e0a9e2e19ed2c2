import Base
import Corpus
import Foundation
import Testing

@Suite struct DecompositionTests {
    private func stream(_ lengths: [Int]) -> TokenStream {
        TokenStream(lengths.map { .init(storage: 0, offset: 0, count: $0) }, storage: [], endOfDocument: 256)
    }

    /// Every position in one row exactly once; rows are full, of one document, and of their bucket's length,
    /// except for the rests.
    private func check(_ buckets: Buckets, _ stream: TokenStream) {
        var covered = [Int](repeating: 0, count: stream.length)
        for (exponent, table) in zip(buckets.exponents, buckets.tables) {
            #expect(table.sequence == 1 << exponent)
            for row in 0..<table.count {
                let isRest = exponent == buckets.exponents.lowerBound && row >= table.count - buckets.restRowCount
                #expect(isRest || table[row].map(\.count) == [1 << exponent])
                for piece in table[row] {
                    let last = stream.document(at: piece.position + piece.count - 1)
                    #expect(stream.document(at: piece.position) == last)
                    for position in piece.position..<(piece.position + piece.count) { covered[position] += 1 }
                }
            }
        }
        #expect(covered.allSatisfy { $0 == 1 })
    }

    static let modes: [Decomposition.Mode] = [.greedy, .random, .quota([1, 1, 1, 1]), .quota([0, 0, 1, 0]),
                                              .quota([0, 0, 0, 1])]

    @Test(arguments: modes) func coversEachPositionOnce(mode: Decomposition.Mode) {
        let many = someLengths(300, capacity: 5_000, seed: 1)
        for (lengths, seed) in [([1], 0), ([0, 0, 1], 1), (Array(0...200), 2), (many, 3)] {
            let stream = stream(lengths)
            let plan = Decomposition(minimum: 3, maximum: 6, mode: mode, seed: UInt64(seed))
            check(Buckets(stream, plan), stream)
        }
    }

    @Test func greedyTakesTheLongestFirst() {
        let buckets = Buckets(stream([100]), Decomposition(minimum: 2, maximum: 5, mode: .greedy))
        // 101 inputs: 3 x 32, 4, and a rest of 1.
        #expect(buckets.tables.map(\.count) == [2, 0, 0, 3])
        #expect(Array(buckets[5][2]) == [Piece(position: 64, count: 32)])
        #expect(Array(buckets[2][0]) == [Piece(position: 96, count: 4)])
        #expect(Array(buckets[2][1]) == [Piece(position: 100, count: 1)])
    }

    /// The rests are what the shortest piece cannot take, in every mode, packed into few rows.
    @Test(arguments: modes) func restsDoNotDependOnTheMode(mode: Decomposition.Mode) {
        let lengths = someLengths(500, capacity: 900, seed: 9)
        let buckets = Buckets(stream(lengths), Decomposition(minimum: 3, maximum: 6, mode: mode))
        let rests = lengths.map { ($0 + 1) % 8 }
        let table = buckets[3]
        let packed = ((table.count - buckets.restRowCount)..<table.count).reduce(0) { sum, row in
            sum + table[row].reduce(0) { $0 + $1.count }
        }
        #expect(packed == rests.reduce(0, +))
        #expect(buckets.restRowCount == packBestFit(rests.filter { $0 > 0 }, capacity: 8).count)
    }

    /// One long document: each exponent gets the same share of tokens, up to chance (about 3%).
    @Test func randomLengthsGiveEqualShares() {
        let length = 4_000_000
        let buckets = Buckets(stream([length]), Decomposition(minimum: 5, maximum: 10, mode: .random, seed: 1))
        for table in buckets.tables {
            #expect(abs(Double(table.tokenCount) * 6 / Double(length) - 1) < 0.1)
        }
        let again = Buckets(stream([length]), Decomposition(minimum: 5, maximum: 10, mode: .random, seed: 2))
        #expect(again.tables.map(\.count) != buckets.tables.map(\.count))
    }

    @Test func quotasAreMetWhereDocumentsAllow() {
        let stream = stream(someLengths(3_000, capacity: 20_000, seed: 4))
        let mixtures: [[Double]] = [[1, 1, 1, 1, 1, 1], [6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6], [0, 1, 0, 0, 1, 0]]
        for weights in mixtures {
            let buckets = Buckets(stream, Decomposition(minimum: 5, maximum: 10, mode: .quota(weights), seed: 3))
            check(buckets, stream)
            for (table, weight) in zip(buckets.tables, weights) {
                let share = Double(table.tokenCount) / Double(stream.length)
                #expect(abs(share - weight / weights.reduce(0, +)) < 0.01, "\(weights)")
            }
        }
    }
}

@Suite(.enabled(if: realData != nil, "SKEIN_DATA is not set"))
struct GoldenDecompositionTests {
    @Test func greedyCounts() throws {
        let table = try String(contentsOfFile: realData! + "/golden/decomposition-bytes.tsv", encoding: .utf8)
        for line in table.split(separator: "\n").dropFirst() {
            let fields = line.split(separator: "\t").map(String.init)
            let numbers = fields.dropFirst().compactMap { Int($0) }
            let stream = try GoldenPackingTests.stream(fields[0])
            #expect(stream.length == numbers[2])
            let buckets = Buckets(stream, Decomposition(minimum: numbers[0], maximum: numbers[1], mode: .greedy))
            var counts = buckets.tables.map(\.count)
            counts[0] -= buckets.restRowCount
            #expect(counts == Array(numbers[(4 + numbers[0] - 3)...(4 + numbers[1] - 3)]), "\(line)")
            let whole = zip(buckets.exponents, counts).reduce(0) { $0 + $1.1 << $1.0 }
            #expect(stream.length - whole == numbers[3])
        }
    }

    /// Mean attention context, sum of l (l - 1) / 2 over tokens, as measured on the mix for each mode.
    @Test func meanContextOfTheMix() throws {
        let stream = try GoldenPackingTests.stream("swift-evolution+peps+tldr")
        func context(_ minimum: Int, _ mode: Decomposition.Mode) -> Double {
            let buckets = Buckets(stream, Decomposition(minimum: minimum, maximum: 13, mode: mode, seed: 1))
            var pairs = 0, tokens = 0
            for table in buckets.tables {
                let full = table.count - (table.sequence == 1 << minimum ? buckets.restRowCount : 0)
                pairs += full * table.sequence * (table.sequence - 1) / 2
                tokens += full * table.sequence
            }
            return Double(pairs) / Double(tokens)
        }
        #expect(abs(context(5, .greedy) - 3_045) < 1)
        #expect(abs(context(5, .random) - 1_779) < 60)
        #expect(abs(context(5, .quota(Array(repeating: 1, count: 9))) - 909) < 10)
        #expect(abs(context(8, .quota(Array(repeating: 1, count: 6))) - 1_344) < 10)
    }
}
