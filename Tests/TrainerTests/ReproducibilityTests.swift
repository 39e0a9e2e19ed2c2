import Base
import Checkpoint
import Corpus
import Foundation
import Recipe
import Tensor
import Testing
import Trainer

/// A folder of its own for a test, removed at the end, with a text in it that has something to learn.
struct Sandbox: ~Copyable {
    let path: String
    var text: String { path + "/text.txt" }
    /// A folder of documents of many lengths.
    var documents: String { path + "/documents" }

    init() throws {
        path = NSTemporaryDirectory() + "skein-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        let words = ["the", "wind", "moves", "over", "cold", "water", "and", "seven", "birds", "follow", "it"]
        let rng = CounterRNG(seed: 11, stream: 0)
        var line = ""
        for index in 0..<6_000 {
            line += words[rng.integer(below: words.count, at: UInt64(index))] + (index % 12 == 11 ? ".\n" : " ")
        }
        try line.write(toFile: path + "/text.txt", atomically: true, encoding: .utf8)
        try FileManager.default.createDirectory(atPath: path + "/documents", withIntermediateDirectories: true)
        var rest = line[...], index = 0
        while !rest.isEmpty {
            let part = rest.prefix(3 + rng.integer(below: 700, at: UInt64(10_000 + index)))
            try part.write(toFile: "\(path)/documents/\(index).txt", atomically: true, encoding: .utf8)
            rest = rest.dropFirst(part.count)
            index += 1
        }
    }

    /// Flags for each way to cut documents into rows and to warm lengths up; rows are of up to 64 tokens.
    func layout(_ name: String) -> [String] {
        let warmup = ["--training.length_warmup_steps", "25"]
        let own = switch name {
        case "grow_p2": ["--data.layout", "decompose", "--data.curriculum", "grow_p2", "--data.cycles", "2"]
        case "free": ["--data.layout", "decompose", "--data.curriculum", "free", "--data.odds", "0,3,1,0.5"]
        case "random", "quota": ["--data.layout", "decompose", "--data.decomposition", name]
        case "truncate", "reshape", "window": ["--training.length_warmup", name] + warmup
        case "decompose+window": ["--data.layout", "decompose", "--training.length_warmup", "window"] + warmup
        default: ["--data.layout", name]
        }
        return ["--data.paths", documents, "--training.seq_len", "64", "--data.min_length", "8"] + own
    }

    static let layouts = ["best_fit", "padded", "grow_p2", "free", "random", "quota", "truncate", "reshape", "window",
                          "decompose+window"]

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// A recipe small enough for hundreds of steps a second, with odd sizes: grouped heads, a task that is not
    /// a whole micro-batch, rows that are no multiple of a tile.
    func recipe(_ flags: [String] = []) throws -> ResolvedRecipe {
        try ResolvedRecipe.load(file: nil, flags: [
            "--job.dump_folder", path, "--data.paths", text, "--model.dim", "48", "--model.n_layers", "2",
            "--model.n_heads", "6", "--model.n_kv_heads", "2", "--model.ffn_dim", "80",
            "--training.seq_len", "70", "--training.local_batch_size", "9", "--training.global_batch_size", "20",
            "--training.steps", "60", "--training.threads", "1", "--lr_scheduler.warmup_steps", "10",
            "--optimizer.lr", "5e-3",
        ] + flags)
    }

    func corpus(_ resolved: ResolvedRecipe) throws -> Corpus { try openCorpus(resolved.recipe) }
}

@Suite struct ReproducibilityTests {
    /// The weights after some steps, as bits.
    private func weights(_ resolved: ResolvedRecipe, steps: Int) throws -> (bits: [UInt32], roots: [VarianceRoots?]) {
        let pool = Pool(threads: resolved.recipe.training.threads)
        defer { pool.close() }
        let runner = try StepRunner(recipe: resolved.recipe, corpus: openCorpus(resolved.recipe), pool: pool)
        runner.state.weights.initialize(seed: resolved.recipe.debug.seed)
        let roots = try (0..<steps).map { try runner.run(step: $0).varianceRoots }
        let norm = runner.state.variance.row.array.reduce(0) { $0 + Double($1.squareRoot()) }
        #expect(abs((roots.last??.sum ?? 0) / norm - 1) < 1e-12)
        #expect(roots.last??.max == runner.state.variance.row.array.max()?.squareRoot())
        return (runner.state.weights.flat.array.map(\.bitPattern), roots)
    }

    @Test func weightsAreBitwiseEqualForAnyNumberOfThreads() throws {
        let sandbox = try Sandbox()
        let one = try weights(sandbox.recipe(), steps: 12)
        for threads in ["1", "2", "3"] {
            let again = try weights(sandbox.recipe(["--training.threads", threads]), steps: 12)
            #expect(again.bits == one.bits && again.roots == one.roots, "\(threads) threads")
        }
        let other = try weights(sandbox.recipe(["--debug.seed", "1"]), steps: 12)
        #expect(other.bits != one.bits)
    }

    /// 30 steps, a checkpoint, and 30 more in a new process's memory: the same bits as 60 in one go. The stop is in
    /// the middle of an epoch, and after a length warm-up of 25 steps that the learning rate has to remember.
    @Test(arguments: ["concatenate"] + Sandbox.layouts)
    func resumedRunEqualsTheUninterruptedOne(layout: String) throws {
        let sandbox = try Sandbox()
        let flags = layout == "concatenate" ? [] : sandbox.layout(layout)
        let silence = unsafe open("/dev/null", O_WRONLY)
        defer { close(silence) }
        try TrainingRun(sandbox.recipe(flags + ["--job.name", "whole"]), output: silence).run()
        // The schedule belongs to 60 steps; the first half is a run that was told to stop at 30.
        try TrainingRun(sandbox.recipe(flags + ["--job.name", "halves"]), stopAfter: 30,
                        output: silence).run()
        try TrainingRun(sandbox.recipe(flags + ["--job.name", "halves", "--checkpoint.load", "latest",
                                                "--training.threads", "2"]), output: silence).run()
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let whole = try Data(contentsOf: URL(fileURLWithPath: "\(sandbox.path)/whole/checkpoint/step-60/\(file)"))
            let halves = try Data(contentsOf: URL(fileURLWithPath: "\(sandbox.path)/halves/checkpoint/step-60/\(file)"))
            #expect(whole == halves, "\(file)")
        }
        #expect(try stability(sandbox.path + "/whole") == stability(sandbox.path + "/halves"))
    }

    /// What each step logged of losses, lengths and the second moment: all that does not come from the clock.
    private func stability(_ folder: String) throws -> [[String]] {
        let names = ["loss_metrics/global_avg_loss", "loss_metrics/loss_ratio", "optim/variance_norm",
                     "optim/variance_max", "lr", "data/bucket_len", "data/length", "n_tokens_seen"]
        let lines = try String(contentsOfFile: folder + "/metrics.jsonl", encoding: .utf8).split(separator: "\n")
        let found = lines.map { line in
            line.split { $0 == "," || $0 == "}" }.filter { part in names.contains { part.contains("\"\($0)\":") } }
                .map(String.init)
        }
        #expect(found.count == 60)
        // The first step has no loss before it.
        for (step, values) in found.enumerated() { #expect(values.count == (step == 0 ? 7 : 8)) }
        return found
    }

    @Test func trainingLearns() throws {
        let sandbox = try Sandbox()
        let resolved = try sandbox.recipe(["--training.steps", "120"])
        let pool = Pool(threads: 1)
        let runner = try StepRunner(recipe: resolved.recipe, corpus: openCorpus(resolved.recipe), pool: pool)
        runner.state.weights.initialize(seed: 0)
        let first = try runner.run(step: 0)
        var last = first
        for step in 1..<120 { last = try runner.run(step: step) }
        // Uniform over 257 tokens is 5.55 nats; eleven words in random order can be guessed to about 0.5.
        #expect(abs(first.loss - 5.55) < 0.1)
        #expect(last.loss < 1.5)
    }

    /// The same global batch cut into other micro-batches gives the same gradient, to rounding: the loss is a
    /// sum over one global count, never a mean of means.
    @Test func microBatchesDoNotChangeTheGradient() throws {
        let sandbox = try Sandbox()
        func gradient(_ rows: String) throws -> [Float] {
            let resolved = try sandbox.recipe(["--training.local_batch_size", rows])
            let pool = Pool(threads: 1)
            let runner = try StepRunner(recipe: resolved.recipe, corpus: openCorpus(resolved.recipe), pool: pool)
            runner.state.weights.initialize(seed: 0)
            _ = try runner.run(step: 3)
            return runner.state.gradients.flat.array
        }
        let whole = try gradient("20")
        let norm = whole.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
        for rows in ["1", "7", "9"] {
            let parts = try gradient(rows)
            let difference = zip(whole, parts).reduce(0.0) { $0 + pow(Double($1.0) - Double($1.1), 2) }.squareRoot()
            #expect(difference / norm < 1e-6, "\(rows) rows: \(difference / norm)")
        }
    }
}
