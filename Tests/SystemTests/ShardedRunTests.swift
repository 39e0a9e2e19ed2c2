import Foundation
import Testing

/// Runs whose state is shared out, saved in the background, or begun from another run's weights.
@Suite(.serialized) struct ShardedRunTests {
    private func train(_ count: Int, _ place: borrowing Workplace, _ flags: [String]) throws -> String {
        let ranks = try Ranks(count, in: place.path, ["train", "run.toml", "--training.threads", "1"] + flags)
        for (rank, ended) in ranks.ends().enumerated() {
            #expect(ended?.code == 0, "rank \(rank) of \(count): \(ended?.text ?? "still running")")
        }
        return ranks.text(0)
    }

    /// What can be said of each tensor.
    private func statistics(_ place: borrowing Workplace, _ checkpoint: String) throws -> String {
        let shown = try place.run("inspect", checkpoint, "--tensors", "*", "--json")
        #expect(shown.code == 0, "\(shown.error)")
        return shown.out
    }

    /// A save in the background is the same save, byte for byte of every tensor, and a run goes on from it.
    @Test(arguments: [1, 3], ["none", "zstd"]) func savesInTheBackground(count: Int, compression: String) throws {
        let place = try Workplace()
        let flags = ["--training.steps", "20", "--checkpoint.interval", "6", "--checkpoint.keep_latest_k", "9",
                     "--training.global_batch_size", "6", "--checkpoint.compression", compression]
        _ = try train(count, place, flags + ["--job.name", "plain"])
        let text = try train(count, place, flags + ["--job.name", "async", "--checkpoint.async", "true"])
        for step in [6, 12, 18, 20] {
            let plain = "outputs/plain/checkpoint/step-\(step)", async = "outputs/async/checkpoint/step-\(step)"
            #expect(text.contains("step-\(step)"))
            let verified = try place.run("inspect", async, "--verify")
            #expect(verified.code == 0, "\(verified.error)")
            let difference = try place.run("inspect", plain, "--diff", async, "--json")
            #expect(difference.code == 0, "\(difference.error)")
            #expect(try statistics(place, plain) == statistics(place, async))
        }
        _ = try train(count, place, flags + ["--job.name", "again", "--checkpoint.load",
                                             "outputs/async/checkpoint/step-12"])
        #expect(try statistics(place, "outputs/again/checkpoint/step-20")
            == statistics(place, "outputs/plain/checkpoint/step-20"))
    }

    /// A run begins at step 0 with another's weights, and with nothing else of it.
    @Test(arguments: [1, 2]) func beginsWithWeights(count: Int) throws {
        let place = try Workplace()
        let batch = ["--training.global_batch_size", "4"]
        _ = try train(1, place, batch + ["--job.name", "first", "--training.steps", "12"])
        let weights = ["--checkpoint.load_weights", "outputs/first/checkpoint/step-12"]
        // Without a rate nothing changes but the moments.
        let text = try train(count, place, batch + weights + [
            "--job.name", "second", "--training.steps", "2", "--optimizer.lr", "0", "--parallelism.zero", "3",
            "--training.seq_len", "24", "--model.rope_theta", "50000"])
        #expect(text.contains("1/2"))
        let difference = try place.run("inspect", "outputs/first/checkpoint/step-12", "--diff",
                                       "outputs/second/checkpoint/step-2")
        #expect(difference.code == 0 && difference.out.contains("24 tensors differ, 12 are equal"))
        let other = difference.out.split(separator: "\n").filter { $0.hasPrefix("  model.l") || $0.hasPrefix("  lm_") }
        #expect(other.isEmpty, "\(other)")
        for (flags, words) in [(["--model.dim", "48"], ["model.dim", "step-12"]),
                               (["--model.n_layers", "2"], ["model.n_layers"]),
                               (["--checkpoint.load_weights", "outputs/none"], ["outputs/none"])] {
            let refused = try Program.run(["train", "run.toml", "--job.name", "third"] + weights + flags,
                                          in: place.path)
            #expect(refused.code == 2 && refused.errorLines.count == 1, "\(refused.error)")
            for word in words { #expect(refused.error.contains(word), "\(refused.error)") }
        }
    }

    /// What does not fit the ranks is refused before any of them waits.
    @Test func whatDoesNotFitTheRanks() throws {
        let place = try Workplace()
        for (flags, word) in [(["--parallelism.shard_optimizer", "3"], "parallelism.shard_optimizer"),
                              (["--training.reproducible", "true", "--training.global_batch_size", "5",
                                "--training.local_batch_size", "1"], "training.reproducible"),
                              (["--training.reproducible", "true", "--training.matmul", "openblas"],
                               "training.matmul")] {
            let refused = try Program.run(["launch", "-n", "2", "run.toml"] + flags, in: place.path)
            #expect(refused.code == 2 && refused.error.contains(word), "\(refused.error)")
        }
    }
}
