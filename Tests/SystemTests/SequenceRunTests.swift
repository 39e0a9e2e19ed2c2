import Foundation
import Testing

/// Runs whose ranks share sequences, as processes over sockets.
@Suite(.serialized) struct SequenceRunTests {
    private static let batch = ["--training.global_batch_size", "6", "--training.local_batch_size", "2",
                                "--model.n_heads", "4", "--model.n_kv_heads", "2", "--training.threads", "1"]

    private func train(_ count: Int, _ place: borrowing Workplace, _ flags: [String]) throws -> String {
        let ranks = try Ranks(count, in: place.path, ["train", "run.toml"] + Self.batch + flags)
        for (rank, ended) in ranks.ends().enumerated() {
            #expect(ended?.code == 0, "rank \(rank) of \(count): \(ended?.text ?? "still running")")
        }
        return ranks.text(0)
    }

    private func losses(_ place: borrowing Workplace, _ name: String) throws -> [Double] {
        let text = try String(contentsOfFile: "\(place.path)/outputs/\(name)/metrics.jsonl", encoding: .utf8)
        return text.split(separator: "\n").compactMap { line in
            let fields = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            return fields?["loss_metrics/global_avg_loss"] as? Double
        }
    }

    /// The losses are one rank's, whatever the method, the degree and the stage of ZeRO; the run says who shares what.
    @Test func lossesAreThoseOfOneRank() throws {
        let place = try Workplace()
        _ = try train(1, place, ["--job.name", "alone", "--training.steps", "8"])
        let alone = try losses(place, "alone")
        #expect(alone.count == 8)
        for (ranks, degree, method, stage) in [(2, 2, "ulysses", 1), (4, 2, "ring", 3), (3, 3, "auto", 2)] {
            let name = "shared-\(ranks)"
            let text = try train(ranks, place, [
                "--job.name", name, "--training.steps", "8", "--parallelism.context_parallel_degree", "\(degree)",
                "--parallelism.context_parallel_method", method, "--parallelism.zero", "\(stage)",
            ])
            #expect(text.contains("each shared by \(degree) ranks (\(method == "auto" ? "ring" : method))"), "\(text)")
            let shared = try losses(place, name)
            #expect(shared.count == 8)
            for (own, one) in zip(shared, alone) { #expect(abs(own - one) < 1e-5, "\(name)") }
        }
    }

    /// Planned steps in processes over sockets: the losses are one rank's, and the log has what was planned.
    @Test func plannedSteps() throws {
        let place = try Workplace()
        _ = try train(1, place, ["--job.name", "alone", "--training.steps", "6"])
        let text = try train(3, place, ["--job.name", "planned", "--training.steps", "6",
                                        "--parallelism.context_parallel_degree", "auto", "--planner.gflops", "0.2",
                                        "--training.max_tokens_per_task", "20"])
        #expect(text.contains("shared as each step is planned"), "\(text)")
        _ = try train(3, place, ["--job.name", "rounds", "--training.steps", "6", "--parallelism.zero", "3",
                                 "--parallelism.context_parallel_degree", "auto", "--planner.gflops", "0.2",
                                 "--training.max_tokens_per_task", "20"])
        let alone = try losses(place, "alone")
        for name in ["planned", "rounds"] {
            let planned = try losses(place, name)
            #expect(planned.count == 6)
            for (own, one) in zip(planned, alone) { #expect(abs(own - one) < 1e-5, "\(name)") }
        }
        let log = try String(contentsOfFile: "\(place.path)/outputs/planned/metrics.jsonl", encoding: .utf8)
        #expect(log.contains("\"parallel/cp_degree\":") && log.contains("\"planner/planned(s)\":"))
        #expect(log.contains("\"parallel/cp_bytes\":") && log.contains("\"parallel/cp_hidden(%)\":"))
    }

    /// A run goes on with another degree, and a run with the same one has the same bits as if it had not been stopped.
    @Test func resumes() throws {
        let place = try Workplace()
        let shared = ["--parallelism.context_parallel_degree", "2", "--training.steps", "10"]
        _ = try train(2, place, shared + ["--job.name", "whole", "--checkpoint.interval", "5"])
        let half = ["--checkpoint.load", "outputs/whole/checkpoint/step-5"]
        _ = try train(2, place, shared + half + ["--job.name", "again"])
        let difference = try place.run("inspect", "outputs/whole/checkpoint/step-10", "--diff",
                                       "outputs/again/checkpoint/step-10", "--json")
        #expect(difference.code == 0, "\(difference.error)")
        #expect(try losses(place, "again") == Array(losses(place, "whole").dropFirst(5)))
        _ = try train(1, place, half + ["--training.steps", "10", "--job.name", "other"])
        for (own, one) in zip(try losses(place, "other"), try losses(place, "whole").dropFirst(5)) {
            #expect(abs(own - one) < 1e-5)
        }
    }

    /// `skein plan` says the degree, the method, what a rank holds and what it sends.
    @Test func planSaysWhatIsShared() throws {
        let place = try Workplace()
        let plan = try Program.run(["plan", "run.toml", "--ranks", "4", "--link-gbit", "1", "--flops", "100",
                                    "--parallelism.context_parallel_degree", "4",
                                    "--parallelism.context_parallel_method", "ring"], in: place.path)
        #expect(plan.code == 0, "\(plan.error)")
        for words in ["4 ranks by ring", "sequence exchange", "on the wire for them"] {
            #expect(plan.out.contains(words), "\(plan.out)")
        }
        let alone = try Program.run(["plan", "run.toml", "--flops", "100"], in: place.path)
        #expect(alone.code == 0 && !alone.out.contains("sequence exchange"), "\(alone.error)")
    }

    /// What cannot go together is refused before any rank waits, with the keys' names.
    @Test func whatIsRefused() throws {
        let place = try Workplace()
        for (ranks, flags, word) in [
            (3, ["--parallelism.context_parallel_degree", "2"], "does not divide the number of ranks = 3"),
            (1, ["--parallelism.context_parallel_degree", "2"], "does not divide the number of ranks = 1"),
            (2, ["--parallelism.context_parallel_degree", "2", "--training.reproducible", "true"],
             "training.reproducible"),
            (4, ["--parallelism.context_parallel_degree", "4", "--parallelism.context_parallel_method", "ulysses",
                 "--model.n_heads", "2"], "model.n_heads = 2"),
            (4, ["--parallelism.context_parallel_degree", "4", "--training.length_warmup", "truncate",
                 "--training.length_warmup_start", "2", "--training.length_warmup_multiple", "2",
                 "--parallelism.context_parallel_method", "ring"], "a row of 2"),
            (2, ["--parallelism.context_parallel_degree", "2", "--training.max_tokens_per_task", "15"],
             "make it at least 16"),
            (2, ["--parallelism.context_parallel_degree", "auto", "--training.reproducible", "true"],
             "training.reproducible"),
            (2, ["--parallelism.context_parallel_degree", "auto", "--training.max_tokens_per_task", "15"],
             "hold 30 tokens together"),
            (2, ["--parallelism.context_parallel_degree", "some"], "an integer or \"auto\""),
        ] {
            let refused = try Program.run(["launch", "-n", "\(ranks)", "run.toml"] + flags, in: place.path)
            #expect(refused.code == 2 && refused.error.contains(word), "\(refused.error)")
            #expect(refused.errorLines.count == 1)
        }
    }
}
