import Base
import Corpus
import Foundation
import Recipe
import Tensor
import Testing
import Trainer

@Suite struct StepScheduleTests {
    /// What all ranks of a world learn in `steps` steps from `position` on, in the order of ranks and rows.
    private func targets(_ recipe: Recipe, _ corpus: Corpus, worldSize: Int, steps: Int,
                         from position: inout DataPosition) -> [Int32] {
        let schedule = StepSchedule(recipe, worldSize: worldSize)
        let batch = Batch(rows: recipe.rowsPerTask, sequence: recipe.training.sequenceLength)
        var all: [Int32] = []
        for _ in 0..<steps {
            let task = schedule.next(&position, of: corpus)
            #expect(task.rows.rows.count * task.rows.sequence == schedule.tokensPerStep)
            for rank in 0..<worldSize {
                let share = task.rows.rows.share(rank, of: worldSize), size = schedule.rowsPerTask(task)
                #expect(!share.isEmpty && size * task.shape.sequence <= schedule.tokensPerTask)
                for start in stride(from: share.lowerBound, to: share.upperBound, by: size) {
                    corpus.fill(batch, bucket: task.rows.bucket, rows: start..<min(start + size, share.upperBound),
                                limit: task.limit)
                    all += batch.targets[..<batch.tokenCount]
                }
            }
        }
        return all
    }

    /// The same targets in the same order for any number of ranks, and when the number changes in the middle.
    @Test(arguments: Sandbox.layouts) func ranksDoNotMatter(layout: String) throws {
        let sandbox = try Sandbox()
        let recipe = try sandbox.recipe(sandbox.layout(layout)).recipe
        let corpus = try openCorpus(recipe)
        var end = corpus.start
        let alone = targets(recipe, corpus, worldSize: 1, steps: 40, from: &end)
        let worlds = [1, 2, 3, 5, 8]
        for first in worlds {
            for second in worlds {
                var position = corpus.start
                let begin = targets(recipe, corpus, worldSize: first, steps: 23, from: &position)
                position = try DataPosition(bytes: position.bytes)
                try corpus.check(position)
                #expect(begin + targets(recipe, corpus, worldSize: second, steps: 17, from: &position) == alone,
                        "\(layout): \(first) ranks, then \(second)")
                #expect(position == end)
            }
        }
    }

    /// In an epoch every token is a target once; only a warm-up that truncates throws some away.
    @Test(arguments: Sandbox.layouts.filter { $0 != "truncate" }) func everyTokenOnce(layout: String) throws {
        let sandbox = try Sandbox()
        let recipe = try sandbox.recipe(sandbox.layout(layout)).recipe
        let corpus = try openCorpus(recipe), schedule = StepSchedule(recipe, worldSize: 1)
        let batch = Batch(rows: recipe.rowsPerStep(worldSize: 1), sequence: recipe.training.sequenceLength)
        var position = corpus.start, counts = [Int](repeating: 0, count: 257)
        var open = Set((0..<corpus.bucketCount).filter { corpus.rowsPerEpoch(inBucket: $0) > 0 })
        while !open.isEmpty {
            let task = schedule.next(&position, of: corpus)
            let bucket = task.rows.bucket, end = corpus.rowsPerEpoch(inBucket: bucket)
            let rows = min(task.rows.rows.lowerBound, end)..<min(task.rows.rows.upperBound, end)
            if task.rows.rows.upperBound >= end { open.remove(bucket) }
            corpus.fill(batch, bucket: bucket, rows: rows, limit: task.limit)
            for target in batch.targets[..<batch.tokenCount] where target >= 0 { counts[Int(target)] += 1 }
        }
        #expect(counts.reduce(0, +) == corpus.trainTokenCount)
        // Every document keeps its end.
        #expect(counts[256] == corpus.trainDocumentCount)
    }

    /// The tokens of a truncating warm-up by hand: lengths grow linearly, the rate's decay counts what was read.
    @Test func ratesWithTruncation() throws {
        let sandbox = try Sandbox()
        let recipe = try sandbox.recipe(sandbox.layout("truncate")).recipe
        let schedule = StepSchedule(recipe, worldSize: 1)
        func length(_ step: Int) -> Int { step >= 25 ? 64 : max(8, (8 + step * 56 / 25) / 8 * 8) }
        func tokens(_ steps: Int) -> Int { (0..<steps).reduce(0) { $0 + length($1) } }
        var fell = false
        for step in 10..<60 {
            let ratio = Double(tokens(step) - tokens(10)) / Double(tokens(59) - tokens(10))
            let rate = 5e-3 * (0.1 + 0.9 * 0.5 * (1 + cos(Double.pi * ratio)))
            #expect(abs(schedule.learningRate(at: step) - rate) < 1e-15, "step \(step)")
            fell = fell || schedule.learningRate(at: step) > recipe.learningRate(at: step)
        }
        #expect(fell)
        // Nothing else truncates, so nothing else bends the rate.
        for layout in Sandbox.layouts where layout != "truncate" {
            let other = try sandbox.recipe(sandbox.layout(layout)).recipe
            let rates = StepSchedule(other, worldSize: 1)
            for step in 0..<60 { #expect(rates.learningRate(at: step) == other.learningRate(at: step)) }
        }
    }

    /// Steps of all lengths train, and a step may be asked for out of order.
    @Test func everyBucketTrains() throws {
        let sandbox = try Sandbox()
        let recipe = try sandbox.recipe(sandbox.layout("random")).recipe
        let corpus = try openCorpus(recipe)
        let runner = try StepRunner(recipe: recipe, corpus: corpus, pool: Pool(threads: 1))
        runner.state.weights.initialize(seed: 0)
        var seen: Set<Int> = []
        for step in 0..<40 {
            let result = try runner.run(step: step)
            #expect(result.loss.isFinite && result.loss > 0 && result.gradientNorm.isFinite && result.updated)
            #expect(result.length == result.bucketLength)
            seen.insert(result.bucketLength)
        }
        #expect(seen == [8, 16, 32, 64])
        let position = runner.position
        _ = try runner.run(step: 3)
        _ = try runner.run(step: 39)
        #expect(runner.position == position)
    }

    /// The step just behind is as far away as any other.
    @Test func theStepJustBehind() throws {
        let sandbox = try Sandbox()
        let recipe = try sandbox.recipe(sandbox.layout("random")).recipe
        let runner = try StepRunner(recipe: recipe, corpus: openCorpus(recipe), pool: Pool(threads: 1))
        runner.state.weights.initialize(seed: 0)
        for step in 0..<6 { _ = try runner.run(step: step) }
        let position = runner.position
        _ = try runner.run(step: 5)
        #expect(runner.position == position)
    }

    @Test func theMostBuckets() {
        #expect(Recipe.mostBuckets == DataPosition.mostBuckets)
    }

    /// A checkpoint is refused in one line where the data is cut otherwise; curriculum and odds may change.
    @Test func whatAResumedRunMayChange() throws {
        let sandbox = try Sandbox()
        let silence = unsafe open("/dev/null", O_WRONLY)
        defer { close(silence) }
        let flags = sandbox.layout("quota") + ["--training.steps", "6", "--validation.rows", "1"]
        try TrainingRun(sandbox.recipe(flags), stopAfter: 3, output: silence).run()
        func line(_ more: [String]) throws -> String? {
            let resolved = try sandbox.recipe(flags + ["--checkpoint.load", "latest"] + more)
            do {
                try TrainingRun(resolved, output: silence).run()
                return nil
            } catch let fault as BadInput {
                return fault.description.contains("\n") ? nil : fault.description
            }
        }
        for more in [["--data.min_length", "16"], ["--data.decomposition", "greedy"], ["--data.mixture", "1,1,1,2"],
                     ["--training.seq_len", "32"], ["--data.layout", "best_fit"], ["--data.paths", sandbox.text]] {
            #expect(try line(more)?.contains("on data cut otherwise") == true, "\(more)")
        }
        #expect(try line(["--debug.seed", "1"])?.contains("debug.seed = 0") == true)
        #expect(try line(["--training.global_batch_size", "21"])?.contains("took 60 rows of 64 tokens in 3 steps; with "
            + "training.global_batch_size = 21 it would be 63") == true)
        #expect(try line(["--data.curriculum", "shrink_p100", "--data.cycles", "3"]) == nil)
    }
}
