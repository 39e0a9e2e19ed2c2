import Foundation
import Testing

/// All parts in one job of rank processes: FP8 with Smooth-SwiGLU, moments in FP8, ZeRO stage 2, planned sequence
/// parallelism, decomposition with a curriculum, and length warm-up.
@Suite(.serialized) struct EverythingTests {
    private static let recipe = """
        [job]
        name = "tiny"
        [model]
        dim = 32
        n_layers = 2
        n_heads = 4
        n_kv_heads = 2
        [data]
        paths = ["texts"]
        layout = "decompose"
        decomposition = "quota"
        curriculum = "grow_p2"
        min_length = 16
        [training]
        steps = 24
        seq_len = 128
        local_batch_size = 1
        global_batch_size = 4
        max_tokens_per_task = 32
        length_warmup = "window"
        length_warmup_start = 8
        length_warmup_steps = 6
        threads = 1
        [optimizer]
        lr = 3e-3
        moments = "fp8"
        [precision]
        recipe = "fp8-paper"
        [parallelism]
        zero = 2
        context_parallel_degree = "auto"
        [planner]
        gflops = 1.0
        link_gbit = 1.0
        [checkpoint]
        interval = 8
        keep_latest_k = 9

        """

    private func place() throws -> Workplace {
        let place = try Workplace()
        try place.write("all.toml", Self.recipe)
        let word = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
        for document in 0..<40 {
            let words = (0..<(8 + document * 7)).map { word[($0 * ($0 + document) + document) % word.count] }
            try place.write("texts/\(document).txt", words.joined(separator: " "))
        }
        return place
    }

    private func train(_ count: Int, _ place: borrowing Workplace, _ name: String, _ flags: [String]) throws -> String {
        let ranks = try Ranks(count, in: place.path, ["train", "all.toml", "--job.name", name] + flags)
        for (rank, ended) in ranks.ends().enumerated() {
            #expect(ended?.code == 0, "\(name), rank \(rank) of \(count): \(ended?.text ?? "still running")")
        }
        return ranks.text(0)
    }

    private func weights(_ place: borrowing Workplace, _ name: String, _ step: Int) throws -> String {
        let shown = try place.run("inspect", "outputs/\(name)/checkpoint/step-\(step)", "--tensors", "*", "--json")
        #expect(shown.code == 0, "\(shown.error)")
        return shown.out
    }

    private func values(_ place: borrowing Workplace, _ name: String, _ tag: String) throws -> [Double] {
        let text = try String(contentsOfFile: "\(place.path)/outputs/\(name)/metrics.jsonl", encoding: .utf8)
        return text.split(separator: "\n").compactMap { line in
            let fields = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            return fields?[tag] as? Double
        }
    }

    /// Twice the same run has the same weights, over TCP and in shared memory; one that was stopped ends with those of
    /// the uninterrupted one; sequences are shared by one, two and four ranks.
    @Test func theSameBits() throws {
        let place = try place()
        _ = try train(4, place, "once", ["--comm.transport", "tcp"])
        let wanted = try weights(place, "once", 24)
        _ = try train(4, place, "again", ["--comm.transport", "shm"])
        #expect(try weights(place, "again", 24) == wanted, "shared memory changes bits")
        _ = try train(4, place, "resumed", ["--comm.transport", "tcp", "--checkpoint.load",
                                            "outputs/once/checkpoint/step-8"])
        #expect(try weights(place, "resumed", 24) == wanted, "resuming changes bits")
        let degrees = try values(place, "once", "parallel/cp_degree").map { Int($0.rounded()) }
        #expect(degrees.count == 24)
        for degree in [1, 2, 4] {
            let share = Double(degrees.count { $0 == degree }) / 24
            #expect(share >= 0.08, "degree \(degree) in \(share) of the steps: \(degrees)")
        }
        let losses = try values(place, "once", "loss_metrics/global_avg_loss")
        #expect(losses.allSatisfy(\.isFinite) && losses.suffix(4).reduce(0, +) < losses.prefix(4).reduce(0, +))
    }

    /// Four ranks save, two go on, then one; and what came out learns as well as the plain trainer on one rank.
    @Test func goesOnWithFewerRanks() throws {
        let place = try place()
        _ = try train(4, place, "run", ["--training.steps", "24", "--comm.transport", "tcp"])
        let stopped = try values(place, "run", "loss_metrics/global_avg_loss")
        _ = try train(2, place, "two", ["--training.steps", "16", "--checkpoint.load",
                                        "outputs/run/checkpoint/step-8", "--training.max_tokens_per_task", "64"])
        _ = try train(1, place, "one", ["--checkpoint.load", "outputs/two/checkpoint/step-16",
                                        "--parallelism.context_parallel_degree", "1", "--parallelism.zero", "0",
                                        "--training.max_tokens_per_task", "128"])
        let went = try values(place, "two", "loss_metrics/global_avg_loss")
            + values(place, "one", "loss_metrics/global_avg_loss")
        #expect(went.count == 16)
        for (own, other) in zip(went, stopped.dropFirst(8)) {
            #expect(abs(own - other) < 0.1, "\(went) and \(stopped.dropFirst(8))")
        }
        let verified = try place.run("inspect", "outputs/one/checkpoint/step-24", "--verify")
        #expect(verified.code == 0, "\(verified.error)")
    }
}
