import Base
import Collectives
import Foundation
import Synchronization
import Testing
import Wire

/// Every collective over real sockets: the ranks are threads of this process, each with a mesh of its own.
@Suite struct SocketTests {
    private static let lengths = [0, 1, 1_009, 400_009]

    @Test(arguments: [2, 4], [Transport.tcp, .shm])
    func everyCollectiveEqualsTheNaiveSum(ranks: Int, transport: Transport) throws {
        let problems = try onSockets(ranks, transport) { communicator in
            var wrong: [String] = []
            for count in Self.lengths {
                // Whole numbers below 2^24 in all, so that every order of the sum is exact.
                let inputs = (0..<ranks).map { rank in
                    (0..<count).map { Float(($0 * 7 + rank * 13) % 1_000) }
                }
                let sum = (0..<count).map { index in inputs.reduce(0) { $0 + $1[index] } }
                let own = inputs[communicator.rank]
                let parts = Partition(evenly: count, over: ranks)
                let mine = parts.bounds[communicator.rank]..<parts.bounds[communicator.rank + 1]

                let reduced = try unsafe with(own) { try unsafe communicator.allReduce($0).wait() }
                if reduced != sum { wrong.append("all-reduce of \(count)") }

                let scattered = try unsafe with(own) { try unsafe communicator.reduceScatter($0).wait() }
                if Array(scattered[mine]) != Array(sum[mine]) { wrong.append("reduce-scatter of \(count)") }

                var gathered = [Float](repeating: -1, count: count)
                gathered.replaceSubrange(mine, with: own[mine])
                gathered = try unsafe with(gathered) { try unsafe communicator.allGather($0).wait() }
                let expected = (0..<ranks).flatMap { Array(inputs[$0][parts.bounds[$0]..<parts.bounds[$0 + 1]]) }
                if gathered != expected { wrong.append("all-gather of \(count)") }

                for root in 0..<ranks {
                    let copied = try unsafe with(own) { buffer in
                        try unsafe communicator.broadcast(UnsafeMutableRawBufferPointer(buffer), from: root).wait()
                    }
                    if copied != inputs[root] { wrong.append("broadcast of \(count) from \(root)") }
                }
            }
            try communicator.barrier()
            return wrong
        }
        #expect(problems == Array(repeating: [], count: ranks))
    }

    /// `values` as memory for a collective, and what it holds afterwards.
    private func with(_ values: [Float], _ body: (UnsafeMutableBufferPointer<Float>) throws -> Void)
        rethrows -> [Float] {
        let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: values.count)
        defer { unsafe buffer.deallocate() }
        _ = unsafe buffer.initialize(from: values)
        try unsafe body(buffer)
        return unsafe Array(buffer)
    }

    private func onSockets(_ ranks: Int, _ transport: Transport,
                           _ body: @escaping @Sendable (Communicator) throws -> [String]) throws -> [[String]] {
        let port = freePort()
        let secret = JobSecret.random()
        let results = Mutex<[Int: [String]]>([:])
        let finished = DispatchSemaphore(value: 0)
        for rank in 0..<ranks {
            Thread {
                var found: [String]
                do {
                    var options = MeshOptions(rank: rank, worldSize: ranks, masterHost: "127.0.0.1", masterPort: port,
                                              secret: secret, jobID: "sockets")
                    options.spins = false
                    options.transport = transport
                    // Threads that share a machine with other tests may be late.
                    options.heartbeatSeconds = 30
                    let mesh = try Mesh.join(options)
                    found = try body(Communicator(link: mesh))
                    try mesh.leave()
                } catch {
                    found = ["\(error)"]
                }
                results.withLock { $0[rank] = found }
                finished.signal()
            }.start()
        }
        for _ in 0..<ranks { finished.wait() }
        return results.withLock { results in (0..<ranks).map { results[$0] ?? ["no result"] } }
    }
}
