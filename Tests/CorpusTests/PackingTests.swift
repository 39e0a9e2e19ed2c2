import Base
import Corpus
import Foundation
import Testing

/// Lengths with a shape like real documents': many short ones, few long ones.
func someLengths(_ count: Int, capacity: Int, seed: UInt64) -> [Int] {
    let rng = CounterRNG(seed: seed, stream: 77)
    return (0..<count).map { max(1, Int(Double(capacity) * pow(rng.uniform(at: UInt64($0)), 2.5))) }
}

@Suite struct PackingTests {
    /// Each item once, no row over its capacity.
    private func check(_ packing: Packing, _ lengths: [Int], _ capacity: Int, _ what: String) {
        var seen = [Int](repeating: 0, count: lengths.count)
        for row in 0..<packing.count {
            #expect(!packing[row].isEmpty, "\(what): an empty row")
            #expect(packing[row].reduce(0) { $0 + lengths[$1] } <= capacity, "\(what)")
            #expect(Array(packing[row]) == packing[row].sorted())
            for item in packing[row] { seen[item] += 1 }
        }
        #expect(seen.allSatisfy { $0 == 1 }, "\(what)")
    }

    /// Item by item, all rows looked at: the definition of best fit and of worst fit, longest first.
    private func slowRows(_ lengths: [Int], _ capacity: Int, best: Bool) -> [Int] {
        var spaces: [Int] = []
        for length in lengths.sorted(by: >) {
            let fitting = spaces.indices.filter { spaces[$0] >= length }
            let row = best ? fitting.min { spaces[$0] < spaces[$1] } : fitting.max { spaces[$0] < spaces[$1] }
            if let row { spaces[row] -= length } else { spaces.append(capacity - length) }
        }
        return spaces.sorted()
    }

    private func spaces(_ packing: Packing, _ lengths: [Int], _ capacity: Int) -> [Int] {
        (0..<packing.count).map { capacity - packing[$0].reduce(0) { $0 + lengths[$1] } }.sorted()
    }

    @Test func everyMethodKeepsEveryItem() {
        for capacity in [1, 2, 3, 7, 31, 64, 100, 513, 1_500] {
            for count in [0, 1, 2, 50, 700] {
                let lengths = someLengths(count, capacity: capacity, seed: UInt64(capacity + count))
                for method in [PackingMethod.bestFit, .spfhp, .nnlshp, .padded] {
                    let packing = Packing(lengths, capacity: capacity, method: method)
                    check(packing, lengths, capacity, "\(method), capacity \(capacity), \(count) items")
                }
                let shapes = shapesBySPFHP(counts(lengths, capacity), depth: 3)
                check(Packing(lengths, shapes: shapes), lengths, capacity, "depth 3")
            }
        }
    }

    private func counts(_ lengths: [Int], _ capacity: Int) -> [Int] {
        var counts = [Int](repeating: 0, count: capacity + 1)
        for length in lengths { counts[length] += 1 }
        return counts
    }

    @Test func bestAndWorstFitAreTheirDefinitions() {
        for capacity in [5, 64, 65, 200, 5_000] {
            let lengths = someLengths(400, capacity: capacity, seed: 3)
            let best = Packing(lengths, capacity: capacity, method: .bestFit)
            #expect(spaces(best, lengths, capacity) == slowRows(lengths, capacity, best: true))
            let worst = Packing(lengths, capacity: capacity, method: .spfhp)
            #expect(spaces(worst, lengths, capacity) == slowRows(lengths, capacity, best: false))
        }
    }

    @Test func rowsAreNoDeeperThanAsked() {
        let lengths = someLengths(3_000, capacity: 512, seed: 8)
        var rows: [Int] = []
        for depth in [1, 2, 3, 8] {
            let shapes = shapesBySPFHP(counts(lengths, 512), depth: depth)
            #expect(shapes.allSatisfy { $0.lengths.count <= depth && $0.count > 0 })
            rows.append(shapes.reduce(0) { $0 + $1.count })
        }
        #expect(rows[0] == 3_000 && rows == rows.sorted(by: >))
    }

    /// The conditions of Karush, Kuhn and Tucker: no slope where x > 0, no rising one where x = 0.
    @Test func leastSquaresIsAtItsMinimum() {
        for (rows, columnCount, seed) in [(1, 1, 0), (4, 9, 1), (20, 12, 2), (30, 200, 3)] {
            let rng = CounterRNG(seed: UInt64(seed), stream: 4)
            let columns = (0..<columnCount).map { column in
                (0..<rows).filter { (column + $0) % 3 != 1 || rows == 1 }.map { row in
                    SparseEntry(row: row, value: rng.normalPair(at: UInt64(column * rows + row)).0)
                }
            }
            let b = (0..<rows).map { rng.normalPair(at: UInt64(1_000_000 + $0)).0 }
            let x = nonNegativeLeastSquares(columns, b)
            var residual = b
            for (column, value) in zip(columns, x) {
                #expect(value >= 0)
                for entry in column { residual[entry.row] -= entry.value * value }
            }
            for (column, value) in zip(columns, x) {
                let slope = column.reduce(0) { $0 + $1.value * residual[$1.row] }
                #expect(slope < 1e-7 && (value == 0 || abs(slope) < 1e-7))
            }
        }
        // Unconstrained minimum inside: x is known.
        let columns = [[(0, 2.0)], [(0, 1.0), (1, 1.0)]].map { $0.map { SparseEntry(row: $0.0, value: $0.1) } }
        let x = nonNegativeLeastSquares(columns, [7, 3])
        #expect(abs(x[0] - 2) < 1e-12 && abs(x[1] - 3) < 1e-12)
        #expect(nonNegativeLeastSquares(columns, [-1, -1]) == [0, 0])
    }

    /// A histogram that packs of up to three reproduce exactly leaves no padding.
    @Test func leastSquaresFindsExactPacks() {
        let lengths = (0..<50).flatMap { _ in [60, 40] } + (0..<30).flatMap { _ in [50, 30, 20] }
        let packing = Packing(lengths, capacity: 100, method: .nnlshp)
        #expect(packing.count == 80)
    }

    @Test func concatenationAndPackingCoverTheStream() {
        let lengths = someLengths(80, capacity: 300, seed: 5)
        let documents = lengths.map { TokenStream.Document(storage: 0, offset: 0, count: $0) }
        let stream = TokenStream(documents, storage: [.bytes([])], endOfDocument: 256)
        for method in PackingMethod.allCases {
            for sequence in [1, 16, 100, 1_000] {
                let table = packedRows(stream, sequence: sequence, method: method)
                var covered = [Int](repeating: 0, count: stream.length)
                for row in 0..<table.count {
                    for piece in table[row] {
                        for position in piece.position..<(piece.position + piece.count) { covered[position] += 1 }
                        // Packed pieces belong to one document.
                        let last = stream.document(at: piece.position + piece.count - 1)
                        #expect(method == .concatenate || stream.document(at: piece.position) == last)
                    }
                }
                #expect(covered.allSatisfy { $0 == 1 }, "\(method), rows of \(sequence)")
            }
        }
    }
}

@Suite(.enabled(if: realData != nil, "SKEIN_DATA is not set"))
struct GoldenPackingTests {
    /// A corpus of the golden tables as a stream of all its documents, whatever their split.
    static func stream(_ name: String) throws -> TokenStream {
        let paths = try name.split(separator: "+").map { corpus in
            try #require(["/docs.txt", "/input.txt", ".txt"].map { "\(realData!)/\(corpus)\($0)" }
                .first { FileManager.default.fileExists(atPath: $0) })
        }
        let documents = try SourceDocuments(paths).documents
        return TokenStream(documents.map { .init(storage: 0, offset: 0, count: $0.range.count) },
                           storage: [], endOfDocument: 256)
    }

    @Test func bestFitRowCounts() throws {
        let table = try String(contentsOfFile: realData! + "/golden/bfd-packing-bytes.tsv", encoding: .utf8)
        for line in table.split(separator: "\n").dropFirst() {
            let fields = line.split(separator: "\t").map(String.init)
            let stream = try Self.stream(fields[0]), sequence = try #require(Int(fields[1]))
            #expect(packedRows(stream, sequence: sequence, method: .concatenate).count == Int(fields[2]))
            #expect(packedRows(stream, sequence: sequence, method: .bestFit).count == Int(fields[3]), "\(line)")
        }
        let mix = try Self.stream("swift-evolution+peps+tldr")
        #expect(packedRows(mix, sequence: 8192, method: .spfhp).count == 2_539)
        // Least squares rounds its counts: within half a percent of the lower bound.
        let rows = packedRows(mix, sequence: 512, method: .nnlshp).count, bound = (mix.length + 511) / 512
        #expect(rows >= bound && Double(rows) < 1.005 * Double(bound), "\(rows) of \(bound)")
    }
}
