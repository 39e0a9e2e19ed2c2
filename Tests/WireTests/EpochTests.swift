import Base
import Testing
import Wire
/// A mesh is closed and joined again in one process, as often as one likes, and leaves nothing.
@Suite(.serialized) struct EpochTests {
    private func live(_ epochs: Range<UInt32>, ranks: Int, _ transport: Transport, port: Int) -> [(any Error)?] {
        onThreads(ranks) { rank in
            for epoch in epochs {
                var own = options(rank: rank, worldSize: ranks, port: port)
                own.epoch = epoch
                own.transport = transport
                let mesh = try Mesh.join(own)
                try exchangeRandomMessages(mesh, count: 4, largest: 20_000, inOrder: true)
                try mesh.leave()
            }
        }
    }

    /// What is left of each life is counted in a process of its own, by SystemTests.
    @Test(arguments: [(2, Transport.shm), (3, .tcp)]) func manyEpochs(ranks: Int, transport: Transport) {
        for error in live(0..<30, ranks: ranks, transport, port: freePort()) { #expect(error == nil) }
    }

    /// A rank that is still in the last life meets nobody of the next one.
    @Test func anotherLifeIsRefused() {
        let port = freePort()
        let errors = onThreads(2) { rank in
            var own = options(rank: rank, worldSize: 2, port: port)
            own.startDeadlineSeconds = 1
            own.epoch = rank == 0 ? 8 : 7
            _ = try Mesh.join(own)
        }.map { $0 as? WireError }
        #expect(errors[0] == .disagreement(rank: 1, name: "epoch", here: "8", there: "7"))
        #expect(errors[1] == .disagreement(rank: 0, name: "epoch", here: "7", there: "8"))
    }
}
