import Foundation
import Glibc
import Testing

/// What may begin in a run's folder, and who owns it.
@Suite struct RunFolderTests {
    private func start(_ place: borrowing Workplace, _ arguments: [String]) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Program.path)
        process.arguments = arguments
        process.currentDirectoryURL = URL(fileURLWithPath: place.path)
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        return process
    }

    private func steps(_ place: borrowing Workplace) throws -> [Int] {
        try lines(place).map { try #require($0["step"] as? Int) }
    }

    private func lines(_ place: borrowing Workplace) throws -> [[String: Any]] {
        let text = try String(contentsOfFile: place.path + "/outputs/tiny/metrics.jsonl", encoding: .utf8)
        return try text.split(separator: "\n").map { line in
            try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        }
    }

    /// One owner at a time, for a new run and for one that goes on; a killed owner leaves the way free.
    @Test func twoRunsOfOneName() throws {
        let place = try Workplace()
        let owner = try start(place, ["train", "run.toml", "--training.steps", "1000000", "--checkpoint.interval", "1"])
        let metrics = place.path + "/outputs/tiny/metrics.jsonl"
        func written() -> Int { (try? String(contentsOfFile: metrics, encoding: .utf8).count) ?? 0 }
        while owner.isRunning, written() < 300 { usleep(2_000) }
        let latest = ["train", "run.toml", "--checkpoint.load", "latest", "--training.steps", "1000000"]
        let second = try Program.run(latest, in: place.path)
        #expect(second.code == 2 && second.errorLines.count == 1)
        #expect(second.error.contains("another process is training in outputs/tiny"), "\(second.error)")
        #expect(try place.run("train", "run.toml").code == 2)
        #expect(owner.isRunning)
        kill(owner.processIdentifier, SIGKILL)
        owner.waitUntilExit()
        let last = try #require(try steps(place).last)
        let third = try Program.run(latest.dropLast() + ["\(last + 3)"], in: place.path)
        #expect(third.code == 0, "\(third.error)")
        #expect(try steps(place) == Array(1...last + 3))
    }

    /// A start that failed before its first step leaves nothing in the way, and one that failed before its first save
    /// can be begun again.
    @Test func aStartThatFailed() throws {
        let place = try Workplace()
        let folder = place.path + "/outputs/tiny"
        try FileManager.default.createDirectory(atPath: folder + "/checkpoint", withIntermediateDirectories: true)
        try place.write("outputs/tiny/.lock", "")
        let first = try start(place, ["train", "run.toml", "--training.steps", "1000000"])
        while first.isRunning, (try? steps(place).isEmpty) ?? true { usleep(2_000) }
        kill(first.processIdentifier, SIGKILL)
        first.waitUntilExit()
        let refused = try place.run("train", "run.toml")
        #expect(refused.code == 2 && refused.error.contains("ended before it saved anything"), "\(refused.error)")
        let again = try place.run("train", "run.toml", "--checkpoint.load", "latest")
        #expect(again.code == 0 && again.error.contains("holds no checkpoint yet; beginning at step 0"))
        #expect(try steps(place) == [1, 2, 3, 4])
    }

    @Test func aStrangersFolderAndAMistypedName() throws {
        let place = try Workplace()
        try place.write("outputs/tiny/thesis.txt", "years of work")
        let before = try place.contents()
        let refused = try place.run("train", "run.toml")
        #expect(refused.code == 2 && refused.error.contains("holds thesis.txt"))
        let mistyped = try place.run("train", "run.toml", "--checkpoint.load", "latest", "--job.name", "tin")
        #expect(mistyped.code == 2 && mistyped.error.contains("no usable checkpoint in outputs/tin"))
        let unfit = try place.run("train", "run.toml", "--checkpoint.load", "outputs/none", "--job.name", "new")
        #expect(unfit.code == 2)
        #expect(try place.contents() == before)
    }

    /// A run that loss and gradient have left ends, names the last checkpoint that trained on, and keeps it.
    @Test func notFiniteForEver() throws {
        let place = try Workplace()
        let diverging = ["--training.steps", "60", "--optimizer.lr", "1000", "--optimizer.weight_decay", "1000",
                         "--lr_scheduler.warmup_steps", "0", "--lr_scheduler.decay_type", "none",
                         "--training.max_norm", "0", "--checkpoint.interval", "1", "--checkpoint.keep_latest_k", "1"]
        let run = try Program.run(["train", "run.toml"] + diverging, in: place.path)
        #expect(run.code == 1)
        let error = try #require(run.errorLines.last)
        let path = try #require(error.firstMatch(of: /last good checkpoint is (\S+);/)?.1)
        #expect(error.contains("training.max_nonfinite_steps = 3"))
        let kept = try FileManager.default.contentsOfDirectory(atPath: place.path + "/outputs/tiny/checkpoint")
        #expect(kept.filter { !$0.hasSuffix(".superseded") } == [String(path.split(separator: "/").last!)])
        #expect(try place.run("inspect", "--verify", String(path)).code == 0)
        // Strict JSON to the last line, and as many steps without an update as the key says.
        let finite = try lines(place).map { $0["loss_metrics/global_avg_loss"] is Double && $0["grad_norm"] is Double }
        #expect(finite.suffix(3) == [false, false, false] && finite.dropLast(3).allSatisfy { $0 })
        let calmer = try place.run("train", "run.toml", "--checkpoint.load", "latest", "--training.steps", "9")
        #expect(calmer.code == 0 || calmer.error.contains("not finite"), "\(calmer.error)")
        // Without a limit it goes on, and the good one stays.
        try FileManager.default.removeItem(atPath: place.path + "/outputs")
        let endless = try Program.run(["train", "run.toml"] + diverging + ["--training.max_nonfinite_steps", "0"],
                                      in: place.path)
        #expect(endless.code == 0 && FileManager.default.fileExists(atPath: place.path + "/" + path))
    }

    /// Another end of the schedule moves every rate before it.
    @Test func aLeapOfTheLearningRateIsSaid() throws {
        let place = try Workplace()
        try place.write("long.toml", String(contentsOfFile: place.path + "/run.toml", encoding: .utf8)
            + "[lr_scheduler]\nwarmup_steps = 2\n")
        #expect(try place.run("train", "long.toml", "--training.steps", "20").code == 0)
        let on = ["train", "long.toml", "--checkpoint.load", "latest", "--training.steps"]
        let leap = try Program.run(on + ["40"], in: place.path)
        #expect(leap.code == 0, "\(leap.error)")
        #expect(leap.error.contains("the learning rate goes from 1.00e-04 at step 20"), "\(leap.error)")
        // What the summary offers says nothing of the kind.
        let offered = try #require(leap.out.firstMatch(of: /train on +\S+ (train .*)/)?.1)
        let calm = try Program.run(offered.split(separator: " ").map(String.init), in: place.path)
        #expect(calm.code == 0 && !calm.error.contains("learning rate"), "\(calm.error)")
    }
}
