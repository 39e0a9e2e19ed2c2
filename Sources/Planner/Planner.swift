/// Makes plans: measurements in, a step's tasks out. A pure function of the problem and the options, so that rank 0 may
/// plan for all, or any rank again.
package struct Planner {
    package enum Solver: String, Sendable, CaseIterable {
        /// Families, greedy starts, local search.
        case fast
        /// The same, then branch-and-cut over the family that it found.
        case exact
    }

    package struct Options: Sendable {
        package var solver = Solver.fast
        /// Whether a linear program bounds and guides each plan; otherwise counting does.
        package var usesLinearProgram = true
        /// Nodes of branch-and-cut. A limit of time would make plans differ from run to run.
        package var nodeLimit = 2_000

        package init() {}
    }

    package struct Result: Sendable {
        package var plan: StepPlan
        package var times: PlanTimes
        /// Seconds that no plan ends before; which of the two bounds is the higher one is `boundName`.
        package var bound: Double
        /// By counting, and of the linear program (nil: it was not asked, or could not be solved).
        package var countingBound: Double
        package var linearBound: Double?
        /// What branch-and-cut had to say; nil: it was not asked.
        package var exact: ExactOutcome?

        package var gap: Double { bound > 0 ? times.makespan / bound - 1 : 0 }
        package var boundName: String { (linearBound ?? 0) > countingBound ? "linear program" : "counting" }
    }

    package var options: Options

    package init(_ options: Options = Options()) { self.options = options }

    package func plan(_ problem: PlanProblem) -> Result {
        guard !problem.lengths.isEmpty else {
            let empty = StepPlan(rankCount: problem.rates.count, tasks: [])
            return Result(plan: empty, times: empty.times(problem), bound: 0, countingBound: 0)
        }
        let counting = CombinatorialBound(problem).seconds
        var search = FastSearch(problem)
        search.start(bound: counting)
        let guide = options.usesLinearProgram
            ? FractionalPlan(problem, floor: counting, ceiling: search.makespan) : nil
        if let guide { search.start(guide: guide) }
        let bound = max(counting, guide?.bound ?? 0)
        let found = search.best(bound: bound)
        let plan = found.plan(problem)
        var result = Result(plan: plan, times: plan.times(problem), bound: bound, countingBound: counting,
                            linearBound: guide?.bound)
        if options.solver == .exact {
            let (outcome, better) = ExactProgram(problem, found, floor: bound).solve(nodes: options.nodeLimit)
            result.exact = outcome
            if let better, case let plan = better.plan(problem), case let times = plan.times(problem),
               times.makespan < result.times.makespan {
                (result.plan, result.times) = (plan, times)
            }
        }
        return result
    }
}
