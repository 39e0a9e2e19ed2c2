import Base
import Foundation
import Glibc

/// Kills and stops ranks of one job that replaces them, one after the other, rank 0 as well as others; then compares
/// the weights with those of a job that nobody disturbed.
public struct ElasticBench {
    public var injections = 20
    public var ranks = 4
    /// Between two of them, if the job is whole again by then.
    public var interval = 2.0
    /// Whom they hit, and how, is a function of it.
    public var seed = 0
    private let program: String
    private let folder = NSTemporaryDirectory() + "skein-elastic-\(UUID().uuidString)"
    /// Longer than a recovery may take, on a machine that is busy with other things.
    private static let patience = 60.0

    public init(program: String) { self.program = program }

    private static let config = """
        [job]
        name = "calm"
        [model]
        dim = 64
        n_layers = 2
        n_heads = 4
        [data]
        paths = ["text.txt"]
        [training]
        seq_len = 64
        local_batch_size = 1
        global_batch_size = 8
        threads = 1
        [comm]
        heartbeat_seconds = 2.0
        [checkpoint]
        interval = 200

        """

    /// One line, and why it is wrong if it is: somebody hung, or a bit differs.
    public func run() throws -> (line: BenchLine, wrong: String?) {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let words = (0..<4_000).map { "word\(($0 * $0 + 7 * $0) % 97)" }.joined(separator: " ")
        try Data(words.utf8).write(to: URL(fileURLWithPath: folder + "/text.txt"))
        try Data(Self.config.utf8).write(to: URL(fileURLWithPath: folder + "/run.toml"))
        let steps = try calibrate()
        let calm = try start("calm", steps)
        calm.waitUntilExit()
        guard calm.terminationStatus == 0 else { throw BadInput("the calm job failed: \(said("calm"))") }
        let begin = MonotonicClock.seconds()
        let (pauses, held, problem) = try disturb(steps)
        var line = BenchLine(bench: "faults", threads: 1, ranks: ranks, seconds: median(pauses))
        line.add("injection", "elastic")
        line.add("injections", pauses.count)
        line.add("worst_s", pauses.max() ?? 0)
        line.add("steps", steps)
        // Of the rank that has most: after the first injection, and after the last.
        line.add("descriptors_first", held.first?.descriptors ?? 0)
        line.add("descriptors_last", held.last?.descriptors ?? 0)
        line.add("threads_first", held.first?.threads ?? 0)
        line.add("threads_last", held.last?.threads ?? 0)
        line.add("resident_first", held.first?.bytes ?? 0)
        line.add("resident_last", held.last?.bytes ?? 0)
        line.add("job_s", MonotonicClock.seconds() - begin)
        let wrong = try problem ?? compare(steps)
        line.add("same_bits", wrong == nil ? 1 : 0)
        line.note = wrong
        return (line, wrong)
    }

    private func start(_ name: String, _ steps: Int, _ flags: [String] = []) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = ["launch", "-n", "\(ranks)", "run.toml", "--job.name", name, "--training.steps",
                             "\(steps)"] + flags
        process.currentDirectoryURL = URL(fileURLWithPath: folder)
        let path = "\(folder)/\(name).out"
        _ = FileManager.default.createFile(atPath: path, contents: nil)
        let output = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        process.standardOutput = output
        process.standardError = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
        return process
    }

    private func said(_ name: String) -> String {
        let text = (try? String(contentsOfFile: "\(folder)/\(name).out", encoding: .utf8)) ?? ""
        return oneLine(String(text.suffix(600)))
    }

    /// Steps that last for about as long as the injections.
    private func calibrate() throws -> Int {
        let process = try start("trial", 100)
        var first: Double?
        while process.isRunning, first == nil {
            if done("trial") > 0 { first = MonotonicClock.seconds() }
            usleep(1_000)
        }
        process.waitUntilExit()
        let seconds = MonotonicClock.seconds() - (first ?? MonotonicClock.seconds())
        return max(300, Int(100 / max(seconds, 0.05) * interval * Double(injections)))
    }

    /// Steps of a job that are in its log.
    private func done(_ name: String) -> Int {
        let path = "\(folder)/outputs/\(name)/metrics.jsonl"
        guard let bytes = FileManager.default.contents(atPath: path) else { return 0 }
        return bytes.count { $0 == UInt8(ascii: "\n") }
    }

    /// Of several processes the most that one has.
    private struct Holdings {
        var descriptors = 0
        var threads = 0
        var bytes = 0

        init(_ processes: [pid_t]) {
            for pid in processes {
                func count(_ folder: String) -> Int {
                    (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/\(folder)").count) ?? 0
                }
                descriptors = max(descriptors, count("fd"))
                threads = max(threads, count("task"))
                let words = ((try? String(contentsOfFile: "/proc/\(pid)/statm", encoding: .utf8)) ?? "")
                    .split(separator: " ")
                if words.count > 1 { bytes = max(bytes, (Int(words[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE)))) }
            }
        }
    }

    /// Seconds from each injection to the next step behind the one before it, what the ranks held then, and what went
    /// wrong.
    private func disturb(_ steps: Int) throws -> (pauses: [Double], held: [Holdings], problem: String?) {
        let process = try start("disturbed", steps, ["--launch.elastic", "replace"])
        defer { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }
        let random = CounterRNG(seed: UInt64(seed), stream: 0xE1)
        var pauses: [Double] = [], held: [Holdings] = []
        func wait(until isTrue: () -> Bool) -> Bool {
            let limit = MonotonicClock.seconds() + Self.patience
            while process.isRunning, !isTrue() {
                if MonotonicClock.seconds() > limit { return false }
                usleep(2_000)
            }
            return process.isRunning
        }
        guard wait(until: { done("disturbed") > 1 }) else { return ([], [], said("disturbed")) }
        for number in 0..<injections {
            usleep(UInt32(interval * 1e6 * Double(random.integer(below: 1_000, at: UInt64(3 * number))) / 2_000))
            let members = members(of: process.processIdentifier)
            guard process.isRunning, members.count == ranks else {
                return (pauses, held, "\(members.count) ranks before injection \(number + 1): \(said("disturbed"))")
            }
            let victim = members[random.integer(below: ranks, at: UInt64(3 * number + 1))]
            let before = done("disturbed"), begin = MonotonicClock.seconds()
            kill(victim, random.integer(below: 4, at: UInt64(3 * number + 2)) == 0 ? SIGSTOP : SIGKILL)
            // The step at hand may have been finished; the one behind it needs all ranks.
            let isBack = wait {
                done("disturbed") > before + 1 && self.members(of: process.processIdentifier).count == ranks
                    && !self.members(of: process.processIdentifier).contains(victim)
            }
            guard isBack else { return (pauses, held, "injection \(number + 1): \(said("disturbed"))") }
            pauses.append(MonotonicClock.seconds() - begin)
            held.append(Holdings(self.members(of: process.processIdentifier)))
            let rest = interval - (MonotonicClock.seconds() - begin)
            if rest > 0 { usleep(UInt32(rest * 1e6 / 2)) }
        }
        process.waitUntilExit()
        return (pauses, held, process.terminationStatus == 0 ? nil : said("disturbed"))
    }

    /// The launcher's children that train.
    private func members(of launcher: pid_t) -> [pid_t] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return names.compactMap { pid_t($0) }.sorted().filter { pid in
            guard let words = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline"),
                  words.split(separator: 0).dropFirst().first.map({ Array($0) == Array("train".utf8) }) ?? false,
                  let status = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else { return false }
            // Behind the name in brackets: the state, and the parent.
            let fields = status.split(separator: ")").last?.split(separator: " ") ?? []
            return fields.count > 1 && fields[0] != "Z" && fields[1] == "\(launcher)"
        }
    }

    private func compare(_ steps: Int) throws -> String? {
        func weights(_ name: String) throws -> [Data] {
            let checkpoint = "\(folder)/outputs/\(name)/checkpoint/step-\(steps)"
            let files = try FileManager.default.contentsOfDirectory(atPath: checkpoint).sorted()
            return try files.filter { $0.hasSuffix(".safetensors") }.map {
                try Data(contentsOf: URL(fileURLWithPath: "\(checkpoint)/\($0)"))
            }
        }
        let calm = try weights("calm")
        return try !calm.isEmpty && weights("disturbed") == calm ? nil : "the weights are not the calm job's"
    }
}
