import Collectives
import Model
import Recipe
import Tensor

/// Weights of which a rank holds its share only (ZeRO stage 3, 1910.02054 section 5.3). A block's weights are gathered
/// into a slot before they are used, while the block before is computed with, and the slot is the next one's
/// afterwards.
///
/// The order in which blocks are used is known, so the next gathers are begun as soon as their slots are free: between
/// a block's last use and the sending of its gradients, so that weights never queue behind gradients. A block that
/// still lies in its slot is not gathered again: the last layers of a forward are the first of its backward.
///
/// A fault of the network is kept, and thrown by `check`; what is computed meanwhile is lost.
final class SharedWeights: StepWeights {
    private let state: TrainingState
    private let slots: BlockSlots
    private let pool: Pool
    private let communicator: Communicator
    private let groups: ShardGroups
    private var tickets: TicketQueue
    /// What is in each slot, or on its way there.
    private var held: [Int?]
    private var isUsed: [Bool]
    /// Gathers on their way, oldest first.
    private var moving: [Int] = []
    /// The blocks to come, in the order of their use, and the first of them that is not acquired yet.
    private var order: [Int] = []
    private var next = 0
    private var fault: CollectiveFault?

    let travels = true

    init(_ state: TrainingState, slots: BlockSlots, pool: Pool, communicator: Communicator, groups: ShardGroups) {
        self.state = state
        self.slots = slots
        self.pool = pool
        self.communicator = communicator
        self.groups = groups
        tickets = TicketQueue(communicator)
        held = Array(repeating: nil, count: slots.count)
        isUsed = Array(repeating: false, count: slots.count)
    }

    /// The blocks that are used from here on.
    func begin(_ order: [Int]) {
        precondition(next == self.order.count, "blocks that were announced have not been used")
        self.order = order
        next = 0
        fetchAhead()
    }

    func acquire(_ block: Int) {
        precondition(next < order.count && order[next] == block, "block \(block) is not the one that was announced")
        next += 1
        let slot = slots.ofBlock[block]
        if held[slot] != block { gather(block) }
        isUsed[slot] = true
        while moving.contains(block) { take() }
        fetchAhead()
    }

    func release(_ block: Int) {
        isUsed[slots.ofBlock[block]] = false
        fetchAhead()
    }

    /// The weights have changed: what the slots hold is worth nothing.
    func invalidate() {
        precondition(moving.isEmpty, "weights are on their way while they change")
        for slot in held.indices { held[slot] = nil }
    }

    func check() throws(CollectiveFault) {
        if let fault { throw fault }
    }

    /// Begins the gathers of the blocks to come, in their order, up to the first whose slot is still wanted.
    private func fetchAhead() {
        var wanted = isUsed
        for place in next..<min(next + slots.count, order.count) {
            let block = order[place], slot = slots.ofBlock[block]
            if held[slot] != block {
                if wanted[slot] { return }
                gather(block)
            }
            wanted[slot] = true
        }
    }

    private func gather(_ block: Int) {
        let slot = slots.ofBlock[block], unit = state.plan.units[block]
        held[slot] = block
        guard fault == nil else { return }
        let own = state.plan.parameterRanges(of: state.rank)[block], row = state.weights.blocks[block]
        state.readWeights(own, unit: block, to: row.slice(own.lowerBound - unit.range.lowerBound, own.count),
                          pool: pool)
        unsafe tickets.append(communicator.allGather(
            row.floats, partition: groups.parameterPartitions[block], in: groups.parameter,
            style: CollectiveStyle(label: UInt32(block + 1))))
        moving.append(block)
    }

    private func take() {
        moving.removeFirst()
        do throws(CollectiveFault) {
            if fault == nil { try tickets.waitNext() }
        } catch {
            fault = error
        }
    }
}
