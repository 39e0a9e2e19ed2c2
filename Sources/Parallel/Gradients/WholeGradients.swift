import Collectives
import Model
import Recipe
import Tensor

/// Gradients that every rank holds whole until the step's last backward, in which each unit travels as soon as it is
/// complete (PyTorch DDP, 2006.15704, section 3.2.3).
///
/// Micro-batches are added up one after the other into one gradient, or, where the sum must not depend on how many
/// ranks there are, along a `SumTree`: then each has a gradient of its own, and only whole partial sums are added.
final class WholeGradients: GradientFlow {
    private let state: TrainingState
    private let pool: Pool
    private let communicator: Communicator?
    private let groups: ShardGroups?
    private let sums: ShareSums?
    private var tickets: TicketQueue?
    private let isReproducible: Bool
    /// Nil where all rows of the embedding's gradient go.
    private let sparse: SparseRows?
    private var fault: CollectiveFault?
    private let wire: GradientWire
    private var tree = SumTree(1)
    /// Partial sums that wait.
    private var height = 0
    private var index = 0
    private var isLast = false
    private var nextUnit = -1

    let movesEarly = false

    init(_ state: TrainingState, pool: Pool, communicator: Communicator?, groups: ShardGroups?, isReproducible: Bool,
         wire: GradientWire) throws {
        self.wire = wire
        self.state = state
        self.pool = pool
        self.communicator = communicator
        self.groups = groups
        self.isReproducible = isReproducible
        sums = communicator.flatMap { communicator in
            groups.map { ShareSums(state, $0, communicator, isCanonical: isReproducible, wire: wire) }
        }
        tickets = communicator.map { TicketQueue($0) }
        // With groups of groups, the share that a rank sums first is not all of the unit.
        let counts = state.plan.counts, isOneGroup = counts.optimizer == 1 || counts.optimizer == state.plan.worldSize
        sparse = try communicator.flatMap { counts.gradients == 1 && isOneGroup ? $0 : nil }
            .flatMap { try SparseRows(state.plan, $0) }
    }

    func note(_ tokens: StepTokens) { sparse?.mark(tokens) }

    func begin(_ index: Int, of count: Int) -> Parameters {
        self.index = index
        isLast = index == count - 1
        nextUnit = state.plan.units.count - 1
        if index == 0 {
            height = 0
            if isReproducible, tree.merges.count != count { tree = SumTree(count) }
        }
        let gradients = state.partialGradients[isReproducible ? height : 0]
        if isReproducible || index == 0 { clear(gradients.flat, pool: pool) }
        if isLast { sparse?.exchange() }
        return gradients
    }

    func begin(_ block: Int) {}

    func ready(_ block: Int) {
        guard isLast, nextUnit >= 0 else { return }
        let unit = state.plan.units[nextUnit]
        guard block == unit.blocks.lowerBound else { return }
        if isReproducible { merge(unit.range) }
        if let communicator, let groups, let sums {
            wire.scales?.prepare(nextUnit, state.gradients.flat.slice(unit.range.lowerBound, unit.range.count))
            if groups.gradient.size > 1 {
                let row = state.gradients.flat.slice(unit.range.lowerBound, unit.range.count)
                unsafe tickets?.append(communicator.reduceScatter(
                    row.floats, partition: groups.gradientPartitions[nextUnit], in: groups.gradient,
                    style: sums.style(nextUnit, groups.gradient)))
            } else if nextUnit == 0, let sparse {
                do throws(CollectiveFault) {
                    if try sparse.collect() { sums.summed(sparse) } else { sums.summed(0) }
                } catch {
                    fault = error
                }
            } else {
                sums.summed(nextUnit)
            }
        }
        nextUnit -= 1
    }

    func end(_ index: Int, of count: Int) {
        guard isReproducible else { return }
        if !isLast { merge(0..<state.table.count) }
        height += 1 - tree.merges[index]
    }

    /// Adds up the newest partial sums as the tree says, for these floats.
    private func merge(_ range: Range<Int>) {
        let size = 16_384, levels = state.partialGradients, top = height, merges = tree.merges[index]
        guard merges > 0 else { return }
        pool.run((range.count + size - 1) / size, stage: "add gradients") { tile, _ in
            let start = range.lowerBound + tile * size, count = min(size, range.upperBound - start)
            for level in stride(from: top, to: top - merges, by: -1) {
                add(levels[level - 1].flat.slice(start, count), levels[level].flat.slice(start, count))
            }
        }
    }

    func finish() throws(CollectiveFault) {
        precondition(isLast && nextUnit < 0, "finish before every block was ready")
        isLast = false
        if let fault { throw fault }
        guard let sums, let groups else { return }
        if groups.gradient.size > 1 {
            for unit in state.plan.units.indices.reversed() {
                try tickets?.waitNext()
                sums.summed(unit)
            }
        }
        try sums.finish()
    }
}

/// Fills a vector with zeros, on all threads.
func clear(_ row: Row, pool: Pool) {
    let size = 65_536
    pool.run((row.count + size - 1) / size, stage: "clear gradients") { index, _ in
        row.slice(index * size, min(size, row.count - index * size)).fill(0)
    }
}
