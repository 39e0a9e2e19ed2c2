import Foundation
import Testing

@Suite struct LaunchSystemTests {
    @Test(arguments: [
        (["-n", "0", "run.toml"], "-n 0"), (["-n", "257", "run.toml"], "-n 257"),
        (["-n", "2", "missing.toml"], "missing.toml"),
        (["-n", "2", "run.toml", "--training.stesp", "3"], "training.steps"),
    ]) func badInputIsOneLine(_ arguments: [String], _ word: String) throws {
        let place = try Workplace()
        let before = try place.contents()
        let outcome = try Program.run(["launch"] + arguments, in: place.path)
        #expect(outcome.code == 2 && outcome.out.isEmpty)
        #expect(outcome.errorLines.count == 1 && outcome.error.contains(word), "\(outcome.error)")
        #expect(try place.contents() == before)
    }

    @Test func oneRankIsAPlainRun() throws {
        let place = try Workplace()
        let outcome = try place.run("launch", "-n", "1", "run.toml")
        #expect(outcome.code == 0 && outcome.error.isEmpty, "\(outcome.error)")
        #expect(outcome.out.contains("step 4/4") && !outcome.out.contains("[rank"))
        #expect(try place.run("inspect", "--verify", "outputs/tiny").code == 0)
        // What a rank refuses is said once.
        let again = try place.run("launch", "-n", "1", "run.toml")
        #expect(again.code == 2 && again.errorLines.count == 1 && again.error.contains("outputs/tiny exists"))
    }

    @Test func secretNew() throws {
        let place = try Workplace()
        #expect(try place.run("secret", "new", "job.secret").code == 0)
        let path = place.path + "/job.secret"
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        let text = try String(contentsOfFile: path, encoding: .utf8)
        #expect(text.wholeMatch(of: /[0-9a-f]{64}\n/) != nil)
        let again = try place.run("secret", "new", "job.secret")
        #expect(again.code == 2 && again.errorLines.count == 1 && again.error.contains("job.secret"))
        #expect(try String(contentsOfFile: path, encoding: .utf8) == text)
    }

    /// `kill -9` of the launcher takes the ranks with it, and the secret.
    @Test func aKilledLauncherLeavesNobodyBehind() throws {
        let place = try Workplace()
        try FileManager.default.createDirectory(atPath: place.path + "/tmp", withIntermediateDirectories: true)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Program.path)
        process.arguments = ["launch", "-n", "2", "run.toml", "--training.steps", "1000000"]
        process.currentDirectoryURL = URL(fileURLWithPath: place.path)
        process.environment = ProcessInfo.processInfo.environment.merging(["TMPDIR": place.path + "/tmp"]) { $1 }
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        let metrics = place.path + "/outputs/tiny/metrics.jsonl"
        while process.isRunning, (try? String(contentsOfFile: metrics, encoding: .utf8))?.isEmpty != false {
            usleep(2_000)
        }
        let children = childProcesses(of: process.processIdentifier)
        #expect(children.count == 3, "two ranks and the guard")
        let secrets = try FileManager.default.subpathsOfDirectory(atPath: place.path + "/tmp")
        #expect(secrets.contains { $0.hasSuffix("/secret") })
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        // Far more than it takes; without it a failure would wait for ever.
        for _ in 0..<5_000 where !children.allSatisfy(isGone) { usleep(2_000) }
        #expect(children.allSatisfy(isGone))
        #expect(try FileManager.default.contentsOfDirectory(atPath: place.path + "/tmp") == [])
    }

    private func childProcesses(of parent: pid_t) -> [pid_t] {
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return all.compactMap { pid_t($0) }.filter { statistics($0)?.dropFirst().first == "\(parent)" }
    }

    /// Not there, or waiting for someone to take its exit code.
    private func isGone(_ pid: pid_t) -> Bool {
        let state = statistics(pid)?.first
        return state == nil || state == "Z"
    }

    /// The fields of /proc/PID/stat from the state on.
    private func statistics(_ pid: pid_t) -> [Substring]? {
        let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
        return text?.split(separator: ")").last?.split(separator: " ")
    }
}
