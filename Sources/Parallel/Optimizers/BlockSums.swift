import Collectives
import Recipe
import Tensor

/// Sums over the fixed blocks of `NormBlocks`: each rank makes those of its share, one exchange hands them to all, and
/// every rank evaluates the same tree over the same numbers.
///
/// Two sums for each block (a gradient's norm needs one), and a few words beside them, since whatever ranks must agree
/// on goes with the same message.
@safe final class BlockSums {
    /// Words of each rank beside its sums.
    static let headerWords = 4

    let blocks: NormBlocks
    /// The blocks of this rank's share.
    let own: [ShardRun]
    private let ownIndices: [Int]
    private let firsts: Doubles
    private let seconds: Doubles
    private let headers: Doubles
    private let communicator: Communicator?
    /// The blocks whose sums each rank sends: those of its share, or none where all ranks have all.
    private let sent: [[Range<Int>]]
    private let single: Partition
    private let double: Partition
    private let buffer: Row
    private let memory: Arena
    private let rank: Int
    /// Ranks whose shares together are everything, this one among them.
    private let sharers: Range<Int>

    init(_ state: TrainingState, communicator: Communicator?) throws(OutOfMemory) {
        let plan = state.plan, blocks = NormBlocks(state.table)
        self.blocks = blocks
        self.communicator = communicator
        rank = state.rank
        var own: [ShardRun] = [], indices: [Int] = []
        for (unit, range) in state.ownRanges.enumerated() {
            for block in blocks.blocks(in: range) {
                own.append(ShardRun(parameter: blocks.parameter(of: block), unit: unit, range: blocks.range(block)))
                indices.append(block)
            }
        }
        self.own = own
        ownIndices = indices
        firsts = Doubles(count: blocks.count)
        seconds = Doubles(count: blocks.count)
        headers = Doubles(count: plan.worldSize * Self.headerWords)
        let sent = (0..<plan.worldSize).map { rank in
            plan.counts.optimizer == 1 ? [] : plan.optimizerRanges(of: rank).map { blocks.blocks(in: $0) }
        }
        self.sent = sent
        func partition(_ sums: Int) -> Partition {
            var bounds = [0]
            for rank in 0..<plan.worldSize {
                let count = sent[rank].reduce(0) { $0 + $1.count }
                bounds.append(bounds[rank] + 8 * (Self.headerWords + sums * count))
            }
            return Partition(bounds: bounds)
        }
        single = partition(1)
        double = partition(2)
        sharers = (rank / plan.counts.optimizer * plan.counts.optimizer)..<((rank / plan.counts.optimizer + 1)
            * plan.counts.optimizer)
        memory = try Arena(name: "sums of blocks", capacity: Arena.padded(double.count / 4))
        buffer = memory.take(double.count / 4)
    }

    /// Floats of memory for a plan: two Doubles for each block, and as many again while they travel.
    static func floats(_ plan: ShardPlan) -> Int { 8 * NormBlocks(plan.table).count }

    /// Fills the sums of this rank's blocks with what `body` makes of each, on all threads.
    func measure(pool: Pool, _ body: @Sendable (ShardRun) -> (Double, Double)) {
        let (own, indices, firsts, seconds) = (own, ownIndices, firsts, seconds), group = 16
        pool.run((own.count + group - 1) / group, stage: "gradient norm") { tile, _ in
            for place in (tile * group)..<min(tile * group + group, own.count) {
                (firsts[indices[place]], seconds[indices[place]]) = body(own[place])
            }
        }
    }

    /// The sum of the first sums, or of the second, over a parameter, or over everything.
    func first(of parameter: Int) -> Double { blocks.total(firsts, ofParameter: parameter) }
    func second(of parameter: Int) -> Double { blocks.total(seconds, ofParameter: parameter) }
    func first() -> Double { blocks.total(firsts) }

    /// Word `word` that `rank` sent with the last exchange.
    func header(_ word: Int, of rank: Int) -> Double { headers[rank * Self.headerWords + word] }

    /// Completes the sums with those of the other ranks: both of each block, or the first alone.
    func exchange(_ header: (Double, Double, Double, Double) = (0, 0, 0, 0), both: Bool = true)
        throws(CollectiveFault) {
        let partition = both ? double : single
        write(header, partition[rank].lowerBound, both)
        if let communicator {
            let bytes = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<partition.count])
            try unsafe communicator.allGather(bytes: bytes, partition: partition).wait()
        }
        for rank in sent.indices { read(rank, partition[rank].lowerBound, both) }
    }

    private func write(_ header: (Double, Double, Double, Double), _ start: Int, _ both: Bool) {
        var place = start
        func put(_ value: Double) {
            unsafe buffer.bytes.storeBytes(of: value.bitPattern, toByteOffset: place, as: UInt64.self)
            place += 8
        }
        put(header.0)
        put(header.1)
        put(header.2)
        put(header.3)
        for range in sent[rank] {
            for block in range {
                put(firsts[block])
                if both { put(seconds[block]) }
            }
        }
    }

    private func read(_ rank: Int, _ start: Int, _ both: Bool) {
        var place = start
        func take() -> Double {
            defer { place += 8 }
            return unsafe Double(bitPattern: buffer.bytes.load(fromByteOffset: place, as: UInt64.self))
        }
        for word in 0..<Self.headerWords { headers[rank * Self.headerWords + word] = take() }
        guard sharers.contains(rank) else { return }
        for range in sent[rank] {
            for block in range {
                firsts[block] = take()
                if both { seconds[block] = take() }
            }
        }
    }
}
