import Collectives
import Model
import Recipe
import Tensor

/// Gradients of which a rank holds its share only (ZeRO stage 2, 1910.02054 section 5.2). A block's gradient is made in
/// a slot, summed over the group as soon as it is complete, and this rank's share of it is added to what the
/// micro-batches before have left; then the slot is another block's.
final class SharedGradients: GradientFlow {
    private let state: TrainingState
    private let slots: BlockSlots
    private let pool: Pool
    private let communicator: Communicator
    private let groups: ShardGroups
    private let sums: ShareSums
    private let wire: GradientWire
    private var tickets: TicketQueue
    /// Units on their way, oldest first.
    private var moving: [Int] = []
    private var isFirst = false
    private var isLast = false
    private var fault: CollectiveFault?

    let movesEarly = true

    init(_ state: TrainingState, slots: BlockSlots, pool: Pool, communicator: Communicator, groups: ShardGroups,
         wire: GradientWire) {
        self.state = state
        self.wire = wire
        self.slots = slots
        self.pool = pool
        self.communicator = communicator
        self.groups = groups
        sums = ShareSums(state, groups, communicator, isCanonical: false, wire: wire)
        tickets = TicketQueue(communicator)
        moving.reserveCapacity(slots.count)
    }

    /// Every micro-batch's gradients go, with all rows.
    func note(_ tokens: StepTokens) {}

    func begin(_ index: Int, of count: Int) -> Parameters {
        isFirst = index == 0
        isLast = index == count - 1
        return state.gradients
    }

    func begin(_ block: Int) {
        while moving.contains(where: { slots.ofBlock[$0] == slots.ofBlock[block] }) { take() }
        clear(state.gradients.blocks[block], pool: pool)
    }

    /// Units are blocks here.
    func ready(_ block: Int) {
        guard fault == nil else { return }
        wire.scales?.prepare(block, state.gradients.blocks[block])
        unsafe tickets.append(communicator.reduceScatter(
            state.gradients.blocks[block].floats, partition: groups.gradientPartitions[block], in: groups.gradient,
            style: sums.style(block, groups.gradient)))
        moving.append(block)
    }

    /// Waits for the oldest unit, and adds this rank's share of it to its sum.
    private func take() {
        let unit = moving.removeFirst()
        do throws(CollectiveFault) {
            if fault == nil { try tickets.waitNext() }
        } catch {
            fault = error
        }
        guard fault == nil else { return }
        let own = state.gradientShard.ranges[unit], first = state.plan.units[unit].range.lowerBound
        let part = state.gradients.blocks[unit].slice(own.lowerBound - first, own.count)
        let sum = state.gradientShard.unit(unit)
        let isFirst = isFirst, size = 16_384
        pool.run((own.count + size - 1) / size, stage: "add gradients") { tile, _ in
            let start = tile * size, count = min(size, own.count - start)
            if isFirst {
                sum.slice(start, count).copy(part.slice(start, count))
            } else {
                add(sum.slice(start, count), part.slice(start, count))
            }
        }
        if isLast { sums.summed(unit) }
    }

    /// The next micro-batch, which may be the last, must not take what belongs to this one.
    func end(_ index: Int, of count: Int) { while !moving.isEmpty { take() } }

    func finish() throws(CollectiveFault) {
        if let fault { throw fault }
        try sums.finish()
    }
}
