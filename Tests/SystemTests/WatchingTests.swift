import Foundation
import Testing

/// What is left of a run to be looked at, and what a launcher does for one that loses a rank.
@Suite struct WatchingTests {
    @Test func filesOfARun() throws {
        let place = try Workplace()
        let flags = ["--metrics.enable_tensorboard", "--metrics.prometheus", "run.prom", "--validation.interval", "2"]
        let run = try Program.run(["train", "run.toml"] + flags, in: place.path)
        #expect(run.code == 0 && run.error.isEmpty, "\(run.error)")
        let events = try FileManager.default.contentsOfDirectory(atPath: place.path + "/outputs/tiny/tb")
        #expect(events.count == 1 && events[0].hasPrefix("events.out.tfevents."))
        let gauges = try String(contentsOfFile: place.path + "/run.prom", encoding: .utf8)
        #expect(gauges.contains("skein_step{run=\"tiny\"} 4\n") && gauges.contains("skein_validation_loss"))
        let more = ["--checkpoint.load", "latest", "--training.steps", "6"]
        let on = try Program.run(["train", "run.toml"] + flags + more, in: place.path)
        #expect(on.code == 0, "\(on.error)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: place.path + "/outputs/tiny/tb").count == 2)
        // The run's config says where each value came from, and reads back as a config.
        let config = try String(contentsOfFile: place.path + "/outputs/tiny/config.toml", encoding: .utf8)
        #expect(config.contains("steps = 6  # --training.steps\n") && config.contains("dim = 32  # run.toml:4\n"))
        #expect(try place.run("config", "explain", "outputs/tiny/config.toml").code == 0)
    }

    @Test func reportAndCompare() throws {
        let place = try Workplace()
        for (name, rate) in [("one", "1e-3"), ("two", "3e-3")] {
            #expect(try place.run("train", "run.toml", "--job.name", name, "--optimizer.lr", rate).code == 0)
        }
        let report = try place.run("report", "outputs/one", "--tokens", "10", "--prompt", "a <text>")
        #expect(report.code == 0 && report.error.isEmpty, "\(report.error)")
        let page = try String(contentsOfFile: place.path + "/outputs/one/report.html", encoding: .utf8)
        #expect(page.contains("a &lt;text&gt;") && page.contains("run.toml:4") && page.contains("memory"))
        // Another start in that folder is refused for its steps, and not for the page.
        let again = try place.run("train", "run.toml", "--job.name", "one")
        #expect(again.code == 2 && again.error.contains("--checkpoint.load latest"), "\(again.error)")
        let both = try place.run("compare", "outputs/one", "outputs/two", "--out", "both.html")
        #expect(both.code == 0 && both.out.contains("optimizer.lr"), "\(both.error)")
        #expect(both.out.contains("0.001") && both.out.contains("0.003"))
        #expect(FileManager.default.fileExists(atPath: place.path + "/both.html"))
        for (arguments, words) in [(["report", "gone"], "gone is no folder"), (["report", "."], "no config.toml"),
                                   (["compare", "outputs/one"], "two runs"),
                                   (["compare", "outputs/one", "gone"], "gone is no folder")] {
            let refused = try Program.run(arguments, in: place.path)
            #expect(refused.code == 2 && refused.errorLines.count == 1 && refused.error.contains(words),
                    "\(refused.error)")
        }
        // Without a checkpoint there are no samples, and the page is there all the same.
        #expect(try place.run("train", "run.toml", "--job.name", "none", "--checkpoint.enable", "false").code == 0)
        let bare = try place.run("report", "outputs/none")
        #expect(bare.code == 0 && bare.error.contains("no samples"), "\(bare.error)")
    }

    /// A rank that is killed while the job runs costs steps, and no bits: the weights at the end are those of a run
    /// that nobody disturbed.
    @Test func aKilledRankCostsNoBits() throws {
        let place = try Workplace()
        let flags = ["--training.steps", "300", "--checkpoint.interval", "20", "--launch.max_restarts", "2",
                     "--training.global_batch_size", "16", "--model.dim", "64"]
        let calm = try Program.run(["launch", "-n", "2", "run.toml", "--job.name", "calm"] + flags, in: place.path)
        #expect(calm.code == 0, "\(calm.error)")
        let process = Process(), folder = place.path + "/outputs/stormy"
        process.executableURL = URL(fileURLWithPath: Program.path)
        process.arguments = ["launch", "-n", "2", "--logs", "logs", "run.toml", "--job.name", "stormy"] + flags
        process.currentDirectoryURL = URL(fileURLWithPath: place.path)
        process.standardOutput = FileHandle.nullDevice
        let errors = place.path + "/errors"
        _ = FileManager.default.createFile(atPath: errors, contents: nil)
        process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: errors))
        try process.run()
        func saved() -> Int {
            let steps = (try? FileManager.default.contentsOfDirectory(atPath: folder + "/checkpoint")) ?? []
            return steps.compactMap { Int($0.dropFirst(5)) }.max() ?? 0
        }
        var killed = 0
        for target in [40, 120] {
            while process.isRunning {
                if saved() >= target, let rank = ranks(of: process.processIdentifier).max() {
                    kill(rank, SIGKILL)
                    killed += 1
                    break
                }
                usleep(2_000)
            }
        }
        process.waitUntilExit()
        let said = try String(contentsOfFile: errors, encoding: .utf8)
        #expect(killed == 2 && process.terminationStatus == 0, "\(said)")
        #expect(said.contains("(1 of 2)") && said.contains("(2 of 2)"), "\(said)")
        let diff = try place.run("inspect", "outputs/calm", "--diff", "outputs/stormy", "--json")
        let tensors = diff.out.split(separator: "\n").filter { $0.contains("\"tensor\":") }
        #expect(tensors.count > 20 && tensors.allSatisfy { $0.contains("\"different\":0,\"") }, "\(diff.out)")
        let log = try String(contentsOfFile: place.path + "/logs/rank-0.log", encoding: .utf8)
        #expect(log.contains("step 300/300") && log.contains("skein launch: rank "))
    }

    /// The processes of a launcher that train.
    private func ranks(of launcher: pid_t) -> [pid_t] {
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return all.compactMap { pid_t($0) }.filter { pid in
            let status = (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)) ?? ""
            let command = (try? String(contentsOfFile: "/proc/\(pid)/cmdline", encoding: .utf8)) ?? ""
            let parent = status.split(separator: ")").last?.split(separator: " ").dropFirst().first
            return parent == "\(launcher)" && command.contains("train")
        }
    }

    @Test func doctor() throws {
        let place = try Workplace()
        let alone = try place.run("doctor", "--json")
        #expect(alone.code == 0 && alone.out.contains("\"findings\":["), "\(alone.error)")
        let three = try place.run("doctor", "-n", "3")
        #expect(three.code == 0, "\(three.error)")
        for words in ["a large message, MB/s", "to 2", "GFLOP/s", "built for"] { #expect(three.out.contains(words)) }
        #expect(three.out.split(separator: "\n").filter { $0.contains(" ms") || $0.contains(" of ") }.count >= 3)
        let gone = try place.run("doctor", "--folder", "gone")
        #expect(gone.code == 1 && gone.out.contains("fault: ") && gone.out.contains("gone"))
        try place.write("hosts", "node1 cores=3\n")
        let refused = try place.run("doctor", "--hostfile", "hosts")
        #expect(refused.code == 2 && refused.error.contains("hosts:1: 'cores=3'"), "\(refused.error)")
    }
}
