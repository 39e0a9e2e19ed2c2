import Base
import Planner
import Recipe
import Telemetry
import Tensor
import Trainer

/// What `bench cost` does.
public struct CostBenchSetting: Sendable {
    /// Tasks of each degree and mode that the model is held against, and how often each is timed.
    public var tasks = 24
    public var repeats = 3
    /// Steps in each part of the trial with a slow rank; 0: no trial.
    public var adaptSteps = 0

    public init() {}
}

/// How well a cost model that is fitted to start-up measurements foretells what other tasks take, and with
/// `adaptSteps`, what following the ranks' speeds is worth once one of them computes at half its speed. All ranks call
/// it; only rank 0's lines are worth printing.
public func benchCost(_ resolved: ResolvedRecipe, _ setting: CostBenchSetting, ranks: RankSetting,
                      report: (BenchLine) -> Void) throws {
    let recipe = resolved.recipe
    guard recipe.plansSequences, ranks.worldSize > 1 else {
        throw BadInput("nothing is planned; give --ranks 2 or more, and --parallelism.context_parallel_degree auto")
    }
    try resolved.requireRows(worldSize: ranks.worldSize)
    try PlannedMemory(recipe, ranks: ranks.worldSize, localRanks: ranks.localWorldSize).requireRoom()
    let cores = max(1, Machine.cores() / ranks.localWorldSize)
    let threads = recipe.training.threads == 0 ? cores : recipe.training.threads
    let pool = Pool(threads: threads, spin: threads <= cores)
    defer { pool.close() }
    let corpus = try openCorpus(recipe, threads: threads)
    let world = try World(joining: ranks, recipe: recipe, dataFingerprint: String(corpus.fingerprint, radix: 16),
                          threads: threads)
    let runner = try StepRunner(recipe: recipe, corpus: corpus, pool: pool, world: world)
    try runner.state.initialize(seed: recipe.debug.seed)
    let bench = CostBench(runner: runner, threads: threads, cap: recipe.plannedCap)
    let calibration = try runner.calibrate()
    runner.planner?.cost = calibration.cost
    var line = bench.line("calibration", seconds: calibration.seconds)
    line.add("measured", calibration.rounds)
    line.add("pieces", calibration.cost.model.compute.pieces.count)
    line.add("task_s", calibration.cost.model.taskSeconds)
    line.add("speeds", calibration.cost.rates.speeds.map { Units.fixed($0, 3) }.joined(separator: " "))
    line.add("links", calibration.cost.rates.links.map { Units.fixed($0, 3) }.joined(separator: " "))
    report(line)
    if setting.tasks > 0 { for line in try bench.heldOut(calibration.cost, setting) { report(line) } }
    if setting.adaptSteps > 0 { for line in try bench.slowed(setting.adaptSteps) { report(line) } }
    try world.leave()
}

private struct CostBench {
    let runner: StepRunner
    let threads: Int
    let cap: Int

    private var ranks: Int { runner.world.size }

    func line(_ part: String, seconds: Double) -> BenchLine {
        var line = BenchLine(bench: "cost", threads: threads, ranks: ranks, seconds: seconds)
        line.add("part", part)
        return line
    }

    // MARK: Held-out tasks

    /// Tasks of sequences of any length, as many as fill a part of what the group holds. Mean absolute errors, for each
    /// degree and mode and for all; `seconds` is what such a task took in the mean. `repeat_error`: how far the same
    /// tasks were from themselves, measured again.
    func heldOut(_ cost: FrozenCost, _ setting: CostBenchSetting) throws -> [BenchLine] {
        let experiment = runner.experiment(isDense: true)
        let kinds = [(1, TaskMode.local)] + experiment.degrees.flatMap { degree in
            [TaskMode.ulysses, .ring].filter { experiment.permits($0, degree) }.map { (degree, $0) }
        }
        var lines: [BenchLine] = [], all: [Double] = [], repeated: [Double] = []
        for (number, (degree, mode)) in kinds.enumerated() {
            let rounds = (0..<setting.tasks).map { task in
                experiment.grouped(lengths(degree, seed: number * 1_000 + task), degree, mode)
            }
            // Twice, since no model foretells a time better than the same task does.
            let times = try runner.medians(rounds, repeats: setting.repeats)
            let again = try runner.medians(rounds, repeats: setting.repeats)
            var errors: [Double] = [], sum = 0.0, count = 0.0
            for (place, round) in rounds.enumerated() {
                for task in round where task.mode == mode {
                    let took = task.ranks.map { times[place][$0] }.max() ?? 0
                    repeated.append(abs((task.ranks.map { again[place][$0] }.max() ?? 0) / took - 1))
                    errors.append(try predicted(task, cost) / took - 1)
                    (sum, count) = (sum + took, count + 1)
                }
            }
            all += errors
            var line = line("held-out tasks", seconds: sum / max(count, 1))
            line.add("degree", degree)
            line.add("mode", mode.rawValue)
            add(errors, to: &line)
            lines.append(line)
        }
        var line = line("held-out tasks", seconds: 0)
        line.add("mode", "all")
        add(all, to: &line)
        line.add("repeat_error", repeated.reduce(0, +) / Double(max(repeated.count, 1)))
        return lines + [line]
    }

    private func add(_ errors: [Double], to line: inout BenchLine) {
        line.add("tasks", errors.count)
        line.add("mean_error", errors.reduce(0) { $0 + abs($1) } / Double(max(errors.count, 1)))
        line.add("bias", errors.reduce(0, +) / Double(max(errors.count, 1)))
        line.add("largest_error", errors.map { abs($0) }.max() ?? 0)
    }

    private func predicted(_ task: CostExperiment.Task, _ cost: FrozenCost) throws -> Double {
        let problem = try PlanProblem(lengths: task.lengths, rates: cost.rates, tokenCap: cap, cost: cost.model)
        return problem.seconds(of: PlannerTask(sequences: Array(task.lengths.indices), ranks: task.ranks,
                                               mode: task.mode))
    }

    /// Log-uniform lengths that fill a log-uniform part of what the group holds, from a sixteenth up.
    private func lengths(_ degree: Int, seed: Int) -> [Int] {
        let random = CounterRNG(seed: 5, stream: UInt64(seed))
        let longest = runner.recipe.training.sequenceLength
        let target = max(degree, Int(Double(degree * cap) * pow(1.0 / 16, random.uniform(at: 0))))
        var lengths: [Int] = [], left = target, place: UInt64 = 1
        while left > 0 {
            let drawn = Int(8 * pow(Double(longest) / 8, random.uniform(at: place)))
            lengths.append(max(1, min(left, drawn)))
            left -= lengths[lengths.count - 1]
            place += 1
        }
        return lengths
    }

    // MARK: A slow rank

    /// Steps with equal ranks; with the last one at half its speed and the plans of equal ranks; and with plans that
    /// follow. `of_ideal` compares the rate with that of all ranks' speeds together, from equal ranks' steps.
    func slowed(_ steps: Int) throws -> [BenchLine] {
        var slow = [Double](repeating: 1, count: ranks)
        slow[ranks - 1] = 2
        let ideal = (Double(ranks) - 0.5) / Double(ranks)
        let equal = try rate(0..<steps, adapts: false)
        runner.slowRanks = slow
        let fixed = try rate(steps..<2 * steps, adapts: false)
        let following = try rate(2 * steps..<3 * steps, adapts: true)
        let late = max(1, steps / 2)
        let tokens = following.steps.suffix(late).reduce(0) { $0 + $1.tokens }
        let settled = Double(tokens) / following.steps.suffix(late).reduce(0) { $0 + $1.seconds }
        let parts = [("equal ranks", equal, equal.tokensPerSecond, 1.0),
                     ("one at half speed, plans of equal ranks", fixed, fixed.tokensPerSecond, ideal),
                     ("one at half speed, plans that follow: last half", following, settled, ideal)]
        return parts.map { name, part, tokensPerSecond, ideal in
            var line = line(name, seconds: part.seconds / Double(steps))
            line.add("steps", steps)
            line.add("tokens_per_s", tokensPerSecond)
            line.add("of_ideal", tokensPerSecond / (ideal * equal.tokensPerSecond))
            line.add("slow_share", part.steps[steps - 1].share)
            line.add("shares", part.steps.map { Units.fixed($0.share, 2) }.joined(separator: " "))
            return line
        }
    }

    private struct Part {
        /// Of each step: seconds, tokens, and the slow rank's share of the computation that was planned.
        var steps: [(seconds: Double, tokens: Int, share: Double)] = []
        var seconds: Double { steps.reduce(0) { $0 + $1.seconds } }
        var tokensPerSecond: Double { Double(steps.reduce(0) { $0 + $1.tokens }) / seconds }
    }

    private func rate(_ steps: Range<Int>, adapts: Bool) throws -> Part {
        var part = Part()
        runner.follows(adapts)
        for step in steps {
            let begin = MonotonicClock.seconds()
            let tokens = try runner.run(step: step).tokens
            let work = runner.plan?.computeSeconds ?? []
            part.steps.append((MonotonicClock.seconds() - begin, tokens,
                               (work.last ?? 0) / max(1e-12, work.reduce(0, +))))
        }
        return part
    }
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
