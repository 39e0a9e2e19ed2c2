import Base
import Collectives
import Model
import Planner
import Recipe
import Telemetry
import Tensor
import Trainer

/// Training steps between ranks, the same documents in several layouts: real messages, and real products or time that
/// passes in their place.
public struct SequenceBench {
    public var rounds: Int
    /// What a rank's products wait for in place of computing, GFLOP/s; 0: they are computed.
    public var gflops: Double
    /// Of a rank's link, for plans; 0: measured.
    public var linkGbit: Double

    public init(rounds: Int, gflops: Double = 0, linkGbit: Double = 0) {
        (self.rounds, self.gflops, self.linkGbit) = (rounds, gflops, linkGbit)
    }

    /// What one step of a layout came to.
    private struct Sample {
        var seconds = 0.0
        var planned = 0.0
        var sent = 0
        var exchanged = 0
        var hidden = 0.0
        var degree = 0.0
        /// Of the ranks: computing, and until their tasks were done; the busiest over the mean.
        var computeImbalance = 1.0
        var endImbalance = 1.0
    }

    /// A line for each layout, ours first; only rank 0's are worth printing. `resolved` has planned steps.
    public func run(_ resolved: ResolvedRecipe, _ setting: RankSetting, _ report: (BenchLine) -> Void) throws {
        let recipe = resolved.recipe
        try resolved.requireRows(worldSize: setting.worldSize)
        let threads = max(1, recipe.training.threads)
        let pool = gflops > 0 ? Pool(waitingAt: gflops) : Pool(threads: threads, spin: false)
        defer { pool.close() }
        let corpus = try openCorpus(recipe, threads: 1)
        let world = try World(joining: setting, recipe: recipe, dataFingerprint: String(corpus.fingerprint, radix: 16),
                              threads: threads)
        guard let communicator = world.communicator else { throw BadInput("bench sequence needs two ranks or more") }
        let runner = try StepRunner(recipe: recipe, corpus: corpus, pool: pool, world: world)
        try runner.state.initialize(seed: recipe.debug.seed)
        let link = try linkGbit > 0 ? linkGbit : measuredGbit(communicator)
        let rate = try gflops > 0 ? gflops : measuredGflops(communicator, recipe, pool)
        let cost = CostModel(runner.state.table, recomputation: recipe.activationCheckpoint.mode, gflops: rate,
                             linkGbit: link)
        // The least that the longest row fits on: what a trainer with one degree must take.
        let degree = (1...world.size).first {
            world.size % $0 == 0 && $0 * recipe.plannedCap >= recipe.training.sequenceLength
        } ?? world.size
        var samples: [String: [Sample]] = [:], order = SequenceLayout.allCases.map(\.rawValue), tokens = 0
        let gathered = gflops > 0 ? try GatheredStep(recipe, runner, communicator) : nil
        if gathered != nil { order.append(GatheredStep.name) }
        // In turn in each round, so that a machine that changes its speed changes all alike. Round 0 is not counted.
        for round in 0...rounds {
            for layout in SequenceLayout.allCases where round == 0 || samples[layout.rawValue] != nil {
                runner.layout = { starts in try self.step(layout, starts, recipe, cost, world.size, degree) }
                let sample: Sample
                do {
                    sample = try self.sample(runner, communicator) {
                        let step = try runner.run(step: round)
                        tokens = step.tokens
                        return step
                    }
                } catch is NoLayout { continue }
                if round == 0 { samples[layout.rawValue] = [] } else { samples[layout.rawValue]?.append(sample) }
            }
            guard let gathered else { continue }
            var sample = Sample()
            sample.degree = Double(world.size)
            let before = communicator.statistics, begin = MonotonicClock.seconds()
            try world.barrier()
            try gathered.run(runner.plannedLengths, cost, pool)
            try world.barrier()
            sample.seconds = MonotonicClock.seconds() - begin
            let traffic = communicator.statistics.since(before)
            (sample.sent, sample.exchanged) = (traffic.bytesSent, traffic.bytesReceived)
            sample.hidden = traffic.hiddenShare
            if round > 0 { samples[GatheredStep.name, default: []].append(sample) }
        }
        runner.layout = nil
        let regime = rate * 1e9 / (Double(recipe.model.dim) * link * 1e9 / 8)
        let ours = samples[SequenceLayout.ours.rawValue]?.map(\.seconds) ?? []
        for name in order {
            guard let own = samples[name], !own.isEmpty else { continue }
            let line = line(name, own, ours: ours, setting, tokens: tokens)
            report(with(line, rate: rate, link: link, regime: regime, recipe))
        }
        try world.leave()
    }

    private func step(_ layout: SequenceLayout, _ starts: ArraySlice<Int32>, _ recipe: Recipe, _ cost: CostModel,
                      _ ranks: Int, _ degree: Int) throws -> PlannedStep {
        let documents = zip(starts, starts.dropFirst()).map { Int($0)..<Int($1) }
        let problem = try PlanProblem(lengths: documents.map(\.count), rates: RankRates(equal: ranks),
                                      tokenCap: recipe.plannedCap, cost: cost)
        guard let step = layout.step(problem, documents: documents, degree: degree) else { throw NoLayout() }
        return step
    }

    private struct NoLayout: Error {}

    /// One step, from the moment at which all ranks are ready to that at which the last is done.
    private func sample(_ runner: StepRunner, _ communicator: Communicator, _ run: () throws -> StepResult) throws
        -> Sample {
        try communicator.barrier()
        let begin = MonotonicClock.seconds(), waited = runner.pool.waitedSeconds
        let result = try run()
        try communicator.barrier()
        var sample = Sample()
        sample.seconds = MonotonicClock.seconds() - begin
        let rows = try communicator.exchange([runner.pool.waitedSeconds - waited, runner.taskSeconds,
                                              Double(result.sequenceBytes), result.hiddenSequenceShare,
                                              Double(result.sentBytes)])
        func sum(_ column: Int) -> Double { rows.reduce(0) { $0 + $1[column] } }
        func imbalance(_ column: Int) -> Double {
            let mean = sum(column) / Double(rows.count)
            return mean > 0 ? (rows.map { $0[column] }.max() ?? 0) / mean : 1
        }
        (sample.computeImbalance, sample.endImbalance) = (imbalance(0), imbalance(1))
        (sample.exchanged, sample.sent) = (Int(sum(2)), Int(sum(4)))
        sample.hidden = sum(2) > 0 ? rows.reduce(0) { $0 + $1[2] * $1[3] } / sum(2) : 1
        (sample.planned, sample.degree) = (result.plannedSeconds ?? 0, result.contextDegree ?? 1)
        return sample
    }

    private func line(_ name: String, _ own: [Sample], ours: [Double], _ setting: RankSetting, tokens: Int)
        -> BenchLine {
        let seconds = median(own.map(\.seconds))
        var line = BenchLine(bench: "sequence", threads: 1, ranks: setting.worldSize, seconds: seconds)
        line.add("layout", name)
        line.add("of_ours", ours.count == own.count ? median(zip(own, ours).map { $0.0.seconds / $0.1 }) : .nan)
        line.add("tokens_per_s", Double(tokens) / seconds)
        line.add("planned_s", median(own.map(\.planned)))
        line.add("mean_degree", median(own.map(\.degree)))
        line.add("sequence_bytes", own[own.count / 2].exchanged)
        line.add("sequence_hidden", median(own.map(\.hidden)))
        line.add("sent_bytes", own[own.count / 2].sent)
        line.add("compute_max_over_mean", median(own.map(\.computeImbalance)))
        line.add("end_max_over_mean", median(own.map(\.endImbalance)))
        return line
    }

    private func with(_ line: BenchLine, rate: Double, link: Double, regime: Double, _ recipe: Recipe) -> BenchLine {
        var line = line
        line.add("compute", gflops > 0 ? "waited" : "real")
        line.add("gflops", rate)
        line.add("link_gbit", link)
        line.add("dim", recipe.model.dim)
        line.add("flops_per_dim_byte", regime)
        return line
    }

    /// Gbit/s that a rank sends while all send to the next one: what an exchange of shared sequences may count on.
    private func measuredGbit(_ communicator: Communicator) throws -> Double {
        let size = communicator.worldSize, rank = communicator.rank, count = 1 << 18
        let memory = try Arena(name: "link measurement", capacity: 2 * count)
        defer { withExtendedLifetime(memory) {} }
        let source = memory.take(count), target = memory.take(count)
        let to = Partition(bounds: (0...size).map { $0 <= (rank + 1) % size ? 0 : count })
        let from = Partition(bounds: (0...size).map { $0 <= (rank + size - 1) % size ? 0 : count })
        var rates: [Double] = []
        for _ in 0..<5 {
            try communicator.barrier()
            let begin = MonotonicClock.seconds()
            let ticket = unsafe communicator.allToAll(UnsafeBufferPointer(source.floats), to, into: target.floats, from)
            try ticket.wait()
            rates.append(32 * Double(count) / (MonotonicClock.seconds() - begin) / 1e9)
        }
        return try communicator.exchange([median(rates)]).map { $0[0] }.min() ?? 1
    }

    /// What training makes of the ranks' ceiling while all compute.
    private func measuredGflops(_ communicator: Communicator, _ recipe: Recipe, _ pool: Pool) throws -> Double {
        try communicator.barrier()
        let own = try Machine.gemmPeak(pool: pool, recipe: recipe, rounds: 10)
        let all = try communicator.exchange([own]).map { $0[0] }
        return 0.7 * all.reduce(0, +) / Double(all.count)
    }
}
