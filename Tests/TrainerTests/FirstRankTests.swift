import Base
import Collectives
import Dispatch
import Foundation
import Simulation
import Synchronization
import Testing
import Trainer

/// What rank 0 does alone, with the others waiting for longer than anybody may be silent.
@Suite struct FirstRankTests {
    private struct Broken: Error {}

    private func run(_ ranks: Int, timeout: Double,
                     _ body: @escaping @Sendable (World) throws -> String) -> [String] {
        let network = LoopbackNetwork(worldSize: ranks), results = Mutex<[Int: String]>([:])
        let finished = DispatchSemaphore(value: 0), release = DispatchSemaphore(value: 0)
        for rank in 0..<ranks {
            Thread.detachNewThread {
                let communicator = Communicator(link: network.link(rank: rank),
                                                options: CommunicatorOptions(timeoutSeconds: timeout,
                                                                             graceSeconds: 0.1))
                let world = World(communicator, rank: rank, size: ranks)
                let text: String
                do { text = try body(world) } catch { text = "\(type(of: error))" }
                results.withLock { $0[rank] = text }
                finished.signal()
                // What a rank has posted stays posted when it gives up: its memory must outlive the others' sends.
                release.wait()
                withExtendedLifetime(communicator) {}
            }
        }
        for _ in 0..<ranks { finished.wait() }
        for _ in 0..<ranks { release.signal() }
        return results.withLock { results in (0..<ranks).map { results[$0] ?? "" } }
    }

    /// Three times the silence that ends a job, and nobody is taken for dead.
    @Test func theOthersWait() {
        let found = run(2, timeout: 0.4) { world in
            let result = try world.onFirst { () -> Int in
                usleep(1_200_000)
                return 42
            }
            return "\(result ?? -1)"
        }
        #expect(found == ["42", "-1"])
    }

    /// An error is thrown where the work is; the others hear of it as of any fault.
    @Test func anErrorComesBack() {
        let found = run(2, timeout: 0.4) { world in
            do {
                _ = try world.onFirst { () -> Int in throw Broken() }
                return "done"
            } catch is Broken {
                return "broken"
            }
        }
        #expect(found[0] == "broken" && found[1] != "done")
        #expect((try? World().onFirst { 7 }) == 7)
    }
}
