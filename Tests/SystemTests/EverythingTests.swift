import Foundation
import Testing

/// All parts in one job of rank processes: FP8 with Smooth-SwiGLU, moments in FP8, ZeRO stage 2, planned sequence
/// parallelism, decomposition with a curriculum, and length warm-up.
@Suite(.serialized) struct EverythingTests {
    fileprivate static let recipe = """
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

    private func place() throws -> Workplace { try everything() }

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

    private static let places = ["plan", "all-to-all", "reduce-scatter", "update", "save"]

    /// A rank is stopped in each phase of a step: the others name it, and what was saved before is whole.
    @Test func stoppedInEachPhase() throws {
        let place = try place()
        for (number, phase) in Self.places.enumerated() {
            let victim = number % 4
            let ranks = try Ranks(4, in: place.path, [
                "train", "all.toml", "--job.name", phase, "--comm.transport", number % 2 == 0 ? "tcp" : "shm",
                "--comm.heartbeat_seconds", "2", "--debug.fault", "stop \(victim) \(phase) 10"])
            for rank in 0..<4 where rank != victim {
                let ended = ranks.end(rank, within: 60)
                #expect(ended?.code == 1, "\(phase), rank \(rank): \(ended?.text.suffix(300) ?? "still running")")
                let last = ended?.text.split(separator: "\n").last.map(String.init) ?? ""
                #expect(last.contains("rank \(victim) ") && last.contains("operation"),
                        "\(phase), rank \(rank): \(last)")
            }
            #expect(ranks.text(victim).contains("stops itself in \(phase)"), "\(phase): \(ranks.text(victim))")
            kill(ranks.processes[victim].processIdentifier, SIGKILL)
            let verified = try place.run("inspect", "outputs/\(phase)", "--verify")
            #expect(verified.code == 0 && verified.out.contains("step-8"), "\(phase): \(verified.out)\(verified.error)")
        }
    }

    /// A rank is killed in each phase: the launcher names it and starts all again, which ends with the weights of a job
    /// that nobody disturbed.
    @Test func killedInEachPhase() throws {
        let place = try place()
        _ = try train(4, place, "calm", [])
        let wanted = try weights(place, "calm", 24)
        for (number, phase) in Self.places.enumerated() {
            let victim = 3 - number % 4
            let run = try place.run("launch", "-n", "4", "all.toml", "--job.name", phase, "--launch.max_restarts", "1",
                                    "--debug.fault", "kill \(victim) \(phase) 10")
            #expect(run.code == 0, "\(phase): \(run.error)")
            let said = run.out + run.error
            #expect(said.contains("rank \(victim) kills itself in \(phase)"), "\(said)")
            #expect(said.contains("(1 of 1)"), "\(phase): \(said)")
            #expect(try weights(place, phase, 24) == wanted, "\(phase) changes bits")
        }
    }

    /// `skein plan` and the run's own summary: memory is what was planned or less, and what a rank sends is planned
    /// within a tenth, though gradients travel once a turn and turns are known when documents are.
    @Test func isPlanned() throws {
        let place = try place()
        let planned = try place.run("plan", "all.toml", "--ranks", "4", "--link-gbit", "1", "--json")
        try #require(planned.code == 0, "\(planned.error)")
        let text = try train(4, place, "run", ["--comm.transport", "tcp", "--training.length_warmup", "none"])
        /// The numbers of KiB or MiB in a line of the summary.
        func numbers(_ name: String) throws -> [Double] {
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix(name) }, "\(text)")
            return zip(line.split(separator: " "), line.split(separator: " ").dropFirst()).compactMap { number, unit in
                unit.hasPrefix("KiB") ? Double(number) : unit.hasPrefix("MiB") ? Double(number).map { $0 * 1_024 } : nil
            }
        }
        let memory = try numbers("memory "), sent = try numbers("network ")
        #expect(memory[0] <= memory[1] * 1.02, "\(memory) KiB")
        #expect(abs(sent[1] / sent[0] - 1) < 0.1, "\(sent) KiB")
        // The plan's own numbers know nothing of the documents, so not of what shared sequences move.
        let fields = try JSONSerialization.jsonObject(with: Data(planned.out.split(separator: "\n")[0].utf8))
        let plan = try #require(fields as? [String: Any])
        let (wire, peak) = (plan["wire_bytes"] as? Double ?? 0, plan["peak_bytes"] as? Double ?? 0)
        #expect(abs(wire / 1_024 / sent[0] - 1) < 0.15 && memory[0] * 1_024 <= peak * 1.02, "\(wire), \(peak)")
    }

    @Test func faultsThatCannotBe() throws {
        let place = try place()
        for (flags, words) in [(["--debug.fault", "kill 1 update"], "not four words"),
                               (["--debug.fault", "kill 1 lunch 4"], "plan, all-to-all, reduce-scatter, update, save"),
                               (["--debug.fault", "kill 4 save 4"], "names rank 4, and ranks are 0 to 3"),
                               (["--debug.fault", "stop 1 plan 4", "--parallelism.context_parallel_degree", "1",
                                 "--training.max_tokens_per_task", "128"], "waits for ranks that share sequences"),
                               (["--debug.fault", "stop 1 save 4", "--profiling.trace", "true"], "profiling.trace")] {
            let refused = try Program.run(["launch", "-n", "4", "all.toml"] + flags, in: place.path)
            #expect(refused.code == 2 && refused.error.contains(words), "\(refused.error)")
        }
    }
}

/// A place with `all.toml`, which takes all parts, and its texts.
func everything() throws -> Workplace {
    let place = try Workplace()
    try place.write("all.toml", EverythingTests.recipe)
    let word = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    for document in 0..<40 {
        let words = (0..<(8 + document * 7)).map { word[($0 * ($0 + document) + document) % word.count] }
        try place.write("texts/\(document).txt", words.joined(separator: " "))
    }
    return place
}
