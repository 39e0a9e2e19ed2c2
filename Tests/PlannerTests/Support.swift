import Base
import Foundation
import Planner
import Recipe

/// The folder of real data; nil: tests of it are skipped, and say so.
let realData = ProcessInfo.processInfo.environment["SKEIN_DATA"]

/// A model of `dim` in 12 layers on ranks of `gflops` with links of `gbit`.
func cost(dim: Int = 512, heads: Int = 8, keyHeads: Int = 8, gflops: Double = 100, gbit: Double = 1) -> CostModel {
    var shape = Recipe().model
    (shape.dim, shape.layers, shape.heads, shape.keyValueHeads) = (dim, 12, heads, keyHeads)
    return CostModel(ParameterTable(shape, vocabulary: 257), recomputation: .none, gflops: gflops, linkGbit: gbit)
}

/// Numbers of one purpose, one after the other.
struct Draws {
    private let random: CounterRNG
    private var counter: UInt64 = 0

    init(_ seed: Int, stream: UInt64 = 7) { random = CounterRNG(seed: UInt64(seed), stream: stream) }

    mutating func integer(_ range: ClosedRange<Int>) -> Int {
        counter += 1
        return range.lowerBound + random.integer(below: range.count, at: counter)
    }

    mutating func uniform(_ range: ClosedRange<Double> = 0...1) -> Double {
        counter += 1
        return range.lowerBound + (range.upperBound - range.lowerBound) * random.uniform(at: counter)
    }

    mutating func normal() -> Double {
        counter += 1
        return random.normalPair(at: counter).0
    }

    /// Document lengths with a long tail: a median of `median` tokens, up to `longest`.
    mutating func lengths(_ count: Int, median: Double = 600, spread: Double = 1.3, longest: Int = 1 << 15) -> [Int] {
        (0..<count).map { _ in max(1, min(longest, Int(median * exp(spread * normal())))) }
    }

    mutating func pick<T>(_ values: [T]) -> T { values[integer(0...(values.count - 1))] }
}

/// Lengths of the documents of a corpus, in bytes; cut to `longest`.
func documentLengths(_ corpus: String, longest: Int) throws -> [Int] {
    let root = realData ?? ""
    let text = try String(contentsOfFile: "\(root)/\(corpus)/docs.tsv", encoding: .utf8)
    return text.split(separator: "\n").dropFirst().compactMap { line in
        line.split(separator: "\t").dropFirst().first.flatMap { Int($0) }.map { min($0, longest) }
    }.filter { $0 > 0 }
}

func percent(_ ratio: Double) -> String { Units.fixed(ratio * 100, 2) + " %" }

/// As measurements would have it: pieces that do not meet, and exchanges that are no straight lines.
private func roughen(_ model: inout CostModel, _ draws: inout Draws) {
    let piece = model.compute.pieces[0]
    model.compute.pieces.append(.init(from: 1_500, square: piece.square * draws.uniform(0.5...3),
                                      linear: piece.linear * draws.uniform(0.8...1.3), constant: 0))
    guard let exchange = model.ulysses else { return }
    model.ulysses?.table = ExchangeTable(rows: [2, 4].map { degree in
        ExchangeTable.Row(degree: degree, curve: ExchangeCurve(measured: [0, 1e6, 4e6, 3e7].map { bytes in
            .init(bytes: bytes, seconds: exchange.table.seconds(bytes: bytes, degree: degree) * draws.uniform(0.5...2))
        }))
    })
}

/// A small random problem: 1 to 4 ranks, equal or not, and 1 to 10 sequences (the more ranks, the fewer, so that all
/// plans can be looked at), on machines from a slow network with fast ranks to a fast network with slow ones. The
/// longest sequence always fits on all ranks together, sometimes only there.
func randomProblem(_ seed: Int) throws -> PlanProblem {
    var draws = Draws(seed)
    let ranks = draws.integer(1...4), isEqual = draws.integer(0...2) > 0
    let most = isEqual ? [10, 10, 8, 7][ranks - 1] : [10, 9, 7, 6][ranks - 1]
    let lengths = draws.lengths(draws.integer(1...most), median: 2_000, spread: draws.uniform(0.2...1.6))
    let rates = RankRates(speeds: (0..<ranks).map { _ in isEqual ? 1 : draws.pick([1, 0.5, 0.75]) },
                          links: (0..<ranks).map { _ in isEqual ? 1 : draws.pick([1, 0.5]) })
    var model = cost(dim: 512, heads: draws.pick([8, 6]), keyHeads: 2, gflops: draws.pick([50, 200, 1_000]),
                     gbit: draws.pick([0.3, 1, 10]))
    if seed % 4 == 3 { roughen(&model, &draws) }
    let part = Double(lengths.max() ?? 1) / Double(ranks)
    let cap = Int((part * draws.pick([1, 1.5, 4, 20])).rounded(.up))
    return try PlanProblem(lengths: lengths, rates: rates, tokenCap: cap, cost: model)
}
