import Foundation
import Testing

/// Runs with planned steps, as processes over sockets: what their plans reckon with, and where these come from.
@Suite(.serialized) struct PlannedRunTests {
    private static let flags = ["--training.global_batch_size", "6", "--training.local_batch_size", "2",
                                "--model.n_heads", "4", "--model.n_kv_heads", "2", "--training.threads", "1",
                                "--parallelism.context_parallel_degree", "auto"]

    private func train(_ count: Int, _ place: borrowing Workplace, _ flags: [String], code: Int32 = 0) throws
        -> String {
        let ranks = try Ranks(count, in: place.path, ["train", "run.toml"] + Self.flags + flags)
        for (rank, ended) in ranks.ends().enumerated() where rank == 0 || code == 0 {
            #expect(ended?.code == code, "rank \(rank) of \(count): \(ended?.text ?? "still running")")
        }
        return ranks.text(0)
    }

    private func plans(_ place: borrowing Workplace, _ name: String) throws -> [[String: Any]] {
        let text = try String(contentsOfFile: "\(place.path)/outputs/\(name)/plans.jsonl", encoding: .utf8)
        return try text.split(separator: "\n").map { line in
            try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        }
    }

    private func expectEqual(_ place: borrowing Workplace, _ one: String, _ other: String) throws {
        let difference = try place.run("inspect", "outputs/\(one)", "--diff", "outputs/\(other)", "--json")
        #expect(difference.code == 0, "\(difference.out) \(difference.error)")
    }

    /// The cost is measured at the start and said; a run that goes on takes it from the checkpoint, makes the same
    /// plans, and ends with the same weights as if it had not been stopped. Its plans' file goes on, too.
    @Test func measuredCostComesBack() throws {
        let place = try Workplace()
        let whole = ["--training.steps", "10", "--job.name", "whole", "--checkpoint.interval", "5"]
        let text = try train(3, place, whole)
        #expect(text.contains("planner: measured"), "\(text)")
        let again = try train(3, place, ["--training.steps", "10", "--job.name", "again", "--checkpoint.load",
                                         "outputs/whole/checkpoint/step-5"])
        #expect(!again.contains("planner: measured"), "\(again)")
        try expectEqual(place, "whole/checkpoint/step-10", "again/checkpoint/step-10")
        let (first, second) = (try plans(place, "whole"), try plans(place, "again"))
        #expect(first.compactMap { $0["step"] as? Int } == Array(1...10))
        #expect(second.compactMap { $0["step"] as? Int } == Array(6...10))
        for (one, other) in zip(first.dropFirst(5), second) {
            #expect(NSDictionary(dictionary: one).isEqual(to: other))
        }
        // Back to step 5 in its own folder: the lines of later steps come again.
        _ = try FileManager.default.removeItem(atPath: "\(place.path)/outputs/whole/checkpoint/step-10")
        _ = try train(3, place, ["--training.steps", "7", "--job.name", "whole", "--checkpoint.load", "latest"])
        #expect(try plans(place, "whole").compactMap { $0["step"] as? Int } == Array(1...7))
    }

    /// A process of two that computes at half its speed: within 20 steps the plans give it less to do. The same plans
    /// give the same weights again, when nobody is slow.
    @Test func aSlowRankGetsLess() throws {
        let place = try Workplace()
        let common = ["--training.steps", "24", "--training.global_batch_size", "16",
                      "--training.local_batch_size", "8", "--planner.gflops", "1"]
        _ = try train(2, place, common + ["--job.name", "slow", "--planner.adapt", "true", "--debug.slow_ranks", "1,4"])
        func documents(_ plan: [String: Any]) -> [Int] {
            var counts = [0, 0]
            for task in plan["tasks"] as? [[String: Any]] ?? [] {
                let ranks = task["ranks"] as? [Int] ?? []
                guard ranks.count == 1 else { continue }
                counts[ranks[0]] += (task["sequences"] as? [Int])?.count ?? 0
            }
            return counts
        }
        let made = try plans(place, "slow")
        #expect(made.count == 24)
        let late = made.suffix(4).map(documents)
        #expect(late.allSatisfy { $0[1] < $0[0] }, "\(made.map(documents))")
        let file = "outputs/slow/plans.jsonl"
        _ = try train(2, place, common + ["--job.name", "replay", "--planner.replay", file])
        try expectEqual(place, "slow/checkpoint/step-24", "replay/checkpoint/step-24")
    }

    /// What plans cannot be made of, or are not made for, is refused with the keys' names.
    @Test func whatIsRefused() throws {
        let place = try Workplace()
        for (flags, word) in [
            (["--planner.adapt", "true", "--parallelism.context_parallel_degree", "1"], "planner.adapt is for planned"),
            (["--planner.adapt", "true", "--planner.replay", "x"], "take one of them"),
            (["--debug.slow_ranks", "1,2,3"], "3 numbers for 2 ranks"),
        ] {
            let refused = try Program.run(["launch", "-n", "2", "run.toml"] + Self.flags + flags, in: place.path)
            #expect(refused.code == 2 && refused.error.contains(word), "\(refused.error)")
            #expect(refused.errorLines.count == 1)
        }
        let missing = try train(2, place, ["--planner.replay", "missing.jsonl"], code: 2)
        #expect(missing.contains("missing.jsonl"), "\(missing)")
    }
}
