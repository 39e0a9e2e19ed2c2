import Foundation
import Glibc
import Testing

/// Jobs of rank processes that go on after a rank has failed, and end with the bits of a job that nobody disturbed.
@Suite(.serialized) struct ElasticTests {
    private func weights(_ place: borrowing Workplace, _ name: String, _ step: Int) throws -> String {
        let shown = try place.run("inspect", "outputs/\(name)/checkpoint/step-\(step)", "--tensors", "*", "--json")
        #expect(shown.code == 0, "\(shown.error)")
        return shown.out
    }

    private func steps(_ place: borrowing Workplace, _ name: String) throws -> [Int] {
        let text = try String(contentsOfFile: "\(place.path)/outputs/\(name)/metrics.jsonl", encoding: .utf8)
        return text.split(separator: "\n").compactMap { line in
            Int(line.dropFirst("{\"step\":".count).prefix { $0.isNumber })
        }
    }

    private static let small = ["launch", "-n", "4", "run.toml", "--training.global_batch_size", "8",
                                "--training.local_batch_size", "1", "--training.steps", "24",
                                "--checkpoint.interval", "9", "--comm.heartbeat_seconds", "6"]

    private func launch(_ place: borrowing Workplace, _ name: String, _ flags: [String]) throws -> Program.Outcome {
        try Program.run(Self.small + ["--job.name", name] + flags, in: place.path)
    }

    private static let places = ["plan", "all-to-all", "reduce-scatter", "update", "save"]

    /// A rank is killed in each phase of a step with everything in it, rank 0 as well as others. Another process takes
    /// its place, and the weights are those of the calm job. That it was not a restart is seen by the epoch.
    @Test func replacedInEachPhase() throws {
        let place = try everything()
        let calm = try place.run("launch", "-n", "4", "all.toml", "--job.name", "calm")
        #expect(calm.code == 0, "\(calm.error)")
        let wanted = try weights(place, "calm", 24)
        for (number, phase) in Self.places.enumerated() {
            let victim = (4 - number) % 4
            let run = try place.run("launch", "-n", "4", "all.toml", "--job.name", phase, "--launch.elastic", "replace",
                                    "--debug.fault", "kill \(victim) \(phase) 10")
            let said = run.out + run.error
            #expect(run.code == 0, "\(phase): \(said)")
            #expect(said.contains("rank \(victim) kills itself in \(phase)"), "\(said)")
            #expect(said.contains("epoch 1 goes on after step") && said.contains("with 4 ranks"), "\(phase): \(said)")
            #expect(said.contains("no finished step is lost") || said.contains("1 finished step is taken again"),
                    "\(phase): \(said)")
            #expect(try weights(place, phase, 24) == wanted, "\(phase) changes bits")
        }
    }

    /// By stages of ZeRO, what a rank holds alone is another part of the state; a spare that waits takes its place.
    @Test(arguments: 0...3) func replacedAtEachStage(zero: Int) throws {
        let place = try Workplace()
        let flags = ["--parallelism.zero", "\(zero)"]
        #expect(try launch(place, "calm", flags).code == 0)
        let wanted = try weights(place, "calm", 24)
        for (number, phase) in ["update", "save", "reduce-scatter"].enumerated() {
            // Whole gradients are not scattered.
            if phase == "reduce-scatter", zero == 0 { continue }
            let victim = (number + zero) % 4
            let run = try launch(place, phase, flags + ["--launch.elastic", "replace", "--launch.spares", "1",
                                                        "--debug.fault", "kill \(victim) \(phase) 5"])
            let said = run.out + run.error
            #expect(run.code == 0 && said.contains("epoch 1 goes on after step"), "stage \(zero), \(phase): \(said)")
            #expect(try weights(place, phase, 24) == wanted, "stage \(zero), \(phase) changes bits")
            #expect(try steps(place, phase) == Array(1...24), "stage \(zero), \(phase)")
        }
    }

    /// A rank that stops is lost once nobody has heard of it for the heartbeat's deadline; what stands still is ended.
    @Test(arguments: [0, 2]) func aStoppedRankIsReplaced(victim: Int) throws {
        let place = try Workplace()
        #expect(try launch(place, "calm", []).code == 0)
        let run = try launch(place, "stopped", ["--launch.elastic", "replace", "--debug.fault",
                                                "stop \(victim) update 5"])
        let said = run.out + run.error
        #expect(run.code == 0 && said.contains("rank \(victim) stops itself in update"), "\(said)")
        #expect(said.contains("epoch 1 goes on after step"), "\(said)")
        #expect(try weights(place, "stopped", 24) == weights(place, "calm", 24), "\(said)")
    }

    /// Without copies a lost rank costs the steps since the latest checkpoint, or all where there is none; and it is
    /// said how many. The processes stay the same ones.
    @Test func withoutCopies() throws {
        let place = try Workplace()
        #expect(try launch(place, "calm", []).code == 0)
        for (step, lost) in [(14, 9), (5, 0)] {
            let run = try launch(place, "from-\(lost)", ["--launch.elastic", "replace", "--launch.redundancy", "0",
                                                         "--debug.fault", "kill 1 update \(step)"])
            let said = run.out + run.error
            #expect(run.code == 0 && said.contains("epoch 1 goes on after step \(lost) with 4 ranks"), "\(said)")
            #expect(said.contains("\(step - 1 - lost) finished steps are taken again"), "\(said)")
            #expect(try weights(place, "from-\(lost)", 24) == weights(place, "calm", 24), "\(said)")
        }
    }

    /// With reproducible sums fewer ranks end with the same bits: of three that are left two go on, as the tree wants.
    /// (A rehearsed fault names a rank that two ranks have as well.)
    @Test(arguments: [1, 2, 3], [0, 1]) func shrinks(zero: Int, victim: Int) throws {
        let place = try Workplace()
        let flags = ["--parallelism.zero", "\(zero)", "--training.reproducible", "true"]
        #expect(try launch(place, "calm", flags).code == 0)
        let run = try launch(place, "fewer", flags + ["--launch.elastic", "shrink", "--debug.fault",
                                                      "kill \(victim) update 5"])
        let said = run.out + run.error
        #expect(run.code == 0 && said.contains("goes on after step 4 with 2 ranks"), "\(said)")
        #expect(try steps(place, "fewer") == Array(1...24))
        #expect(said.contains("the recipe has a use for 2 of the 3 ranks that are left, and this one ends"), "\(said)")
        // Two ranks cut their files elsewhere, so tensors are compared.
        let compared = try place.run("inspect", "outputs/calm/checkpoint/step-24", "--diff",
                                     "outputs/fewer/checkpoint/step-24")
        #expect(compared.out.contains(": 0 tensors differ, 36 are equal"), "\(compared.out)\(compared.error)")
    }

    /// Other sums go on with all that are left, and with the same losses up to rounding.
    @Test func shrinksToThree() throws {
        let place = try Workplace()
        let run = try launch(place, "fewer", ["--launch.elastic", "shrink", "--debug.fault", "kill 1 update 5"])
        let said = run.out + run.error
        #expect(run.code == 0 && said.contains("goes on after step 4 with 3 ranks"), "\(said)")
        #expect(try steps(place, "fewer") == Array(1...24))
    }

    /// Half of the ranks are no majority: all that are left end, and say so.
    @Test func twoOfFourAreTooFew() throws {
        let place = try Workplace()
        let ranks = try Ranks(4, in: place.path, [
            "train", "run.toml", "--training.global_batch_size", "8", "--training.steps", "100000",
            "--metrics.log_freq", "1", "--launch.elastic", "shrink", "--comm.heartbeat_seconds", "6"])
        ranks.wait(for: " 5/100000")
        for rank in [0, 2] { kill(ranks.processes[rank].processIdentifier, SIGKILL) }
        for rank in [1, 3] {
            let ended = ranks.end(rank, within: 60)
            #expect(ended?.code == 1, "\(ended?.text ?? "still there")")
            #expect(ended?.text.contains("no majority, so it stops") == true, "\(ended?.text ?? "")")
        }
    }

    /// Processes that other means start wait by RANK=auto. One of another recipe, or without the secret, is told so,
    /// and the ranks that wait hear nothing of it.
    @Test func aWrongSpareIsRefused() throws {
        let place = try Workplace()
        #expect(try launch(place, "calm", []).code == 0)
        let words = ["train"] + Self.small.dropFirst(3) + ["--job.name", "tiny", "--launch.elastic", "replace",
                                                           "--debug.fault", "kill 1 update 5"]
        let ranks = try Ranks(4, in: place.path, words)
        ranks.wait(for: "go on, as ranks 0 to 2 of epoch 1, and wait for 1 more")
        try place.write("other", Data(String(repeating: "7", count: 64).utf8))
        unsafe #expect(chmod(place.path + "/other", 0o600) == 0)
        let folder = place.path
        func spare(_ flags: [String], secret: String = ".secret") throws -> Ranks {
            try Ranks(1, in: folder, words + flags, environment: { _, environment in
                environment["RANK"] = "auto"
                environment["WORLD_SIZE"] = "4"
                environment["SKEIN_SECRET_FILE"] = folder + "/" + secret
            })
        }
        let stranger = try spare([], secret: "other")
        stranger.wait(for: "have another secret than this process")
        kill(stranger.processes[0].processIdentifier, SIGKILL)
        let wrong = try spare(["--optimizer.lr", "0.5"]).end(0)
        #expect(wrong?.code == 2 && wrong?.text.contains("it has another recipe (") == true, "\(wrong?.text ?? "")")
        let right = try spare([]).end(0)
        #expect(right?.code == 0, "\(right?.text ?? "still there")")
        for rank in [0, 2, 3] {
            let ended = ranks.end(rank)
            #expect(ended?.code == 0, "\(ended?.text ?? "still there")")
        }
        #expect(try weights(place, "tiny", 24) == weights(place, "calm", 24))
    }

    @Test func whatCannotBe() throws {
        let place = try Workplace()
        for (flags, words) in [(["-n", "2", "--launch.elastic", "replace"], "of 2 none may fail"),
                               (["-n", "4", "--launch.elastic", "shrink"], "training.global_batch_size"),
                               (["-n", "4", "--launch.spares", "1"], "launch.elastic = \"stop\" replaces none"),
                               (["-n", "4", "--launch.elastic", "grow"], "stop, replace, shrink")] {
            let ranks = Array(flags.prefix(2)), rest = Array(flags.dropFirst(2))
            let refused = try Program.run(["launch"] + ranks + ["run.toml"] + rest, in: place.path)
            #expect(refused.code == 2 && refused.error.contains(words), "\(refused.error)")
        }
    }
}
