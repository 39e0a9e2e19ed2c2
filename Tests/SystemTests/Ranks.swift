import Base
import Foundation

/// Several rank processes started by hand, as the README says, in one folder.
final class Ranks {
    struct Ended {
        let code: Int32
        let text: String
        /// Seconds on the monotonic clock.
        let at: Double
    }

    private(set) var processes: [Process] = []
    private let files: [String]
    private let folder: String

    /// Starts `count` ranks. `flags` gets a rank's own extra flags, `environment` changes its environment.
    init(_ count: Int, in folder: String, _ arguments: [String], flags: (Int) -> [String] = { _ in [] },
         environment change: (Int, inout [String: String]) -> Void = { _, _ in }) throws {
        self.folder = folder
        let secret = folder + "/.secret"
        if !FileManager.default.fileExists(atPath: secret) {
            let digits = (0..<64).map { _ in "0123456789abcdef".randomElement() ?? "0" }
            _ = FileManager.default.createFile(atPath: secret, contents: Data(String(digits).utf8),
                                               attributes: [.posixPermissions: 0o600])
        }
        let port = freePort()
        files = (0..<count).map { folder + "/.rank\($0).\(UUID().uuidString).out" }
        for rank in 0..<count {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: Program.path)
            process.arguments = arguments + flags(rank)
            process.currentDirectoryURL = URL(fileURLWithPath: folder)
            var environment = ProcessInfo.processInfo.environment
            environment["RANK"] = "\(rank)"
            environment["WORLD_SIZE"] = "\(count)"
            environment["LOCAL_RANK"] = "\(rank)"
            environment["LOCAL_WORLD_SIZE"] = "\(count)"
            environment["MASTER_ADDR"] = "127.0.0.1"
            environment["MASTER_PORT"] = "\(port)"
            environment["SKEIN_SECRET_FILE"] = secret
            change(rank, &environment)
            process.environment = environment
            _ = FileManager.default.createFile(atPath: files[rank], contents: nil)
            let file = try FileHandle(forWritingTo: URL(fileURLWithPath: files[rank]))
            process.standardOutput = file
            process.standardError = file
            process.standardInput = FileHandle.nullDevice
            try process.run()
            processes.append(process)
        }
    }

    /// Returns when they are gone: until then they hold the run's folder, which the next ranks may want.
    deinit {
        for process in processes where process.isRunning { kill(process.processIdentifier, SIGKILL) }
        let limit = now() + 5
        while processes.contains(where: \.isRunning), now() < limit { usleep(1_000) }
    }

    func text(_ rank: Int) -> String {
        (try? String(contentsOfFile: files[rank], encoding: .utf8)) ?? ""
    }

    /// Waits until a rank has printed `words`, or all have ended.
    func wait(for words: String, of rank: Int = 0) {
        while !text(rank).contains(words), processes.contains(where: \.isRunning) { usleep(5_000) }
    }

    /// Waits for one rank's end, for at most `seconds`; nil if it is still there then.
    func end(_ rank: Int, within seconds: Double = 60) -> Ended? {
        let limit = now() + seconds
        while processes[rank].isRunning {
            if now() > limit { return nil }
            usleep(5_000)
        }
        return Ended(code: processes[rank].terminationStatus, text: text(rank), at: now())
    }

    func ends() -> [Ended?] { processes.indices.map { end($0) } }
}

func now() -> Double {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}
