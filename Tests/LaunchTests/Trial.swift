import Foundation
import Launch
import Telemetry
import Testing
import Wire

/// One job of shell scripts: each rank runs the same script, which finds its rank in $RANK and a folder to meet the
/// others in $PLACE.
final class Trial {
    let place: String
    var channels = Launcher.Channels()
    private(set) var code: Int32 = -1

    init() throws {
        place = NSTemporaryDirectory() + "skein-launch-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        // Far more than any of the tests takes: what ends by it, fails.
        channels.grace = 600
        channels.requests = { (0, 0) }
    }

    deinit { try? FileManager.default.removeItem(atPath: place) }

    func run(ranks: Int, _ script: String, program: String = "/bin/sh", arguments: [String] = [],
             makeSecret: @escaping (String) throws -> Void = { try JobSecret.create(at: $0) },
             change: (Job) -> Job = { $0 }) throws {
        let job = change(try Job(ranks: ranks, command: [program, "-c", Trial.help + script] + arguments,
                                 environment: ["PLACE": place, "PATH": "/usr/local/bin:/usr/bin:/bin"]))
        let files = try ["out", "err"].map { name -> FileHandle in
            _ = FileManager.default.createFile(atPath: "\(place)/\(name)", contents: nil)
            return try #require(FileHandle(forWritingAtPath: "\(place)/\(name)"))
        }
        (channels.output, channels.errors) = (files[0].fileDescriptor, files[1].fileDescriptor)
        code = try Launcher(job, channels: channels, makeSecret: makeSecret).run()
        for file in files {
            OutputQueue.close(file.fileDescriptor)
            try file.close()
        }
    }

    /// tell NAME TEXT: leaves a file. hear NAME: waits for it and prints it. gone PID: waits until the launcher has
    /// seen the process's end.
    private static let help = """
        tell() { echo "$2" > "$PLACE/.$1" && mv "$PLACE/.$1" "$PLACE/$1"; }
        hear() { until [ -e "$PLACE/$1" ]; do sleep 0.01; done; cat "$PLACE/$1"; }
        gone() { while kill -0 "$1" 2>/dev/null; do sleep 0.01; done; }

        """

    func text(_ name: String) -> String { (try? String(contentsOfFile: "\(place)/\(name)", encoding: .utf8)) ?? "" }
    func lines(_ name: String) -> [String] { text(name).split(separator: "\n").map(String.init) }
    var output: [String] { lines("out") }
    var errors: [String] { lines("err") }
    var lastError: String { errors.last ?? "" }

    /// The processes that have told their number under one of these names are no more. What a rank has started is
    /// not the launcher's child: it is killed, but nobody waits for it, so this gives it a little time.
    func areGone(_ names: [String]) -> Bool {
        let pids = names.compactMap { pid_t(text($0).trimmingCharacters(in: .whitespacesAndNewlines)) }
        for _ in 0..<5_000 where !pids.allSatisfy(isGone) { usleep(2_000) }
        return pids.count == names.count && pids.allSatisfy(isGone)
    }
}

/// Ended: not there, or waiting for someone to take its exit code.
func isGone(_ pid: pid_t) -> Bool {
    guard let status = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else { return true }
    return status.split(separator: ")").last?.hasPrefix(" Z") == true
}

