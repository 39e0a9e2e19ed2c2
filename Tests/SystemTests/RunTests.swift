import Foundation
import Testing

/// What a newcomer does, in one process each.
@Suite struct RunTests {
    @Test func trainInspectGenerate() throws {
        let place = try Workplace()
        let trained = try place.run("train", "run.toml")
        #expect(trained.code == 0, "\(trained.error)")
        let inspected = try place.run("inspect", "outputs/tiny/checkpoint/step-4")
        #expect(inspected.code == 0)
        for word in ["model ", "optimizer ", "step        4", "[model]", "dim = 32", "tokens", "row"] {
            #expect(inspected.out.contains(word), "\(word)")
        }
        let first = try place.run("generate", "outputs/tiny", "--prompt", "a text", "--tokens", "20")
        let second = try place.run("generate", "outputs/tiny", "--prompt", "a text", "--tokens", "20")
        #expect(first.code == 0 && first.out.hasPrefix("a text") && first.out == second.out)
        // Threads change nothing, and a prompt among others is continued as it is alone.
        let threads = try place.run("generate", "outputs/tiny", "--prompt", "a text", "--tokens", "20",
                                    "--threads", "3")
        #expect(threads.out == first.out)
        try place.write("prompts.txt", "other\r\na text\r\n")
        let both = try place.run("generate", "outputs/tiny", "--prompts", "prompts.txt", "--tokens", "20")
        #expect(both.code == 0 && both.out.hasPrefix("==> 1 <==\nother"))
        #expect(both.out.hasSuffix("==> 2 <==\n" + first.out))
        try place.write("none.txt", "\n\n")
        for (file, word) in [("none.txt", "no line of text"), ("gone.txt", "gone.txt")] {
            let refused = try place.run("generate", "outputs/tiny", "--prompts", file)
            #expect(refused.code == 2 && refused.error.contains(word), "\(refused.error)")
        }
    }

    @Test func keepsTheLatestCheckpointsOnly() throws {
        let place = try Workplace()
        let run = try place.run("train", "run.toml", "--checkpoint.interval", "1", "--checkpoint.keep_latest_k", "2")
        #expect(run.code == 0)
        let kept = try FileManager.default.contentsOfDirectory(atPath: place.path + "/outputs/tiny/checkpoint")
        #expect(kept.sorted() == ["step-3", "step-4"])
    }

    /// The first Ctrl-C saves and ends with code 0; the run goes on from there.
    @Test func interruptSavesAndEnds() throws {
        let place = try Workplace()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Program.path)
        process.arguments = ["train", "run.toml", "--training.steps", "1000000"]
        process.currentDirectoryURL = URL(fileURLWithPath: place.path)
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        // The metrics file appears with the first step; the handler is installed before it.
        let metrics = place.path + "/outputs/tiny/metrics.jsonl"
        while process.isRunning, ((try? Data(contentsOf: URL(fileURLWithPath: metrics)).count) ?? 0) == 0 {
            usleep(2_000)
        }
        process.interrupt()
        process.waitUntilExit()
        #expect(process.terminationReason == .exit && process.terminationStatus == 0)
        let saved = try FileManager.default.contentsOfDirectory(atPath: place.path + "/outputs/tiny/checkpoint")
        #expect(saved.count == 1)
        #expect(try place.run("inspect", "--verify", "outputs/tiny").code == 0)
    }

    @Test func benchesPrintOneObjectALine() throws {
        let place = try Workplace()
        for arguments in [["bench", "gemm", "--m", "64", "--n", "64", "--k", "64", "--rounds", "3", "--json"],
                          ["bench", "step", "--config", "run.toml", "--rounds", "2", "--json"],
                          ["bench", "kernels", "--only", "gradientNorm", "--rounds", "1", "--json"],
                          ["bench", "attention", "--sequence", "64", "--heads", "2", "--rounds", "1", "--json"],
                          ["bench", "attention", "--lengths", "9,30", "--heads", "2", "--rounds", "1", "--json"]] {
            let outcome = try Program.run(arguments, in: place.path)
            #expect(outcome.code == 0, "\(outcome.error)")
            let object = try JSONSerialization.jsonObject(with: Data(outcome.out.utf8)) as? [String: Any]
            for key in ["bench", "threads", "ranks", "core", "isa", "seconds", "gflops"] {
                #expect(object?[key] != nil, "\(key)")
            }
        }
    }

    /// Each kind once, with rates, and nothing is left on the disk.
    @Test func benchOfCheckpoints() throws {
        let place = try Workplace()
        try place.write("here/note", "kept")
        let outcome = try place.run("bench", "checkpoint", "--megabytes", "12", "--tensors", "3", "--rounds", "1",
                                    "--folder", "here", "--json")
        #expect(outcome.code == 0, "\(outcome.error)")
        let lines = try outcome.out.split(separator: "\n").map {
            try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
        #expect(lines.compactMap { $0["kind"] as? String } == ["disk", "sha256", "crc32c", "save", "verify", "load",
                                                               "save-zstd", "verify-zstd", "load-zstd"])
        for line in lines {
            for key in ["seconds", "bytes", "MB_per_s", "cpu_seconds"] {
                #expect((line[key] as? Double ?? 0) > 0, "\(line)")
            }
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: place.path + "/here") == ["note"])
        #expect(try place.run("bench", "checkpoint", "--folder", "gone").code == 1)
    }

    @Test func configExplainSaysWhereValuesComeFrom() throws {
        let place = try Workplace()
        let outcome = try place.run("config", "explain", "run.toml", "--optimizer.lr", "0.5")
        #expect(outcome.code == 0)
        let lines = outcome.out.split(separator: "\n")
        #expect(lines.contains { $0.contains("model.dim = 32") && $0.contains("run.toml:4") })
        #expect(lines.contains { $0.contains("optimizer.lr = 0.5") && $0.contains("--optimizer.lr") })
        #expect(lines.contains { $0.contains("debug.seed = 0") && $0.contains("default") })
    }
}
