import Collectives
import Recipe
import Tensor

/// From a summed gradient to new weights on all ranks: norm, agreement, update, and the gathering of what was updated.
///
/// The update is fused with the gathering (CoCoNet, 2105.05720, section 3): a rank updates its share segment by
/// segment, and what is updated already travels to the others meanwhile. Whoever holds all parameters of a share
/// updates it alone and sends nothing.
public final class ShardUpdate {
    private var shard: OptimizerShard
    private let tools: OptimizerTools
    private let optimizer: any ShardOptimizer
    private let communicator: Communicator?
    private let groups: ShardGroups?
    private let recipe: Recipe
    /// This rank's share in runs small enough to balance threads and large enough to stream, in ascending order.
    private let runs: [ShardRun]
    private let rootSums: Doubles
    private let rootPeaks: Doubles
    /// Where ranks gather weights that are codes.
    private let coded: CodedGather?
    private static let runSize = 16_384

    init(_ state: TrainingState, recipe: Recipe, pool: Pool, communicator: Communicator?,
         groups: ShardGroups?) throws(OutOfMemory) {
        shard = OptimizerShard(state, recipe)
        tools = OptimizerTools(sums: try BlockSums(state, communicator: communicator), pool: pool)
        self.recipe = recipe
        self.communicator = communicator
        self.groups = groups
        optimizer = try recipe.optimizer.name.make(state, recipe.optimizer, pool)
        var runs: [ShardRun] = []
        for piece in state.table.parameters.indices.flatMap({ state.ownRuns(of: $0) }) {
            for start in stride(from: piece.range.lowerBound, to: piece.range.upperBound, by: Self.runSize) {
                runs.append(ShardRun(parameter: piece.parameter, unit: piece.unit,
                                     range: start..<min(start + Self.runSize, piece.range.upperBound)))
            }
        }
        self.runs = runs
        coded = state.hasCodedWeights ? groups.flatMap { CodedGather(state, $0.update) } : nil
        rootSums = Doubles(count: runs.count)
        rootPeaks = Doubles(count: runs.count)
    }

    /// What all ranks have agreed on before an update.
    public struct Agreement: Sendable {
        public var norm: Double
        /// Rank 0's, since another C library may round a cosine otherwise.
        public var rate: Double
        public var stops: Bool
        /// Ranks that had another norm of the same gradient.
        public var agrees: Bool
    }

    /// The norm of the whole gradient, and what the ranks have to tell each other, in one exchange. Where every rank
    /// has the whole gradient, its norm must be the same everywhere, bit for bit.
    public func agree(loss: Double, rate: Double, stop: Bool) throws(CollectiveFault) -> Agreement {
        let sums = tools.sums, shard = shard
        sums.measure(pool: tools.pool) { (sumOfSquares(shard.gradient($0)), 0) }
        let isWhole = shard.state.plan.counts.optimizer == 1
        let own = isWhole ? sums.first() : 0
        try sums.exchange((loss, own, stop ? 1 : 0, rate), both: false)
        let ranks = 0..<shard.state.plan.worldSize
        return Agreement(norm: (isWhole ? own : sums.first()).squareRoot(),
                         rate: sums.header(3, of: 0),
                         stops: ranks.contains { sums.header(2, of: $0) != 0 },
                         agrees: ranks.allSatisfy { sums.header(1, of: $0).bitPattern == own.bitPattern })
    }

    /// What `rank` said of its loss in the last agreement.
    public func loss(of rank: Int) -> Double { tools.sums.header(0, of: rank) }

    /// Updates this rank's share and gathers the others'. Returns what the second moment of all shares looks like,
    /// where there is one: the sum of its roots and the largest of them.
    public func update(number: Int, rate: Double, norm: Double) throws(CollectiveFault) -> VarianceRoots? {
        let limit = recipe.training.maxNorm
        let step = OptimizerStep(number: number, rate: rate,
                                 gradientScale: limit > 0 && norm > limit ? limit / norm : 1)
        shard.number = number
        try optimizer.begin(step, shard, tools)
        for index in runs.indices {
            rootSums[index] = 0
            rootPeaks[index] = 0
        }
        let state = shard.state, units = state.plan.units
        if let coded, let communicator, let groups {
            try gather(coded, communicator, groups.update)
        } else if let communicator, let groups, groups.update.size > 1 {
            let parameterShare = state.plan.parameterShare(of: state.rank), counts = state.plan.counts
            func place(_ unit: Int) -> Range<Int> { units[unit].share(parameterShare, of: counts.parameters) }
            try unsafe communicator.allGathers(
                units.count, in: groups.update,
                buffer: { unsafe state.weightShard.part(place($0), unit: $0).floats },
                partition: { groups.updatePartitions[$0] },
                preparing: { unit, range in
                    let first = place(unit).lowerBound
                    self.update((first + range.lowerBound)..<(first + range.upperBound))
                })
        } else {
            for range in state.ownRanges { update(range) }
        }
        return try roots()
    }

    /// The same where weights are codes: these travel as they are, and their scales behind them.
    private func gather(_ coded: CodedGather, _ communicator: Communicator, _ group: Group) throws(CollectiveFault) {
        for vector in [coded.codes, coded.scales] {
            try unsafe communicator.allGathers(
                vector.partitions.count, in: group,
                buffer: { unsafe vector.vector.shard.unit($0).floats },
                partition: { vector.partitions[$0] },
                preparing: { unit, range in
                    guard vector.isCodes else { return }
                    self.update(vector.elements(range, unit: unit))
                })
        }
    }

    /// Updates the floats of a range within one unit's share.
    private func update(_ range: Range<Int>) {
        let first = firstRun(endingAfter: range.lowerBound), end = firstRun(endingAfter: range.upperBound - 1) + 1
        guard first < runs.count, !range.isEmpty else { return }
        let (runs, shard, sums, peaks, isCoded) = (runs, shard, rootSums, rootPeaks, shard.state.hasCodes)
        // `begin` is over, and until the next one `update` only reads what it has set.
        nonisolated(unsafe) let optimizer = optimizer
        tools.pool.run(min(end, runs.count) - first, stage: "optimizer") { tile, _ in
            let run = runs[first + tile]
            let piece = isCoded ? run.blocks(beginningIn: range) : run.range.clamped(to: range)
            guard !piece.isEmpty,
                  let roots = unsafe optimizer.update(ShardRun(parameter: run.parameter, unit: run.unit, range: piece),
                                                      shard) else { return }
            sums[first + tile] += roots.sum
            peaks[first + tile] = max(peaks[first + tile], Double(roots.max))
        }
    }

    /// The first run that has a float from `place` on.
    private func firstRun(endingAfter place: Int) -> Int {
        var low = 0, high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].range.upperBound <= place { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Over the shares of all ranks, in the order of ranks.
    private func roots() throws(CollectiveFault) -> VarianceRoots? {
        guard recipe.optimizer.name == .adamw else { return nil }
        var own = VarianceRoots(sum: 0, max: 0)
        for index in runs.indices {
            own.sum += rootSums[index]
            own.max = max(own.max, Float(rootPeaks[index]))
        }
        guard let communicator, shard.state.plan.counts.optimizer > 1 else { return own }
        let rows = try communicator.exchange([own.sum, Double(own.max)])
        let sharers = rows.prefix(shard.state.plan.counts.optimizer)
        return VarianceRoots(sum: sharers.reduce(0) { $0 + $1[0] }, max: Float(sharers.map { $0[1] }.max() ?? 0))
    }
}
