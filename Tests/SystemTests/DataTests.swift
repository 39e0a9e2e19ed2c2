import Foundation
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// `skein data`, as a person would use it.
@Suite struct DataTests {
    /// Lines of text, each a document, of lengths that go up and down.
    private func lines(_ count: Int) -> String {
        (0..<count).map { index in
            "{\"text\":\"" + String(repeating: "document \(index) says little. ", count: 1 + index * 7 % 23) + "\"}\n"
        }.joined()
    }

    private func files(_ place: borrowing Workplace, below folder: String) throws -> [String: Data] {
        try place.contents().filter { $0.key.hasPrefix(folder + "/") && !$0.key.hasSuffix(".tmp") }
    }

    /// Prepared data train like the texts that they were made of, to the last weight, and either can go on with what
    /// the other began.
    @Test func trainingOnPreparedDataIsTrainingOnTheTexts() throws {
        let place = try Workplace()
        try place.write("lines.jsonl", lines(200))
        let prepared = try place.run("data", "prepare", "lines.jsonl", "text.txt", "--out", "prepared", "--vocab-size",
                                     "300", "--shard-bytes", "5000")
        #expect(prepared.code == 0, "\(prepared.error)")
        #expect(prepared.out.contains("documents  201"))
        #expect(try place.run("data", "verify", "prepared").code == 0)
        let stats = try place.run("data", "stats", "prepared", "--seq-len", "64", "--json", "--model.dim", "96")
        #expect(stats.code == 0 && stats.out.contains("\"documents\":201"), "\(stats.error)")
        let common = ["train", "run.toml", "--data.tokenizer", "prepared", "--job.name"]
        let texts = ["--data.paths", "lines.jsonl,text.txt"]
        #expect(try Program.run(common + ["a"] + texts, in: place.path).code == 0)
        let other = try Program.run(common + ["b", "--data.paths", "prepared"], in: place.path)
        #expect(other.code == 0, "\(other.error)")
        let weights = ["a", "b"].map { "outputs/\($0)/checkpoint/step-4/model.safetensors" }
        let contents = try place.contents()
        #expect(contents[weights[0]] != nil && contents[weights[0]] == contents[weights[1]])
        let goOn = common + ["b", "--checkpoint.load", "latest", "--training.steps", "6"]
        let outcome = try Program.run(goOn + texts, in: place.path)
        #expect(outcome.code == 0, "\(outcome.error)")
    }

    /// Killed with no warning while shards are written, again and again, then left alone: the bytes of a quiet run.
    @Test func aKillLosesNothing() throws {
        let place = try Workplace()
        try place.write("lines.jsonl", lines(6_000))
        let arguments = ["data", "prepare", "lines.jsonl", "--shard-bytes", "9000", "--threads", "2", "--out"]
        #expect(try Program.run(arguments + ["quiet"], in: place.path).code == 0)
        for round in 1...4 {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: Program.path)
            process.arguments = arguments + ["killed"]
            process.currentDirectoryURL = URL(fileURLWithPath: place.path)
            process.standardOutput = FileHandle.nullDevice
            process.standardError = FileHandle.nullDevice
            try process.run()
            // As soon as so many shards are there; a process that was quicker has simply finished.
            while process.isRunning, try files(place, below: "killed").count < 1 + 12 * round { usleep(500) }
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        let last = try Program.run(arguments + ["killed"], in: place.path)
        #expect(last.code == 0 && last.out.contains("of them were there"), "\(last.out) \(last.error)")
        let quiet = try files(place, below: "quiet"), killed = try files(place, below: "killed")
        #expect(quiet.count > 100 && killed.count == quiet.count)
        for (name, bytes) in quiet { #expect(killed["killed" + name.dropFirst(5)] == bytes, "\(name)") }
        #expect(try !place.contents().keys.contains { $0.hasSuffix(".tmp") })
    }

    /// Weights in a run: it goes on with a phase that is added, and refuses another past.
    @Test func weightsMayChangeWhereARunIs() throws {
        let place = try Workplace()
        try place.write("lines.jsonl", lines(200))
        let common = ["train", "run.toml", "--data.paths", "lines.jsonl,text.txt", "--data.weights"]
        let first = try Program.run(common + ["3,1"], in: place.path)
        #expect(first.code == 0, "\(first.error)")
        let load = ["--checkpoint.load", "latest", "--training.steps", "8"]
        for weights in ["1,1", "0: 3 1,2: 1 1"] {
            let refused = try Program.run(common + [weights] + load, in: place.path)
            #expect(refused.code == 2 && refused.error.contains("data.weights"), "\(weights): \(refused.error)")
            #expect(refused.errorLines.count == 1)
        }
        let second = try Program.run(common + ["0: 3 1,4: 1 1"] + load, in: place.path)
        #expect(second.code == 0, "\(second.error)")
        // And from there on with the history as it then was.
        let third = try Program.run(common + ["0: 3 1,4: 1 1", "--checkpoint.load", "latest", "--training.steps", "9"],
                                    in: place.path)
        #expect(third.code == 0, "\(third.error)")
    }

    /// A token file stays mapped while a run lasts; reading it after somebody has cut it would be a bare SIGBUS.
    @Test func aFileThatShrinksIsNamed() throws {
        let place = try Workplace()
        try place.write("data.bin", Data((0..<40_000).flatMap { [UInt8(32 + $0 % 90), 0] }))
        let process = Process(), errors = place.path + "/errors"
        process.executableURL = URL(fileURLWithPath: Program.path)
        process.arguments = ["train", "run.toml", "--data.paths", "data.bin", "--training.steps", "1000000"]
        process.currentDirectoryURL = URL(fileURLWithPath: place.path)
        _ = FileManager.default.createFile(atPath: errors, contents: nil)
        process.standardOutput = FileHandle.nullDevice
        process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: errors))
        try process.run()
        let metrics = place.path + "/outputs/tiny/metrics.jsonl"
        while process.isRunning, ((try? Data(contentsOf: URL(fileURLWithPath: metrics)).count) ?? 0) == 0 {
            usleep(2_000)
        }
        try FileHandle(forWritingTo: URL(fileURLWithPath: place.path + "/data.bin")).truncate(atOffset: 0)
        process.waitUntilExit()
        #expect(process.terminationReason == .exit && process.terminationStatus == 1)
        let text = try String(contentsOfFile: errors, encoding: .utf8)
        let lines = text.split(separator: "\n").filter { $0.contains("data.bin") }
        #expect(lines.count == 1 && lines[0].hasSuffix("then start again"), "\(text)")
    }
}
