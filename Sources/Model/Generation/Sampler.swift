import Base
import Tensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// How a token is chosen from logits. Its memory is taken once, for one vocabulary.
public final class Sampler {
    /// 0 takes the likeliest token; 1 samples the model's own distribution.
    public let temperature: Double
    /// Only the `topK` likeliest tokens are considered; 0 means all.
    public let topK: Int
    /// Of those, only the likeliest whose probabilities add up to this much, and the one with which they do (nucleus
    /// sampling, 1904.09751); 1 means all.
    public let topP: Double
    private let rng: CounterRNG
    /// A heap of the likeliest tokens so far, the least likely of them first.
    private var kept: [Int] = []
    private var weights: [Double] = []
    /// Candidates by their weight, for `topP`.
    private var order: [Int] = []

    public init(temperature: Double, topK: Int, topP: Double = 1, seed: Int) {
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        rng = CounterRNG(seed: UInt64(seed), stream: 0x7361_6D70_6C65)
    }

    /// The token for draw number `counter`. Of equal logits the lower id comes first, where one of them is the
    /// likeliest and where the last of `topK` is sought.
    public func choose(_ logits: Row, counter: Int) -> Int {
        guard temperature > 0 else { return likeliest(logits) }
        let draw = rng.uniform(at: UInt64(counter))
        guard topK > 0, topK < logits.count else {
            return pick(draw, of: logits.count, logits) { $0 }
        }
        keepLikeliest(logits)
        return pick(draw, of: kept.count, logits) { kept[$0] }
    }

    private func likeliest(_ logits: Row) -> Int {
        var best = 0
        for id in 1..<max(logits.count, 1) where logits[id] > logits[best] { best = id }
        return best
    }

    /// One of `count` candidates, by their softmax at this temperature.
    private func pick(_ draw: Double, of count: Int, _ logits: Row, _ id: (Int) -> Int) -> Int {
        var largest = -Float.infinity, total = 0.0
        for index in 0..<count { largest = max(largest, logits[id(index)]) }
        if weights.count < count { weights = [Double](repeating: 0, count: count) }
        for index in 0..<count {
            weights[index] = exp(Double(logits[id(index)] - largest) / temperature)
            total += weights[index]
        }
        guard topP >= 1 else { return pickNucleus(draw, of: count, total, id) }
        var rest = draw * total
        for index in 0..<count {
            rest -= weights[index]
            if rest < 0 { return id(index) }
        }
        return likeliest(logits)
    }

    /// The same among the likeliest candidates that have `topP` of `total`; of equals the lower id comes first.
    private func pickNucleus(_ draw: Double, of count: Int, _ total: Double, _ id: (Int) -> Int) -> Int {
        order.removeAll(keepingCapacity: true)
        order += 0..<count
        order.sort { (-weights[$0], id($0)) < (-weights[$1], id($1)) }
        var kept = 0, sum = 0.0
        repeat {
            sum += weights[order[kept]]
            kept += 1
        } while kept < count && sum < topP * total
        var rest = draw * sum
        for index in order[..<kept] {
            rest -= weights[index]
            if rest < 0 { return id(index) }
        }
        return id(order[0])
    }

    /// Most tokens are below the least of the kept ones, which one comparison tells.
    private func keepLikeliest(_ logits: Row) {
        kept.removeAll(keepingCapacity: true)
        for id in 0..<logits.count {
            if kept.count < topK {
                kept.append(id)
                rise(kept.count - 1, logits)
            } else if isLess(kept[0], id, logits) {
                kept[0] = id
                sink(logits)
            }
        }
    }

    /// Whether `a` is less likely than `b`.
    private func isLess(_ a: Int, _ b: Int, _ logits: Row) -> Bool {
        logits[a] < logits[b] || (logits[a] == logits[b] && a > b)
    }

    private func rise(_ start: Int, _ logits: Row) {
        var place = start
        while place > 0, isLess(kept[place], kept[(place - 1) / 2], logits) {
            kept.swapAt(place, (place - 1) / 2)
            place = (place - 1) / 2
        }
    }

    private func sink(_ logits: Row) {
        var place = 0
        while true {
            var least = place
            for child in (2 * place + 1)...(2 * place + 2)
            where child < kept.count && isLess(kept[child], kept[least], logits) {
                least = child
            }
            guard least != place else { return }
            kept.swapAt(place, least)
            place = least
        }
    }
}
