import Base
import Planner
import Testing

/// The measurements that a run begins with, of simulated ranks: what a truth says, with noise.
@Suite struct CostExperimentTests {
    private static let shape = CostShape(heads: 8, keyHeads: 4, ulyssesBytesPerToken: 98_304,
                                         ringBytesPerToken: 73_728)

    /// A task's own cost, one of each sequence, and attention that gets dearer beyond 1,024 tokens.
    private static var truth: CostModel {
        func exchange(_ bytes: Double) -> CostModel.Exchange {
            CostModel.Exchange(bytesPerToken: bytes, table: ExchangeTable(rows: [
                .init(degree: 2, curve: ExchangeCurve(latency: 0.002, secondsPerByte: 1e-9)),
                .init(degree: 4, curve: ExchangeCurve(latency: 0.004, secondsPerByte: 1.2e-9)),
            ]))
        }
        return CostModel(compute: PiecewiseQuadratic(pieces: [
            .init(from: 0, square: 4e-9, linear: 5e-5, constant: 2e-4),
            .init(from: 1_024, square: 8e-9, linear: 4.6e-5, constant: 1e-4),
        ]), taskSeconds: 0.004, ulysses: exchange(shape.ulyssesBytesPerToken), ring: exchange(shape.ringBytesPerToken),
                         heads: 8, keyHeads: 4)
    }

    private static func seconds(_ task: CostExperiment.Task, _ cost: CostModel, _ rates: RankRates) throws -> Double {
        let problem = try PlanProblem(lengths: task.lengths, rates: rates, tokenCap: 1 << 20, cost: cost)
        return problem.seconds(of: PlannerTask(sequences: Array(task.lengths.indices), ranks: task.ranks,
                                               mode: task.mode))
    }

    /// Four ranks, one at half speed and one with a third of the link; 2 % of noise. Mixed tasks that were not measured
    /// are foretold within 5 % in the mean.
    @Test(arguments: [true, false]) func heldOutTasksAreForetold(isDense: Bool) throws {
        let experiment = CostExperiment(ranks: 4, cap: 4_096, longest: 4_096, shape: Self.shape, isDense: isDense)
        let rates = RankRates(speeds: [1, 1, 0.5, 1], links: [1, 1, 1, 1.0 / 3])
        var draws = Draws(3)
        let times = try experiment.rounds.map { round in
            var times = [Double](repeating: 0, count: 4)
            for task in round {
                let took = try Self.seconds(task, Self.truth, rates) * (1 + 0.02 * draws.normal())
                for rank in task.ranks { times[rank] = took }
            }
            return times
        }
        let fit = try experiment.fitted(times, links: rates.links)
        for (found, right) in zip(fit.rates.speeds, rates.speeds) { #expect(abs(found / right - 1) < 0.05) }
        #expect(abs(fit.model.taskSeconds / Self.truth.taskSeconds - 1) < 0.25)
        var sum = 0.0
        for _ in 0..<300 {
            let ranks = draws.pick([[0], [1], [2], [0, 1], [2, 3], [0, 1, 2, 3]])
            let task = CostExperiment.Task(
                lengths: draws.lengths(draws.integer(1...12), median: 300, longest: 4_096), ranks: ranks,
                mode: ranks.count == 1 ? .local : draws.pick([.ulysses, .ring]))
            sum += abs(try Self.seconds(task, fit.model, fit.rates) / Self.seconds(task, Self.truth, rates) - 1)
        }
        print("tasks foretold from \(experiment.rounds.count) simulated rounds: mean absolute error "
            + percent(sum / 300))
        #expect(sum / 300 <= 0.05)
        // What a checkpoint keeps has every bit.
        #expect(try FrozenCost(decoding: fit.encoded, place: "manifest") == fit)
        #expect(throws: BadInput.self) { try FrozenCost(decoding: fit.encoded + "x", place: "manifest") }
    }

    /// Each rank is in one task of a round, and no task has more tokens than its ranks hold, or a sequence that is too
    /// long; also for odd numbers of ranks, and caps below and above a sequence.
    @Test func roundsAreTasksForAll() {
        for ranks in [1, 2, 3, 4, 6, 7] {
            for (cap, longest) in [(4_096, 1_024), (512, 2_048), (16, 120), (1, 64)] {
                let experiment = CostExperiment(ranks: ranks, cap: cap, longest: longest, shape: Self.shape)
                for round in experiment.rounds + [experiment.largest] {
                    #expect(round.flatMap(\.ranks).sorted() == Array(0..<ranks))
                    for task in round {
                        #expect(task.lengths.allSatisfy { (1...longest).contains($0) } && !task.lengths.isEmpty)
                        #expect(task.lengths.reduce(0, +) <= cap * task.ranks.count)
                        #expect(task.lengths.reduce(0, +) >= task.ranks.count)
                    }
                }
            }
        }
    }
}
