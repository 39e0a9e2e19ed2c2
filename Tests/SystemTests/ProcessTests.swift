import Foundation
import Glibc
import Testing

/// Terminals, pipes and signals as they are met outside of tests. Each program is started by a shell, which sets up
/// what is inherited.
@Suite struct ProcessTests {
    private struct Job: ~Copyable {
        let process = Process()
        let log: String

        /// words: a shell's, with `$S` for the program; what it and the program say is in a file.
        init(_ words: String, in folder: String) throws {
            log = folder + "/log-\(UUID().uuidString)"
            process.executableURL = URL(fileURLWithPath: "/bin/bash")
            process.arguments = ["-c", "exec >\"$LOG\" 2>&1; " + words]
            process.currentDirectoryURL = URL(fileURLWithPath: folder)
            process.environment = ProcessInfo.processInfo.environment
                .merging(["S": Program.path, "LOG": log]) { $1 }
            try process.run()
        }

        var text: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }
        var pid: pid_t { process.processIdentifier }

        /// Waits until so many lines are there.
        func wait(forLines count: Int) {
            let limit = now() + 60
            while process.isRunning, now() < limit, text.split(separator: "\n").count < count { usleep(2_000) }
        }

        /// The exit code, as a shell has it; nil when it has not ended after so many seconds.
        func end(within seconds: Double = 60) -> Int32? {
            let limit = now() + seconds
            while process.isRunning {
                if now() > limit {
                    kill(pid, SIGKILL)
                    return nil
                }
                usleep(2_000)
            }
            return process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
        }
    }

    private static let endless = "run.toml --training.steps 100000000 --metrics.log_freq 1"

    private func saved(_ place: borrowing Workplace) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: place.path + "/outputs/tiny/checkpoint")) ?? []
    }

    /// A hangup and SIGUSR1 save and end, as often as they come; SIGUSR2 is nothing.
    @Test(arguments: [SIGHUP, SIGUSR1], ["train", "launch -n 2"]) func signalsThatSave(_ signal: Int32,
                                                                                       _ command: String) throws {
        let place = try Workplace()
        let job = try Job("exec $S \(command) \(Self.endless)", in: place.path)
        job.wait(forLines: 6)
        kill(job.pid, SIGUSR2)
        job.wait(forLines: 9)
        #expect(job.process.isRunning)
        for _ in 0..<3 { kill(job.pid, signal) }
        #expect(job.end() == 0, "\(job.text.suffix(500))")
        #expect(saved(place).count == 1)
    }

    /// Under nohup a hangup is ignored, and stays so.
    @Test(arguments: ["train", "launch -n 2"]) func nohup(_ command: String) throws {
        let place = try Workplace()
        let job = try Job("trap '' HUP; exec $S \(command) \(Self.endless)", in: place.path)
        job.wait(forLines: 6)
        kill(job.pid, SIGHUP)
        usleep(300_000)
        #expect(job.process.isRunning && saved(place).isEmpty)
        kill(job.pid, SIGTERM)
        #expect(job.end() == 0 && saved(place).count == 1)
    }

    @Test func quitEndsAtOnce() throws {
        let place = try Workplace()
        let job = try Job("ulimit -c 0; exec $S train \(Self.endless)", in: place.path)
        job.wait(forLines: 6)
        kill(job.pid, SIGQUIT)
        #expect(job.end() == 128 + SIGQUIT && saved(place).isEmpty)
    }

    /// A reader that goes away ends nothing.
    @Test(arguments: ["train", "launch -n 2"]) func aReaderThatGoes(_ command: String) throws {
        let place = try Workplace()
        let words = "set -o pipefail; $S \(command) run.toml --training.steps 60 --metrics.log_freq 1 | head -n 1"
        let job = try Job(words, in: place.path)
        #expect(job.end() == 0, "\(job.text)")
        #expect(saved(place) == ["step-60"])
    }

    /// A reader that pauses for ever holds up neither the training nor whoever wants to end it.
    @Test(arguments: ["train", "launch -n 2"]) func aReaderThatPauses(_ command: String) throws {
        let place = try Workplace()
        // This process is the reader, and never reads.
        unsafe #expect(mkfifo(place.path + "/pipe", 0o600) == 0)
        let reader = unsafe open(place.path + "/pipe", O_RDWR | O_CLOEXEC)
        defer { close(reader) }
        let job = try Job("exec $S \(command) \(Self.endless) > pipe", in: place.path)
        // Far more lines than a pipe and the queue hold.
        let metrics = place.path + "/outputs/tiny/metrics.jsonl"
        func steps() -> Int {
            ((try? FileManager.default.attributesOfItem(atPath: metrics)[.size]) as? Int ?? 0) / 400
        }
        let limit = now() + 120
        while job.process.isRunning, now() < limit, steps() < 3_000 { usleep(5_000) }
        #expect(job.process.isRunning)
        kill(job.pid, SIGINT)
        while job.process.isRunning, now() < limit, saved(place).isEmpty { usleep(5_000) }
        kill(job.pid, SIGINT)
        usleep(200_000)
        kill(job.pid, SIGINT)
        #expect(job.end(within: 20) != nil)
    }

    @Test func inheritedStates() throws {
        let place = try Workplace()
        let short = "run.toml --training.steps 3 --training.global_batch_size 4"
        // Without the ends of its children a launcher would wait for ever.
        let job = try Job("trap '' CHLD; exec $S launch -n 2 \(short)", in: place.path)
        #expect(job.end() == 0, "\(job.text)")
        // The first file that is opened must not be standard output.
        for closed in [">&-", "2>&-", "<&- >&- 2>&-"] {
            for command in ["train", "launch -n 2"] {
                try FileManager.default.removeItem(atPath: place.path + "/outputs")
                let job = try Job("$S \(command) \(short) --metrics.log_freq 1 \(closed)", in: place.path)
                #expect(job.end() == 0, "\(command) \(closed)")
                let log = try String(contentsOfFile: place.path + "/outputs/tiny/metrics.jsonl", encoding: .utf8)
                #expect(log.split(separator: "\n").count == 3 && log.split(separator: "\n").allSatisfy {
                    (try? JSONSerialization.jsonObject(with: Data($0.utf8))) != nil
                }, "\(command) \(closed)")
            }
        }
    }

    /// A disk without room, here a limit of a file's size: training goes on without those checkpoints, and ends with
    /// the last one's failure. Nothing half-made is left.
    @Test(arguments: ["train", "launch -n 2"]) func aFullDisk(_ command: String) throws {
        let place = try Workplace()
        let job = try Job("trap '' XFSZ; ulimit -f 32; exec $S \(command) run.toml --checkpoint.interval 1 "
            + "--training.global_batch_size 4", in: place.path)
        #expect(job.end() == 1, "\(job.text)")
        let lines = job.text.split(separator: "\n")
        for step in 1...3 {
            let said = lines.filter { line in
                line.contains("the checkpoint of step \(step) was not written: cannot reserve ")
                    && line.contains("earlier checkpoints are untouched; training goes on")
            }
            #expect(said.count == 1, "step \(step): \(job.text)")
        }
        let end = "the checkpoint of step 4 was not written: cannot reserve "
        #expect(lines.last?.contains(end) == true, "\(job.text)")
        #expect(saved(place).isEmpty, "\(saved(place))")
    }

    /// Too few descriptors are said at once, by name; a soft limit is raised.
    @Test func openFiles() throws {
        let place = try Workplace()
        let job = try Job("ulimit -n 24; exec $S launch -n 8 run.toml", in: place.path)
        #expect(job.end(within: 10) == 2)
        #expect(job.text.contains("the limit here is 24") && job.text.contains("ulimit -n"), "\(job.text)")
        let raised = try Job("ulimit -S -n 24; exec $S launch -n 4 run.toml --training.global_batch_size 4",
                             in: place.path)
        #expect(raised.end() == 0, "\(raised.text)")
    }
}
