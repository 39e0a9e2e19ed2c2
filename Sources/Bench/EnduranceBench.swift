import Base
import Collectives
import Foundation
import Synchronization
import Wire

/// Joins, works and leaves many times in one process, and does many collectives over many groups in one life, with all
/// ranks as threads of this process: nothing of it may be left.
public struct EnduranceBench: Sendable {
    public var ranks = 3
    public var epochs = 100
    public var collectives = 10_000
    public var groups = 1_000

    public init() {}

    /// What a process holds.
    private struct Holdings {
        let descriptors: Int
        let threads: Int
        let bytes: Int

        /// Of this process, now.
        init() {
            func count(_ path: String) -> Int {
                (try? FileManager.default.contentsOfDirectory(atPath: path).count) ?? -1
            }
            descriptors = count("/proc/self/fd")
            threads = count("/proc/self/task")
            let words = ((try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? "").split(separator: " ")
            bytes = words.count > 1 ? (Int(words[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
        }
    }

    /// Two lines: what is more after all the epochs, and after all the collectives, than after a tenth of them.
    public func run() throws -> [BenchLine] { [try live(), try work()] }

    private func live() throws -> BenchLine {
        let secret = JobSecret.random(), port = freePort()
        func pass(_ range: Range<Int>) throws {
            try onThreads { rank in
                for epoch in range {
                    let mesh = try join(rank, port: port, secret: secret, epoch: epoch)
                    try Communicator(link: mesh).barrier()
                    try mesh.leave()
                }
            }
        }
        let warm = max(epochs / 10, 5)
        try pass(0..<warm)
        let before = Holdings(), begin = MonotonicClock.seconds()
        try pass(warm..<(warm + epochs))
        return line("epochs", epochs, seconds: MonotonicClock.seconds() - begin, from: before, to: Holdings())
    }

    private func work() throws -> BenchLine {
        let secret = JobSecret.random(), port = freePort()
        let found = Mutex<BenchLine?>(nil)
        try onThreads { rank in
            let mesh = try join(rank, port: port, secret: secret, epoch: 0)
            let communicator = Communicator(link: mesh)
            try exercise(communicator, collectives / 10, groups / 10)
            // Rank 0 looks while the others wait for it.
            let before = rank == 0 ? Holdings() : nil, begin = MonotonicClock.seconds()
            try exercise(communicator, collectives, groups)
            let seconds = MonotonicClock.seconds() - begin
            if let before {
                let line = line("collectives", collectives, seconds: seconds, from: before, to: Holdings())
                found.withLock { $0 = line }
            }
            try communicator.barrier()
            try mesh.leave()
        }
        guard let line = found.withLock({ $0 }) else { preconditionFailure("rank 0 has measured") }
        return line
    }

    private func exercise(_ communicator: Communicator, _ count: Int, _ groupCount: Int) throws {
        let numbers = UnsafeMutableBufferPointer<Float>.allocate(capacity: 4096)
        defer { unsafe numbers.deallocate() }
        unsafe numbers.initialize(repeating: 0)
        for number in 0..<count {
            let part = unsafe UnsafeMutableBufferPointer(rebasing: numbers[..<(1 + number * 31 % 4096)])
            try unsafe communicator.allReduce(part).wait()
        }
        for number in 0..<groupCount {
            // All but one rank, each in turn.
            let members = (0..<ranks).filter { $0 != number % ranks }
            if let group = communicator.makeGroup(members) {
                try unsafe communicator.allReduce(numbers, in: group).wait()
            }
        }
        try communicator.barrier()
    }

    private func join(_ rank: Int, port: Int, secret: JobSecret, epoch: Int) throws -> Mesh {
        var options = MeshOptions(rank: rank, worldSize: ranks, masterHost: "127.0.0.1", masterPort: port,
                                  secret: secret, jobID: "bench endurance")
        options.epoch = UInt32(epoch)
        options.spins = false
        options.heartbeatSeconds = 30
        return try Mesh.join(options)
    }

    /// Runs `body` for each rank on a thread of its own, and throws the first error.
    private func onThreads(_ body: @escaping @Sendable (Int) throws -> Void) throws {
        let problem = Failure()
        let threads = (0..<ranks).map { rank in
            startThread {
                do { try body(rank) } catch { problem.first.withLock { $0 = $0 ?? error } }
            }
        }
        for thread in threads { pthread_join(thread, nil) }
        if let error = problem.first.withLock({ $0 }) { throw error }
    }

    private final class Failure: Sendable { let first = Mutex<(any Error)?>(nil) }

    private func line(_ what: String, _ count: Int, seconds: Double, from: Holdings, to: Holdings) -> BenchLine {
        var line = BenchLine(bench: "endurance", threads: 1, ranks: ranks, seconds: seconds)
        line.add("what", what)
        line.add("count", count)
        line.add("more_descriptors", to.descriptors - from.descriptors)
        line.add("more_threads", to.threads - from.threads)
        line.add("more_bytes", to.bytes - from.bytes)
        return line
    }
}
