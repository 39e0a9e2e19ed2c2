import Recipe
import Tensor

/// What a step of an optimizer does to the weights that it is lent.
enum WeightUse { case none, read, changed }

/// A run's weights and moments as floats, whatever they are kept in.
struct LentParts {
    let run: ShardRun
    /// Empty where they are not asked for.
    let weights: Row
    let first: Row
    let second: Row
}

extension OptimizerShard {
    /// Lends a run's weights and so many moments, and keeps what `body` makes of them: all at once where they are
    /// floats, else a few blocks at a time.
    func eachPart(_ run: ShardRun, weights use: WeightUse = .changed, moments: Int = 2, _ body: (LentParts) -> Void) {
        guard state.hasCodes else {
            let none = gradient(run).slice(0, 0)
            return body(LentParts(run: run, weights: use == .none ? none : state.weightVectors[0].part(run),
                                  first: moments > 0 ? state.momentParts[0].numbers.part(run) : none,
                                  second: moments > 1 ? state.momentParts[1].numbers.part(run) : none))
        }
        let weights = use == .none ? nil : state.weightPart
        let first = moments > 0 ? state.momentParts[0] : nil, second = moments > 1 ? state.momentParts[1] : nil
        // Not a list of three: that would be an allocation for each run.
        let isCoded = weights?.scales != nil || first?.scales != nil || second?.scales != nil
        let none = gradient(run).slice(0, 0)
        guard isCoded else {
            return body(LentParts(run: run, weights: weights?.floats(run) ?? none, first: first?.floats(run) ?? none,
                                  second: second?.floats(run) ?? none))
        }
        withStackRow { memory in
            func lend(_ part: CodedPart?, _ own: ShardRun, _ place: Int) -> Row {
                guard let part else { return none }
                guard part.scales != nil else { return part.floats(own) }
                let row = memory.slice(place * CodedPart.size, own.range.count)
                part.load(own, to: row)
                return row
            }
            for start in stride(from: run.range.lowerBound, to: run.range.upperBound, by: CodedPart.size) {
                let own = ShardRun(parameter: run.parameter, unit: run.unit,
                                   range: start..<min(start + CodedPart.size, run.range.upperBound))
                let lent = LentParts(run: own, weights: lend(weights, own, 0), first: lend(first, own, 1),
                                     second: lend(second, own, 2))
                body(lent)
                if use == .changed { keep(weights, lent.weights, own, 0) }
                keep(first, lent.first, own, 1)
                keep(second, lent.second, own, 2)
            }
        }
    }

    private func keep(_ part: CodedPart?, _ row: Row, _ run: ShardRun, _ place: Int) {
        guard let part, part.scales != nil else { return }
        // Operands of products are numbered from 0.
        part.store(run, row, RoundingKey(seed: UInt64(seed), step: number, tensor: run.parameter, operand: 64 + place))
    }
}
