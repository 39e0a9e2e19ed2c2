import Collectives
import Model
import Tensor

/// The tokens that a micro-batch will meet, as far as they are known before.
public enum StepTokens {
    case none
    case these(Targets)
    case unknown
}

/// How a step's gradients come together: where each micro-batch's backward writes, and what ranks exchange meanwhile.
///
/// The loss is already divided by the global count of targets, so the sum is the gradient: nothing is averaged. A fault
/// of the network that is met during a backward is kept and thrown by `finish`; what is computed after it is lost.
public protocol GradientFlow: GradientSink {
    /// Whether anything moves before the last micro-batch's backward.
    var movesEarly: Bool { get }

    /// Before the forward of a micro-batch with these tokens.
    func note(_ tokens: StepTokens)

    /// Before micro-batch `index` of `count`. Returns where its backward writes; the sink is told of its blocks.
    func begin(_ index: Int, of count: Int) -> Parameters

    /// After its backward.
    func end(_ index: Int, of count: Int)

    /// Returns when `TrainingState.gradientShard` holds the sum over all ranks on the rank's optimizer share.
    func finish() throws(CollectiveFault)
}

/// What gradients are on their way.
struct GradientWire {
    private let fixed: WireFormat
    /// Where they travel in E4M3.
    let scales: WireScales?

    init(_ fixed: WireFormat, _ scales: WireScales? = nil) {
        self.fixed = fixed
        self.scales = scales
    }

    /// In this step.
    var format: WireFormat { scales?.wire ?? fixed }
}

/// The last steps of every flow: from a gradient share that is summed over its group to an optimizer share that is
/// summed over the world. Most layouts have none of it: with one group for all there is nothing left to sum.
final class ShareSums {
    private let state: TrainingState
    private let groups: ShardGroups
    private let communicator: Communicator
    private var tickets: TicketQueue
    private let isCanonical: Bool
    private let wire: GradientWire
    /// The embedding's rows, where they were moved for their way.
    private var moves: SparseRows?

    /// `wire`: what gradients are on their way. In few bits they go straight to their owners, since a partial sum that
    /// is rounded at each hop would lose more with every rank.
    init(_ state: TrainingState, _ groups: ShardGroups, _ communicator: Communicator, isCanonical: Bool,
         wire: GradientWire) {
        self.state = state
        self.groups = groups
        self.communicator = communicator
        self.isCanonical = isCanonical
        self.wire = wire
        tickets = TicketQueue(communicator)
    }

    /// How a sum travels. Labels keep units apart, so that ranks never mix them up.
    func style(_ unit: Int, _ group: Group) -> CollectiveStyle {
        let wire = wire.format, algorithm: Algorithm? = wire != .native ? .direct
            : isCanonical && group.size > 2 ? .halvingDoubling : nil
        return CollectiveStyle(wire: wire, algorithm: algorithm, label: UInt32(unit + 1))
    }

    /// Gradient share `unit` is summed over its group.
    func summed(_ unit: Int) {
        if groups.optimizer.size > 1 {
            sum(share(unit), unit, groups.optimizerPartitions[unit])
        } else if groups.replicas.size > 1 {
            addReplicas(unit)
        }
    }

    private func sum(_ row: Row, _ unit: Int, _ partition: Partition) {
        unsafe tickets.append(communicator.reduceScatter(
            row.floats, partition: partition, in: groups.optimizer, style: style(unit, groups.optimizer)))
    }

    /// The same for the embedding, of which `rows` have met some words only. Both groups are not larger than one then.
    func summed(_ rows: SparseRows) {
        let whole = share(0), moved = rows.compact(whole)
        if groups.optimizer.size > 1 {
            let bounds = groups.optimizerPartitions[0].bounds.map { rows.compacted($0) }
            sum(moved, 0, Partition(bounds: bounds))
        } else {
            unsafe tickets.append(communicator.allReduce(moved.floats, in: groups.replicas,
                                                         style: style(0, groups.replicas)))
        }
        moves = rows
    }

    /// Waits for all of them.
    func finish() throws(CollectiveFault) {
        try tickets.waitAll()
        if let moved = moves {
            moved.expand(share(0), state.ownRanges[0])
            moves = nil
        }
        if groups.optimizer.size > 1, groups.replicas.size > 1 {
            for unit in state.plan.units.indices { addReplicas(unit) }
            try tickets.waitAll()
        }
        wire.scales?.restore()
        try wire.scales?.agree()
    }

    /// The gradient share of this rank in its memory.
    private func share(_ unit: Int) -> Row {
        let plan = state.plan
        return state.gradientShard.part(plan.units[unit].share(plan.gradientShare(of: state.rank),
                                                               of: plan.counts.gradients), unit: unit)
    }

    private func addReplicas(_ unit: Int) {
        let own = state.gradientShard.part(state.ownRanges[unit], unit: unit)
        unsafe tickets.append(communicator.allReduce(own.floats, in: groups.replicas,
                                                     style: style(unit, groups.replicas)))
    }
}
