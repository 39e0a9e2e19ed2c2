import Base
import Foundation
import Glibc

/// The rank processes of one injection, on this machine.
final class FaultsFleet {
    struct Ended {
        let code: Int32
        /// The last line: how it ended, the rank that it blames (or "-"), and in which words.
        let words: [Substring]
        let at: Double

        var outcome: String { words.first.map(String.init) ?? "nothing said" }
        var culprit: Int? { words.count > 1 ? Int(words[1]) : nil }
        var text: String { words.joined(separator: " ") }
    }

    private let folder: String
    private let ranks: Int
    private var processes: [Int: Process] = [:]

    init(ranks: Int, folder: String) {
        self.ranks = ranks
        self.folder = folder
    }

    deinit {
        for process in processes.values where process.isRunning { kill(process.processIdentifier, SIGKILL) }
    }

    private func file(_ rank: Int) -> String { "\(folder)/rank-\(rank).out" }

    func start(_ rank: Int, program: String, arguments: [String], port: Int, secret: String) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        var environment = ProcessInfo.processInfo.environment
        for (name, value) in ["RANK": "\(rank)", "WORLD_SIZE": "\(ranks)", "LOCAL_RANK": "\(rank)",
                              "LOCAL_WORLD_SIZE": "\(ranks)", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "\(port)",
                              "SKEIN_SECRET_FILE": secret] { environment[name] = value }
        process.environment = environment
        _ = FileManager.default.createFile(atPath: file(rank), contents: nil)
        let output = try FileHandle(forWritingTo: URL(fileURLWithPath: file(rank)))
        process.standardOutput = output
        process.standardError = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
        processes[rank] = process
    }

    func signal(_ rank: Int, _ number: Int32) {
        if let process = processes[rank] { kill(process.processIdentifier, number) }
    }

    private func lines(_ rank: Int) -> [Substring] {
        ((try? String(contentsOfFile: file(rank), encoding: .utf8)) ?? "").split(separator: "\n").map { $0[...] }
    }

    /// Whether all ranks are at work within `seconds`.
    func areReady(within seconds: Double) -> Bool {
        let limit = MonotonicClock.seconds() + seconds
        while MonotonicClock.seconds() < limit {
            if processes.keys.allSatisfy({ lines($0).contains(Substring(FaultsRank.ready)) }) { return true }
            usleep(5_000)
        }
        return false
    }

    /// How a rank ended; nil if it has not within `seconds`.
    func end(_ rank: Int, within seconds: Double) -> Ended? {
        guard let process = processes[rank] else { return nil }
        let limit = MonotonicClock.seconds() + seconds
        while process.isRunning {
            if MonotonicClock.seconds() > limit { return nil }
            usleep(2_000)
        }
        return Ended(code: process.terminationStatus, words: (lines(rank).last ?? "").split(separator: " "),
                     at: MonotonicClock.seconds())
    }
}
