import Parallel

extension StepRunner {
    /// Waits for all ranks before each micro-batch of a plan that has some, up to that of this rank's task `part`; nil:
    /// up to the last.
    func meet(before part: Int?) throws {
        guard let plan, let last = plan.microBatches.last else { return }
        let own = zip(plan.tasks, plan.microBatches).filter { $0.0.ranks.contains(world.rank) }.map(\.1)
        let now = part.map { own[$0] } ?? last
        while meetings < now {
            try world.barrier()
            meetings += 1
        }
    }
}
