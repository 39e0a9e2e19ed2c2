import Base
import Parallel
import Planner
import Recipe

/// Says for every step which ranks share which documents: a function of their lengths, of the recipe, and of what ranks
/// take (`cost`), so that every rank comes to the same tasks without a word.
///
/// A task's way of sharing is the quicker one by that cost.
package struct StepPlanner {
    /// What plans reckon with. Declared rates make one; without them a run measures it at its start.
    package var cost: FrozenCost
    private let cap: Int
    private let planner: Planner

    package init(_ recipe: Recipe, _ table: ParameterTable, ranks: Int) {
        let declared = recipe.planner
        let model = CostModel(
            table, recomputation: recipe.activationCheckpoint.mode,
            gflops: declared.gflops > 0 ? declared.gflops : Recipe.Planning.usualGflops,
            linkGbit: declared.linkGbit > 0 ? declared.linkGbit : Recipe.Planning.usualLinkGbit)
        cost = FrozenCost(model: model, rates: RankRates(equal: ranks))
        cap = recipe.plannedCap
        var options = Planner.Options()
        options.solver = recipe.planner.solver == .exact ? .exact : .fast
        options.usesLinearProgram = recipe.planner.linearProgram
        planner = Planner(options)
    }

    /// The plan for documents that begin at `starts`, the last of which is their end.
    package func plan(starts: ArraySlice<Int32>) throws(BadInput) -> PlannedStep {
        let documents = Self.documents(starts), problem = try problem(documents), begin = MonotonicClock.seconds()
        let result = planner.plan(problem)
        let record = PlanRecord(result.plan, documents: documents, seconds: result.times.makespan, bound: result.bound)
        return PlannedStep(record, documents: documents, computeSeconds: problem.computeSeconds(result.plan),
                           planningSeconds: MonotonicClock.seconds() - begin)
    }

    /// A plan that another run made for the same documents. `place` names where it is from.
    package func step(_ record: PlanRecord, starts: ArraySlice<Int32>, place: String) throws(BadInput) -> PlannedStep {
        let documents = Self.documents(starts), problem = try problem(documents)
        guard record.documents == documents.count, record.check == PlanRecord.check(documents) else {
            throw BadInput("\(place) is of other documents; give the same data, seed, batch and training.seq_len as "
                + "the run that made it")
        }
        let plan = StepPlan(rankCount: cost.rates.count, tasks: record.tasks)
        if let flaw = plan.flaw(problem) {
            throw BadInput("\(place) is no plan for this run: \(flaw); give the same ranks, model and "
                + "training.max_tokens_per_task as the run that made it")
        }
        return PlannedStep(record, documents: documents, computeSeconds: problem.computeSeconds(plan))
    }

    private static func documents(_ starts: ArraySlice<Int32>) -> [Range<Int>] {
        zip(starts, starts.dropFirst()).map { Int($0)..<Int($1) }
    }

    private func problem(_ documents: [Range<Int>]) throws(BadInput) -> PlanProblem {
        try PlanProblem(lengths: documents.map(\.count), rates: cost.rates, tokenCap: cap, cost: cost.model)
    }
}

/// What all ranks do in a step, in the one order in which they take it.
package struct PlannedStep: Sendable {
    package let record: PlanRecord
    package let tasks: [SequenceTask]
    /// Of each rank, without exchanges, were all of speed 1.
    package let computeSeconds: [Double]
    /// Nil where the plan was given.
    package let planningSeconds: Double?
    /// What it should take, at the rates that the plan reckons with.
    package var seconds: Double { record.seconds }
    /// The micro-batch of each task, where ranks meet between micro-batches; empty: they meet in tasks alone.
    package let microBatches: [Int]

    /// A plan that somebody else made, for benches of other layouts.
    package init(_ plan: StepPlan, documents: [Range<Int>], seconds: Double, microBatches: [Int] = []) {
        self.init(PlanRecord(plan, documents: documents, seconds: seconds, bound: 0), documents: documents,
                  computeSeconds: [], microBatches: microBatches)
    }

    init(_ record: PlanRecord, documents: [Range<Int>], computeSeconds: [Double], planningSeconds: Double? = nil,
         microBatches: [Int] = []) {
        (self.record, self.computeSeconds, self.planningSeconds) = (record, computeSeconds, planningSeconds)
        self.microBatches = microBatches
        tasks = record.tasks.map { task in
            // In the rows' order, so that a task has the same documents in the same places however it was found.
            let own = task.sequences.sorted().map { documents[$0] }
            let isTiny = own.reduce(0) { $0 + $1.count } < task.degree
            // Every rank has a token at least.
            return SequenceTask(documents: own, ranks: isTiny ? [task.ranks[0]] : task.ranks,
                                method: task.mode == .ulysses && !isTiny ? .ulysses : .ring)
        }
    }

    /// Ranks that share a token's document, in the mean.
    package var degree: Double {
        let tokens = tasks.map { task in Double(task.documents.reduce(0) { $0 + $1.count }) }
        return zip(tasks, tokens).reduce(0) { $0 + Double($1.0.ranks.count) * $1.1 } / max(1, tokens.reduce(0, +))
    }

    /// Bytes that a rank sends for shared sequences, in the mean of `ranks`.
    func sequenceBytes(_ recipe: Recipe, ranks: Int) -> Int {
        tasks.filter { $0.ranks.count > 1 }.reduce(0) { sum, task in
            let tokens = task.documents.reduce(0) { $0 + $1.count }, degree = task.ranks.count
            return sum + degree * recipe.sequenceBytes(tokens: tokens, task.method, degree: degree)
        } / ranks
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
