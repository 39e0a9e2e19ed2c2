import Recipe

/// Who holds which floats of the training state: a pure function of the table, the counts and the number of ranks.
///
/// The flat vector is cut into units: runs of whole blocks that travel as one message. Each unit is cut into as many
/// shares as ranks share out the optimizer state, along the fixed blocks of `NormBlocks`, so that a share is whole
/// blocks. A share of the gradients is several of those side by side, and one of the parameters several of these:
/// whoever updates a float holds its gradient and its parameter.
///
/// With s_p, s_g and s_o ranks sharing parameters, gradients and optimizer state, rank r has
///
///     gradient share    g = r mod s_g
///     optimizer share   o = g s_o / s_g + (r / s_g) mod (s_o / s_g)
///     parameter share   p = g s_p / s_g
///
/// so gradients are summed between neighbouring ranks first, then between the sums: in the order of one balanced tree.
public struct ShardPlan: Sendable {
    public let table: ParameterTable
    public let counts: ShardCounts
    public let worldSize: Int
    /// In ascending order; a backward finishes the last one first.
    public let units: [Unit]

    public struct Unit: Sendable, Equatable {
        /// Of the flat vector.
        public let range: Range<Int>
        public let blocks: Range<Int>
        /// Floats where the shares of the optimizer state begin and end, in the flat vector.
        public let bounds: [Int]

        /// The flat range of share `index` of `count`.
        func share(_ index: Int, of count: Int) -> Range<Int> {
            let width = (bounds.count - 1) / count
            return bounds[index * width]..<bounds[(index + 1) * width]
        }
    }

    /// `keepsMatrices`: no matrix is cut, since its owner computes with all of it; shares are then less even.
    public init(_ table: ParameterTable, counts: ShardCounts = .whole, worldSize: Int = 1,
                keepsMatrices: Bool = false) {
        precondition(worldSize % counts.optimizer == 0, "the counts do not fit the world: see Recipe.shardCounts")
        self.table = table
        self.counts = counts
        self.worldSize = worldSize
        // Where memory holds some units at a time, they are as small as can be: one block each.
        let blocks = counts.gradients > 1
            ? table.blocks.indices.map { $0..<($0 + 1) }
            : BucketPlan(table).buckets.reversed().map(\.blocks)
        var cut = ShardCut(table, shares: counts.optimizer, keepsMatrices: keepsMatrices)
        units = blocks.map { blocks in
            let range = table.blocks[blocks.lowerBound].lowerBound..<table.blocks[blocks.upperBound - 1].upperBound
            return Unit(range: range, blocks: blocks, bounds: cut.bounds(of: range))
        }
    }

    // MARK: Shares of a rank

    public func gradientShare(of rank: Int) -> Int { rank % counts.gradients }

    public func optimizerShare(of rank: Int) -> Int {
        let width = counts.optimizer / counts.gradients
        return gradientShare(of: rank) * width + rank / counts.gradients % width
    }

    public func parameterShare(of rank: Int) -> Int {
        gradientShare(of: rank) / (counts.gradients / counts.parameters)
    }

    /// The flat ranges that `rank` holds, one of each unit.
    public func optimizerRanges(of rank: Int) -> [Range<Int>] {
        units.map { $0.share(optimizerShare(of: rank), of: counts.optimizer) }
    }

    public func gradientRanges(of rank: Int) -> [Range<Int>] {
        units.map { $0.share(gradientShare(of: rank), of: counts.gradients) }
    }

    public func parameterRanges(of rank: Int) -> [Range<Int>] {
        units.map { $0.share(parameterShare(of: rank), of: counts.parameters) }
    }

    /// Parameters that the busiest rank updates over the mean: 1 but for blocks, and more where matrices are kept
    /// whole.
    public var ownerImbalance: Double {
        let owned = (0..<worldSize).map { optimizerRanges(of: $0).reduce(0) { $0 + $1.count } }
        return Double((owned.max() ?? 0) * worldSize) / Double(max(1, owned.reduce(0, +)))
    }

    // MARK: Groups, as lists of ranks

    /// They sum a unit's gradient, each for its gradient share.
    func gradientGroup(of rank: Int) -> [Int] {
        let first = rank / counts.gradients * counts.gradients
        return Array(first..<(first + counts.gradients))
    }

    /// They sum a gradient share, each for its optimizer share.
    func optimizerGroup(of rank: Int) -> [Int] {
        let first = rank / counts.optimizer * counts.optimizer + gradientShare(of: rank)
        return Array(stride(from: first, to: first / counts.optimizer * counts.optimizer + counts.optimizer,
                            by: counts.gradients))
    }

    /// They hold the same optimizer share.
    func replicas(of rank: Int) -> [Int] {
        Array(stride(from: rank % counts.optimizer, to: worldSize, by: counts.optimizer))
    }

    /// They update the pieces of one parameter share, in the order of the pieces.
    func updateGroup(of rank: Int) -> [Int] {
        let first = rank / counts.optimizer * counts.optimizer
        return (first..<(first + counts.optimizer))
            .filter { parameterShare(of: $0) == parameterShare(of: rank) }
            .sorted { optimizerShare(of: $0) < optimizerShare(of: $1) }
    }

    /// They hold all parameters between them, in the order of the shares.
    func parameterGroup(of rank: Int) -> [Int] {
        let width = counts.gradients / counts.parameters
        let first = rank / counts.gradients * counts.gradients + gradientShare(of: rank) % width
        return (0..<counts.parameters).map { first + $0 * width }
    }
}

/// Cuts one unit after the other into shares, along blocks, so that the shares of all units together are even.
private struct ShardCut {
    private let table: ParameterTable
    private let blocks: NormBlocks
    private let shares: Int
    private let keepsMatrices: Bool
    /// Floats that each share has so far.
    private var held: [Int]

    init(_ table: ParameterTable, shares: Int, keepsMatrices: Bool) {
        self.table = table
        self.shares = shares
        self.keepsMatrices = keepsMatrices
        blocks = NormBlocks(table)
        held = Array(repeating: 0, count: shares)
    }

    mutating func bounds(of range: Range<Int>) -> [Int] {
        var bounds = [range.lowerBound], wanted = Double(range.lowerBound)
        let total = held.reduce(0, +) + range.count
        for share in 0..<(shares - 1) {
            // Whole matrices are shared out over the whole vector, or a unit of a few would leave most ranks empty.
            wanted = keepsMatrices ? Double(table.count) * Double(share + 1) / Double(shares)
                : wanted + max(0, Double(total) / Double(shares) - Double(held[share]))
            bounds.append(max(bounds[bounds.count - 1], nearestStart(to: wanted, in: range)))
        }
        bounds.append(range.upperBound)
        for share in 0..<shares { held[share] += bounds[share + 1] - bounds[share] }
        return bounds
    }

    /// The place in `range` that is nearest to `wanted` among those where a share may begin and the range's end: every
    /// fixed block, or of matrices that are kept whole their beginning.
    private func nearestStart(to wanted: Double, in range: Range<Int>) -> Int {
        if wanted <= Double(range.lowerBound) { return range.lowerBound }
        if wanted >= Double(range.upperBound) { return range.upperBound }
        let number = blocks.lastParameter(from: Int(wanted)), parameter = table.parameters[number]
        let next = number + 1 < table.parameters.count ? table.parameters[number + 1].offset : table.count
        var below = parameter.offset, above = next
        if !(keepsMatrices && table.isHiddenMatrix(number)) {
            let last = max(0, (parameter.count - 1) / NormBlocks.size)
            let block = min((Int(wanted) - parameter.offset) / NormBlocks.size, last)
            below += block * NormBlocks.size
            if block < last { above = below + NormBlocks.size }
        }
        below = max(below, range.lowerBound)
        above = min(above, range.upperBound)
        return wanted - Double(below) < Double(above) - wanted ? below : above
    }
}
