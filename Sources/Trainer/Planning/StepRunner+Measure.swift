import Base
import Corpus
import Model
import Parallel
import Planner
import Recipe
import Tensor

extension StepRunner {
    /// What was measured, and how long that took.
    package struct Calibration {
        package var cost: FrozenCost
        package var rounds: Int
        package var seconds: Double
    }

    /// Whether plans wait for somebody to measure what tasks take.
    package var needsCost: Bool { planner != nil && !recipe.planner.isDeclared }

    /// Measures what tasks take these ranks, by running some: about `budget` seconds, or as long as some forty tasks
    /// of all tokens that a rank holds, if that is more; twelve, where one takes longer than a second. Shorter ones are
    /// timed three times at least: one disturbance would otherwise be in every plan of the run. All ranks call it,
    /// with weights in place; these do not change.
    package func calibrate(budget: Double = 1.5) throws -> Calibration {
        let begin = MonotonicClock.seconds()
        let rates = try world.linkRates(), fastest = rates.max() ?? 1
        let links = RankRates.levelled(rates.map { $0 / fastest }, tolerance: 0.25)
        var experiment = self.experiment(isDense: true)
        let first = try measure([experiment.largest, experiment.largest])
        let largest = first[1].max() ?? 0
        if largest * experiment.extent > budget { experiment = self.experiment(isDense: false) }
        let most = Self.mostRepeats
        let repeats = max(3, min(most, Int(budget / max(1e-9, largest * experiment.extent))))
        let rounds = experiment.rounds
        // What is short costs little and wavers most; what takes seconds is a mean by itself.
        let counts = rounds.map { round in
            let taken = largest * experiment.extent(round)
            return taken > 1 ? 1 : taken > 0.1 ? repeats : most
        }
        let seconds = try medians(rounds, repeats: counts)
        // The arithmetic of a fit takes the C library's logarithm: rank 0's holds for all.
        let own = try experiment.fitted(seconds, links: links)
        let text = try world.gather(world.rank == 0 ? Array(own.encoded.utf8) : [])[0]
        let cost = try FrozenCost(decoding: String(decoding: text, as: UTF8.self), place: "what rank 0 measured")
        return Calibration(cost: cost, rounds: counts.reduce(0, +),
                           seconds: MonotonicClock.seconds() - begin)
    }

    package func experiment(isDense: Bool) -> CostExperiment {
        CostExperiment(ranks: world.size, cap: recipe.plannedCap, longest: recipe.training.sequenceLength,
                       shape: CostShape(recipe.model, recipe.activationCheckpoint.mode), isDense: isDense)
    }

    private static let mostRepeats = 7

    /// Each round `repeats` times.
    package func medians(_ rounds: [[CostExperiment.Task]], repeats: Int) throws -> [[Double]] {
        try medians(rounds, repeats: Array(repeating: repeats, count: rounds.count))
    }

    /// Each round as often as `repeats` says of it, all rounds one after the other each time, so that what else a
    /// machine does meets them alike. Returns medians: [rounds][ranks] seconds.
    package func medians(_ rounds: [[CostExperiment.Task]], repeats: [Int]) throws -> [[Double]] {
        var times = rounds.map { _ in [[Double]]() }
        for pass in 0..<(repeats.max() ?? 0) {
            let places = rounds.indices.filter { repeats[$0] > pass }
            for (place, seconds) in zip(places, try measure(places.map { rounds[$0] })) { times[place].append(seconds) }
        }
        return times.map { own in
            (0..<world.size).map { rank in own.map { $0[rank] }.sorted()[own.count / 2] }
        }
    }

    /// Forward and backward of the tasks of each round, which give every rank one. Returns what they took each rank:
    /// [rounds][ranks] seconds, on every rank the same. The gradient is lost.
    package func measure(_ rounds: [[CostExperiment.Task]]) throws -> [[Double]] {
        guard let sequences else { preconditionFailure("nothing is shared") }
        let longest = rounds.flatMap { $0 }.map { $0.lengths.reduce(0, +) }.max() ?? 0
        // Words as they come: only times matter.
        let words = (0..<longest).map { Int32($0 &* 7_919 % state.table.vocabulary) }
        model.quantisation?.begin(step: 0)
        var own: [Double] = []
        for (index, round) in rounds.enumerated() {
            let tasks = round.map { task in
                var end = 0
                let documents = task.lengths.map { length in
                    defer { end += length }
                    return end..<end + length
                }
                return SequenceTask(documents: documents, ranks: task.ranks,
                                    method: task.mode == .ulysses ? .ulysses : .ring)
            }
            let parts = sequences.parts(of: tasks, inputs: words, targets: words,
                                        sequence: recipe.training.sequenceLength)
            precondition(parts.count == 1, "a rank has one task of a round")
            try world.barrier()
            own.append(computeSeconds { _ = gradient(index, of: rounds.count + 1, targets: 1, parts[0]) }.whole)
        }
        pass(rounds.count, of: rounds.count + 1)
        try sequences.attention.check()
        try sharded.finish()
        let all = try world.numbers(own)
        return rounds.indices.map { round in all.map { $0[round] } }
    }

    /// What `body` takes, and the part of it in which this rank did not wait for others. A rank that `debug.slow_ranks`
    /// makes slow rests behind it.
    func computeSeconds(_ body: () throws -> Void) rethrows -> (whole: Double, busy: Double) {
        let begin = MonotonicClock.seconds(), waited = world.statistics?.waitSeconds ?? 0
        try body()
        let busy = MonotonicClock.seconds() - begin - ((world.statistics?.waitSeconds ?? 0) - waited)
        if world.rank < slowRanks.count { rest((slowRanks[world.rank] - 1) * busy) }
        let whole = MonotonicClock.seconds() - begin
        return (whole, whole - ((world.statistics?.waitSeconds ?? 0) - waited))
    }
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

private func rest(_ seconds: Double) {
    guard seconds > 0 else { return }
    usleep(UInt32(min(seconds, 3_600) * 1e6))
}
