import Base
import Telemetry

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Runs a job's ranks on this machine and waits for them.
///
/// The ranks' output goes on: rank 0's as it is, the others' line by line behind `[rank N] `. The first Ctrl-C (or
/// SIGTERM) is handed to the ranks, which save and end; the second ends them. When a rank fails, the others have
/// some seconds to say what they saw and to leave; then all are killed, and the first failure is told last.
public struct Launcher {
    private let job: Job
    private let channels: Channels
    private let makeSecret: (String) throws -> Void

    /// Where output goes and where requests to stop come from.
    package struct Channels {
        package var output: Int32 = 1
        package var errors: Int32 = 2
        package var requests: () -> (count: Int, signal: Int32) = StopRequests.received
        /// Seconds that the others have after a failure. Less than five, in which all shall be over.
        package var grace = 4.0
        /// Seconds between the second request and the end.
        package var patience = 1.0
        /// A folder for what each rank prints, `rank-N.log`; nil: none is kept.
        package var logs: String?
        package init() {}

        func say(_ line: String) { OutputQueue.shared(errors).write("skein: \(line)\n") }
    }

    /// makeSecret: writes the job's secret to a new file of that name. logs: a folder for what each rank prints.
    public init(_ job: Job, logs: String? = nil, makeSecret: @escaping (String) throws -> Void) {
        var channels = Channels()
        channels.logs = logs
        self.init(job, channels: channels, makeSecret: makeSecret)
    }

    package init(_ job: Job, channels: Channels, makeSecret: @escaping (String) throws -> Void) {
        self.job = job
        self.channels = channels
        self.makeSecret = makeSecret
    }

    /// The exit code: 0 done, 2 when the first failure was bad input, else 1. Throws when the job cannot be started.
    public func run() throws -> Int32 {
        try OwnProcess.requireFiles(launching: job.ranks)
        let folder = try job.ranks == 1 ? nil : SecretFolder(makeSecret)
        defer { folder?.remove() }
        let logs = try channels.logs.map { try RankLogs($0, ranks: job.ranks) }
        var outcome = try attempt(job, folder, logs)
        for restart in 0..<job.maximumRestarts where outcome.mayComeAgain {
            let line = "\(outcome.line ?? "a rank failed"); starting again from the latest checkpoint "
                + "(\(restart + 1) of \(job.maximumRestarts))"
            channels.say(line)
            logs?.note(line)
            outcome = try attempt(job.resumed, folder, logs)
        }
        if let line = outcome.line {
            channels.say(line)
            logs?.tell(line, failed: outcome.rank)
        }
        return outcome.code
    }

    private func attempt(_ job: Job, _ folder: SecretFolder?, _ logs: RankLogs?) throws(LaunchError) -> Outcome {
        func once() throws(LaunchError) -> Outcome {
            try RunningJob(job, port: freePort(), folder: folder, channels: channels, logs: logs).wait()
        }
        let outcome = try once()
        guard outcome.portWasTaken else { return outcome }
        channels.say("another program took the port that was free a moment ago; starting again on another one")
        return try once()
    }
}

/// A folder for the secret that nobody else can enter.
struct SecretFolder {
    let path: String
    var secretFile: String { path + "/secret" }

    init(_ makeSecret: (String) throws -> Void) throws {
        let parent = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? "/tmp"
        var template = Array((parent + "/skein-launch-XXXXXX").utf8CString)
        guard unsafe mkdtemp(&template) != nil else {
            throw LaunchError.refused(what: "make a folder in \(parent)", problem: errorText(errno))
        }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        do {
            try makeSecret(secretFile)
        } catch {
            remove()
            throw error
        }
    }

    func remove() {
        unsafe unlink(secretFile)
        unsafe rmdir(path)
    }
}
