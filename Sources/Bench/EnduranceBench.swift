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

    private static let parts = 5

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

    /// Two lines: what is more after all the epochs, and after all the collectives, and by how many bytes each.
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
        // An allocator returns memory when it likes: of five parts of the way the median tells what is left.
        let part = max(epochs / Self.parts, 1)
        var epoch = 0
        var holdings: [Holdings] = []
        let begin = MonotonicClock.seconds()
        for _ in 0...Self.parts {
            try pass(epoch..<(epoch + part))
            epoch += part
            holdings.append(Holdings())
        }
        return line("epochs", part * Self.parts, seconds: MonotonicClock.seconds() - begin, holdings)
    }

    private func work() throws -> BenchLine {
        let secret = JobSecret.random(), port = freePort()
        let found = Mutex<BenchLine?>(nil)
        try onThreads { rank in
            let mesh = try join(rank, port: port, secret: secret, epoch: 0)
            let communicator = Communicator(link: mesh)
            var holdings: [Holdings] = []
            let begin = MonotonicClock.seconds()
            for _ in 0...Self.parts {
                try exercise(communicator, collectives / Self.parts, groups / Self.parts)
                // Rank 0 looks while the others wait for it.
                if rank == 0 { holdings.append(Holdings()) }
            }
            if rank == 0 {
                let line = line("collectives", collectives, seconds: MonotonicClock.seconds() - begin, holdings)
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

    /// `holdings` after a first part, and after each of the five that count.
    private func line(_ what: String, _ count: Int, seconds: Double, _ holdings: [Holdings]) -> BenchLine {
        let first = holdings[0], last = holdings[holdings.count - 1]
        let growth = zip(holdings, holdings.dropFirst()).map { Double($1.bytes - $0.bytes) }
        var line = BenchLine(bench: "endurance", threads: 1, ranks: ranks, seconds: seconds)
        line.add("what", what)
        line.add("count", count)
        line.add("more_descriptors", last.descriptors - first.descriptors)
        line.add("more_threads", last.threads - first.threads)
        line.add("bytes_each", median(growth) / Double(count / Self.parts))
        return line
    }
}
