import Collectives
import Model
import Tensor

/// Where a step's weights come from if not from memory: what `ShardedStep` needs of it beside `WeightSource`.
protocol StepWeights: WeightSource {
    /// Whether they come from other ranks.
    var travels: Bool { get }
    /// The blocks that are used from here on, in their order.
    func begin(_ order: [Int])
    /// The weights have changed.
    func invalidate()
    /// Throws what went wrong on the way.
    func check() throws(CollectiveFault)
}

/// Weights that this rank holds as codes: a block's become floats in a slot when it is used, and the slot is the next
/// one's afterwards. A block that still lies in its slot is not decoded again.
final class CodedWeights: StepWeights {
    private let state: TrainingState
    private let slots: BlockSlots
    private let pool: Pool
    private var held: [Int?]

    let travels = false

    init(_ state: TrainingState, slots: BlockSlots, pool: Pool) {
        self.state = state
        self.slots = slots
        self.pool = pool
        held = Array(repeating: nil, count: slots.count)
    }

    func begin(_ order: [Int]) {}

    func acquire(_ block: Int) {
        let slot = slots.ofBlock[block]
        guard held[slot] != block else { return }
        held[slot] = block
        guard let unit = state.plan.units.firstIndex(where: { $0.blocks.contains(block) }) else { return }
        state.readWeights(state.table.blocks[block], unit: unit, to: state.weights.blocks[block], pool: pool)
    }

    func release(_ block: Int) {}

    func invalidate() {
        for slot in held.indices { held[slot] = nil }
    }

    func check() {}
}
