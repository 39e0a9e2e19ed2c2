import Base
import Planner
import Recipe

/// What `bench plan` measures: how long a plan takes, and how it does beside other layouts, on modelled machines.
public struct PlanBenchSetting: Sendable {
    public var ranks = [8, 16, 32, 64, 1_024]
    /// Sequences of a batch (four times as many for more than 64 ranks).
    public var sequences = 512
    public var batches = 8
    /// Lengths to draw from; none: long-tailed ones, half of them up to 347 tokens as Wikipedia's (FlexSP, figure 2).
    public var lengths: [Int] = []

    public init() {}
}

/// A network and a model on ranks of 100 GFLOP/s: what F/(hB) is made of.
private struct Regime {
    let name: String
    let dim: Int
    let gbit: Double
    static let gflops = 100.0
    static let all = [Regime(name: "throttled", dim: 512, gbit: 0.36), Regime(name: "fast", dim: 1_024, gbit: 8.8)]

    var cost: CostModel {
        var shape = Recipe().model
        (shape.dim, shape.layers, shape.heads) = (dim, 12, 16)
        return CostModel(ParameterTable(shape, vocabulary: 257), recomputation: .none, gflops: Self.gflops,
                         linkGbit: gbit)
    }

    /// Operations of a rank in the time in which a byte of each of the model's dimensions comes.
    var flopsPerDimByte: Double { Self.gflops * 1e9 / (Double(dim) * gbit * 1e9 / 8) }
}

private let tokenCap = 16_384
private let longest = 1 << 16

/// A line for each regime, number of ranks and layout. `seconds` is the median time of a plan over batches,
/// `cpu_seconds` that of the processor for it (the same on a machine without other work), and `step_seconds` the mean
/// modelled time of a step.
public func benchPlan(_ setting: PlanBenchSetting, report: (BenchLine) -> Void) throws {
    for regime in Regime.all {
        for ranks in setting.ranks {
            let problems = try (0..<setting.batches).map { batch in
                try PlanProblem(lengths: draw(setting, batch, count: setting.sequences * (ranks > 64 ? 4 : 1)),
                                rates: RankRates(equal: ranks), tokenCap: tokenCap, cost: regime.cost)
            }
            let ours = measured(problems, rounds: ranks > 64 ? 1 : 5) { Planner().plan($0).times.makespan }
            for (name, result) in rows(problems, ranks: ranks) + [("ours", ours)] {
                var line = BenchLine(bench: "plan", threads: 1, ranks: ranks, seconds: result.planning)
                line.add("regime", regime.name)
                line.add("flops_per_dim_byte", regime.flopsPerDimByte)
                line.add("layout", name)
                line.add("sequences", problems[0].lengths.count)
                line.add("step_seconds", result.step)
                line.add("of_ours", result.step / ours.step)
                if name == "ours" {
                    let gaps = problems.map { Planner().plan($0).gap }
                    line.add("mean_gap", gaps.reduce(0, +) / Double(gaps.count))
                    line.add("largest_gap", gaps.max() ?? 0)
                    line.add("cpu_seconds", result.processor)
                    line.add("longest_cpu_seconds", result.longest)
                }
                report(line)
            }
            if (2...64).contains(ranks) { report(try halfSpeed(setting, regime, ranks: ranks)) }
        }
    }
}

/// Every other rank at half speed, eight sequences a rank: what the linear program is worth, by its bound and by the
/// plans, over counting and plans without it.
private func halfSpeed(_ setting: PlanBenchSetting, _ regime: Regime, ranks: Int) throws -> BenchLine {
    let rates = RankRates(speeds: (0..<ranks).map { $0 % 2 == 0 ? 1 : 0.5 }, links: Array(repeating: 1, count: ranks))
    let problems = try (0..<setting.batches).map { batch in
        try PlanProblem(lengths: draw(setting, batch, count: 8 * ranks), rates: rates, tokenCap: tokenCap,
                        cost: regime.cost)
    }
    var options = Planner.Options()
    options.usesLinearProgram = false
    let with = measured(problems) { Planner().plan($0).times.makespan }
    let without = measured(problems) { Planner(options).plan($0).times.makespan }
    let results = problems.map { Planner().plan($0) }, count = Double(problems.count)
    var line = BenchLine(bench: "plan", threads: 1, ranks: ranks, seconds: with.planning)
    line.add("regime", regime.name)
    line.add("flops_per_dim_byte", regime.flopsPerDimByte)
    line.add("layout", "ours, half of the ranks at half speed")
    line.add("sequences", 8 * ranks)
    line.add("step_seconds", with.step)
    line.add("step_without_lp", without.step / with.step)
    line.add("bound_over_counting", results.reduce(0) { $0 + $1.bound / $1.countingBound } / count)
    line.add("mean_gap", results.reduce(0) { $0 + $1.gap } / count)
    line.add("cpu_seconds", with.processor)
    return line
}

/// Of a plan: the median time, the median of the processor's time, the longest of that; and the mean step.
private typealias Measured = (planning: Double, processor: Double, longest: Double, step: Double)

/// Baselines; none beyond 64 ranks, where layouts are too many to look at.
private func rows(_ problems: [PlanProblem], ranks: Int) -> [(String, Measured)] {
    guard ranks <= 64 else { return [] }
    let most = problems.flatMap(\.lengths).max() ?? 1
    // One degree for all batches: the least that the longest sequence fits on.
    let degree = (1...ranks).first { ranks % $0 == 0 && $0 * tokenCap >= most } ?? ranks
    func ended(_ plan: (PlanBaselines) -> StepPlan?) -> Measured {
        measured(problems) { plan(PlanBaselines(problem: $0))?.times($0).makespan ?? .infinity }
    }
    return [
        ("static best-fit", ended { $0.staticBestFit(degree: degree) }),
        ("static balanced", ended { $0.balanced(degree: degree) }),
        ("homogeneous per batch", ended { $0.homogeneous() }),
        ("flexsp", measured(problems) { FlexSP($0).seconds() ?? .infinity }),
    ]
}

/// A plan is timed `rounds` times and the shortest counts: the work is the same each time, and what else the machine
/// does only adds to it.
private func measured(_ problems: [PlanProblem], rounds: Int = 1, _ step: (PlanProblem) -> Double) -> Measured {
    var times: [Double] = [], processor: [Double] = [], sum = 0.0
    for problem in problems {
        var shortest = Double.infinity, least = Double.infinity, seconds = 0.0
        for _ in 0..<rounds {
            let start = MonotonicClock.seconds(), used = clock()
            seconds = step(problem)
            shortest = min(shortest, MonotonicClock.seconds() - start)
            least = min(least, Double(clock() - used) * 1e-6)
        }
        sum += seconds
        times.append(shortest)
        processor.append(least)
    }
    let middle = problems.count / 2
    return (times.sorted()[middle], processor.sorted()[middle], processor.max() ?? 0, sum / Double(problems.count))
}

private func draw(_ setting: PlanBenchSetting, _ batch: Int, count: Int) -> [Int] {
    let random = CounterRNG(seed: 1, stream: UInt64(batch))
    return (0..<UInt64(count)).map { place in
        guard !setting.lengths.isEmpty else {
            return max(1, min(longest, Int(347 * exp(1.4 * random.normalPair(at: place).0))))
        }
        return min(longest, setting.lengths[random.integer(below: setting.lengths.count, at: place)])
    }
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
