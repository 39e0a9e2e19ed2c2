import Collectives
import Recipe

/// A rank's groups for a `ShardPlan`, and how each unit is cut among their members. Groups of one move nothing.
struct ShardGroups {
    let gradient: Group
    let optimizer: Group
    let replicas: Group
    let update: Group
    let parameter: Group
    private let plan: ShardPlan
    private let rank: Int

    /// Every rank makes them at the same time.
    init(_ plan: ShardPlan, _ communicator: Communicator) {
        func make(_ group: (Int) -> [Int]) -> Group {
            var lists: [[Int]] = []
            for rank in 0..<plan.worldSize {
                let list = group(rank)
                if !lists.contains(list) { lists.append(list) }
            }
            guard let own = communicator.makeGroups(lists) else { preconditionFailure("a rank is in no group") }
            return own
        }
        gradient = make(plan.gradientGroup)
        optimizer = make(plan.optimizerGroup)
        replicas = make(plan.replicas)
        update = make(plan.updateGroup)
        parameter = make(plan.parameterGroup)
        self.plan = plan
        rank = communicator.rank
    }

    /// Of a whole unit, among `gradient`.
    func gradientPartition(_ unit: ShardPlan.Unit) -> Partition {
        partition((0..<plan.counts.gradients).map { unit.share($0, of: plan.counts.gradients) })
    }

    /// Of a gradient share, among `optimizer`.
    func optimizerPartition(_ unit: ShardPlan.Unit) -> Partition {
        partition(optimizer.ranks.map { unit.share(plan.optimizerShare(of: $0), of: plan.counts.optimizer) })
    }

    /// Of a parameter share, among `update`.
    func updatePartition(_ unit: ShardPlan.Unit) -> Partition {
        partition(update.ranks.map { unit.share(plan.optimizerShare(of: $0), of: plan.counts.optimizer) })
    }

    /// Of a whole unit, among `parameter`.
    func parameterPartition(_ unit: ShardPlan.Unit) -> Partition {
        partition((0..<plan.counts.parameters).map { unit.share($0, of: plan.counts.parameters) })
    }

    private func partition(_ shares: [Range<Int>]) -> Partition {
        Partition(bounds: [0] + shares.map { $0.upperBound - shares[0].lowerBound })
    }
}
