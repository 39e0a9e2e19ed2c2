import Collectives
import Recipe

/// A rank's groups for a `ShardPlan`, and how each unit is cut among their members. Groups of one move nothing.
struct ShardGroups {
    let gradient: Group
    let optimizer: Group
    let replicas: Group
    let update: Group
    let parameter: Group
    /// Of each unit: the whole among `gradient`, a gradient share among `optimizer`, a parameter share among `update`,
    /// the whole among `parameter`.
    let gradientPartitions: [Partition]
    let optimizerPartitions: [Partition]
    let updatePartitions: [Partition]
    let parameterPartitions: [Partition]

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
        let counts = plan.counts
        func cut(_ shares: [Int], of count: Int) -> [Partition] {
            plan.units.map { unit in
                let ranges = shares.map { unit.share($0, of: count) }
                return Partition(bounds: [0] + ranges.map { $0.upperBound - ranges[0].lowerBound })
            }
        }
        gradientPartitions = cut(Array(0..<counts.gradients), of: counts.gradients)
        optimizerPartitions = cut(optimizer.ranks.map(plan.optimizerShare), of: counts.optimizer)
        updatePartitions = cut(update.ranks.map(plan.optimizerShare), of: counts.optimizer)
        parameterPartitions = cut(Array(0..<counts.parameters), of: counts.parameters)
    }
}
