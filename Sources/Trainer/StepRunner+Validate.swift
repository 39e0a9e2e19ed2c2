import Corpus
import Model
import Parallel
import Recipe

extension StepRunner {
    /// Loss over `rows` held-out rows, spread evenly over all of them, each rank its share: summed nats and the number
    /// of targets.
    public func validate(rows: Int) throws -> (nats: Double, targets: Int) {
        let isPlanned = planner != nil
        let size = isPlanned ? batches[0].capacity / recipe.training.sequenceLength : recipe.rowsPerTask
        let share = isPlanned ? 0..<rows : world.share(of: 0..<rows, degree: recipe.contextDegree)
        var (nats, targets) = (0.0, 0)
        for start in stride(from: share.lowerBound, to: share.upperBound, by: size) {
            let batch = batches[0]
            corpus.fillValidation(batch, rows: start..<min(start + size, share.upperBound), of: rows)
            if isPlanned {
                try planTasks(batch)
                targets += parts.reduce(0) { $0 + $1.targetCount }
            } else {
                targets += self.share(batch, 0)
            }
            for index in turns(rows: 0, size: 1, own: isPlanned ? parts.count : 1) {
                if let index { nats += try forwardOnly(index) } else { try passForward() }
            }
        }
        if !isPlanned, sharded.exchangesEach {
            let count = (share.count + size - 1) / size
            for _ in turns(rows: rows, size: size, own: count).dropFirst(count) { try passForward() }
        }
        try sequences?.attention.check()
        let (allNats, allTargets) = try world.sum(nats, Double(targets))
        return (allNats, Int(allTargets))
    }

    private func passForward() throws {
        try sharded.forwardOnly(uses: model.uses(backward: false)) { model.pass() }
    }

    /// The loss of micro-batch `index`, summed over its targets.
    private func forwardOnly(_ index: Int) throws -> Double {
        try withMicroBatch(index) { task in
            try sharded.forwardOnly(uses: model.uses(backward: false)) {
                model.forward(task, weights: state.weights)
                return model.loss(task, weights: state.weights)
            }
        }
    }
}
