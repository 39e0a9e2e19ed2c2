import Base
import Parallel
import Planner
import Recipe

/// Says for every step which ranks share which documents: a function of their lengths and of the recipe, so that every
/// rank comes to the same tasks without a word.
///
/// Ranks count as equal, with the rates that the recipe declares; a task's way of sharing is the quicker one at these.
package struct StepPlanner {
    private let cost: CostModel
    private let cap: Int
    private let ranks: Int
    private let planner: Planner

    package init(_ recipe: Recipe, _ table: ParameterTable, ranks: Int) {
        cost = CostModel(table, recomputation: recipe.activationCheckpoint.mode, gflops: recipe.planner.gflops,
                         linkGbit: recipe.planner.linkGbit)
        cap = recipe.plannedCap
        self.ranks = ranks
        var options = Planner.Options()
        options.solver = recipe.planner.solver == .exact ? .exact : .fast
        options.usesLinearProgram = recipe.planner.linearProgram
        planner = Planner(options)
    }

    /// The plan for documents that begin at `starts`, the last of which is their end.
    package func plan(starts: ArraySlice<Int32>) throws(BadInput) -> PlannedStep {
        let documents = zip(starts, starts.dropFirst()).map { Int($0)..<Int($1) }
        let problem = try PlanProblem(lengths: documents.map(\.count), rates: RankRates(equal: ranks), tokenCap: cap,
                                      cost: cost)
        let result = planner.plan(problem)
        return PlannedStep(result.plan, documents: documents, seconds: result.times.makespan)
    }
}

/// What all ranks do in a step, in the one order in which they take it.
package struct PlannedStep: Sendable {
    package let tasks: [SequenceTask]
    /// What it should take, at the rates that the plan reckons with.
    package let seconds: Double
    /// The micro-batch of each task, where ranks meet between micro-batches; empty: they meet in tasks alone.
    package let microBatches: [Int]

    package init(_ plan: StepPlan, documents: [Range<Int>], seconds: Double, microBatches: [Int] = []) {
        tasks = plan.tasks.map { task in
            // In the rows' order, so that a task has the same documents in the same places however it was found.
            let own = task.sequences.sorted().map { documents[$0] }
            let isTiny = own.reduce(0) { $0 + $1.count } < task.degree
            // Every rank has a token at least.
            return SequenceTask(documents: own, ranks: isTiny ? [task.ranks[0]] : task.ranks,
                                method: task.mode == .ulysses && !isTiny ? .ulysses : .ring)
        }
        (self.seconds, self.microBatches) = (seconds, microBatches)
    }

    /// Ranks that share a token's document, in the mean.
    package var degree: Double {
        let tokens = tasks.map { task in Double(task.documents.reduce(0) { $0 + $1.count }) }
        return zip(tasks, tokens).reduce(0) { $0 + Double($1.0.ranks.count) * $1.1 } / max(1, tokens.reduce(0, +))
    }

    /// Two plans have one fingerprint only if they are the same, but for one chance in four thousand millions.
    package var fingerprint: UInt64 {
        var writer = ByteWriter()
        for task in tasks {
            writer.append(UInt8(task.method == .ulysses ? 1 : 0))
            for numbers in [task.ranks, task.documents.map(\.lowerBound)] {
                writer.append(UInt32(numbers.count))
                for number in numbers { writer.append(UInt32(number)) }
            }
        }
        return UInt64(CRC32C.checksum(writer.bytes))
    }
}
