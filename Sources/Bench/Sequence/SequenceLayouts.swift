import Planner
import Trainer

/// The ways to lay a step out that `bench sequence` runs, by the runtime that training has.
enum SequenceLayout: String, CaseIterable {
    case ours
    case alone = "one rank alone"
    case bestFit = "static best-fit"
    case balanced = "static balanced"
    case homogeneous = "homogeneous per batch"
    case flexSP = "flexsp"

    /// The step for documents of a batch; nil where there is none. `degree`: the static one.
    func step(_ problem: PlanProblem, documents: [Range<Int>], degree: Int) -> PlannedStep? {
        let baselines = PlanBaselines(problem: problem)
        let plan: StepPlan?
        switch self {
        case .ours: plan = Planner().plan(problem).plan
        case .alone: plan = baselines.alone()
        case .bestFit: plan = baselines.staticBestFit(degree: degree)
        case .balanced: plan = baselines.balanced(degree: degree)
        case .homogeneous: plan = baselines.homogeneous()
        case .flexSP:
            return FlexSP(problem).step().map { step in
                PlannedStep(StepPlan(rankCount: problem.rates.count, tasks: step.tasks), documents: documents,
                            seconds: step.seconds, microBatches: step.microBatches)
            }
        }
        return plan.map { PlannedStep($0, documents: documents, seconds: $0.times(problem).makespan) }
    }
}
