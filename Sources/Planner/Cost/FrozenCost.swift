import Base
import Foundation

/// What plans of a run reckon with: a cost model, and what its ranks differ in. A run measures it once and keeps it in
/// its checkpoints, so that it goes on with the same plans.
package struct FrozenCost: Sendable, Equatable, Codable {
    package var model: CostModel
    package var rates: RankRates

    package init(model: CostModel, rates: RankRates) { (self.model, self.rates) = (model, rates) }

    /// JSON on one line that keeps every bit.
    package var encoded: String { jsonLine(self) }

    /// `place` names where the text came from. Throws: what is no cost model, or one with rates that are none.
    package init(decoding text: String, place: String) throws(BadInput) {
        guard let found = try? JSONDecoder().decode(FrozenCost.self, from: Data(text.utf8)),
              found.rates.speeds.count == found.rates.links.count, !found.rates.speeds.isEmpty,
              (found.rates.speeds + found.rates.links).allSatisfy({ $0 > 0 && $0.isFinite }),
              !found.model.compute.pieces.isEmpty
        else { throw BadInput("\(place): this is not a cost model with the rates of its ranks; measure it again") }
        self = found
    }
}

extension RankRates {
    /// Rates that lie within `tolerance` of each other become one, their median: ranks of one class may be exchanged
    /// for each other in plans, and what a measurement wavers by is no difference.
    package static func levelled(_ rates: [Double], tolerance: Double) -> [Double] {
        let order = rates.indices.sorted { (rates[$0], $0) < (rates[$1], $1) }
        var levelled = rates, first = 0
        while first < order.count {
            var end = first + 1
            while end < order.count, rates[order[end]] <= rates[order[first]] * (1 + tolerance) { end += 1 }
            let middle = rates[order[(first + end - 1) / 2]]
            for place in order[first..<end] { levelled[place] = middle }
            first = end
        }
        return levelled
    }
}
