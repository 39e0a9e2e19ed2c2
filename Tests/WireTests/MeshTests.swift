import Base
import Synchronization
import Testing
import Wire
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

@Suite(.serialized) struct MeshTests {
    private func expectCalm(_ errors: [(any Error)?]) {
        for (rank, error) in errors.enumerated() { #expect(error == nil, "rank \(rank)") }
    }

    @Test(arguments: [1, 2, 3, 4], [Protection.plain, .checked, .sealed])
    func messagesOfAllSizesInBothDirections(worldSize: Int, protection: Protection) {
        expectCalm(runJob(worldSize: worldSize, { $0.protection = protection }) { mesh in
            try exchangeRandomMessages(mesh, count: 24)
            try mesh.leave()
        })
    }

    @Test func severalStreamsSpinningAndATinyEarlyBuffer() {
        expectCalm(runJob(worldSize: 3, { own in
            own.dataStreams = 2
            own.spins = own.rank == 0
            own.earlyByteCount = 1000
        }) { mesh in
            try exchangeRandomMessages(mesh, count: 24, largest: 900)
            try mesh.leave()
        })
    }

    /// Much more than sockets hold, to a rank that asks for it late.
    @Test func backpressure() {
        expectCalm(runJob(worldSize: 2, { $0.earlyByteCount = 1 << 20 }) { mesh in
            if mesh.rank == 1 { usleep(200_000) }
            try exchangeRandomMessages(mesh, count: 8, largest: 8 << 20)
            try mesh.leave()
        })
    }

    @Test(arguments: ["localhost", "::1"]) func namesAndIPv6(host: String) {
        expectCalm(runJob(worldSize: 2, { $0.masterHost = host }) { mesh in
            try exchangeRandomMessages(mesh, count: 4)
            try mesh.leave()
        })
    }

    @Test func aBindAddressAndAPortRange() throws {
        let base = freePort() + 12_000
        let ports = Mutex<[Int]>([])
        expectCalm(runJob(worldSize: 3, { own in
            own.bind = "127.0.0.1"
            own.portRange = base...min(base + 20, 65_535)
        }) { mesh in
            let address = try #require(mesh.listeningAddress)
            #expect(address.host == [127, 0, 0, 1])
            if mesh.rank > 0 { ports.withLock { $0.append(Int(address.port)) } }
            try exchangeRandomMessages(mesh, count: 4)
            try mesh.leave()
        })
        ports.withLock { ports in
            let areInRange = ports.allSatisfy { (base...(base + 20)).contains($0) }
            #expect(ports.count == 2 && areInRange && Set(ports).count == 2)
        }
    }

    @Test(arguments: 0..<3) func anyRankMayComeLast(last: Int) {
        let port = freePort()
        expectCalm(onThreads(3) { rank in
            if rank == last { usleep(300_000) }
            let mesh = try Mesh.join(options(rank: rank, worldSize: 3, port: port))
            try exchangeRandomMessages(mesh, count: 4)
            try mesh.leave()
        })
    }

    /// Noise, half a handshake and silence on every port, before and during the run.
    @Test func strangersDoNotDisturb() {
        let port = freePort()
        let random = CounterRNG(seed: 8, stream: 8)
        var writer = ByteWriter(capacity: 1 << 20)
        for index in 0..<(1 << 17) { writer.append(random.bits(at: UInt64(index))) }
        let noise = writer.bytes
        @Sendable func bother(_ port: Int, _ open: inout [RawSocket]) {
            for _ in 0..<100 { if let silent = RawSocket(port: port) { open.append(silent) } }
            let loud = RawSocket(port: port)
            loud?.write(noise)
            let half = RawSocket(port: port)
            half?.write(Array("SKH1".utf8))
            let liar = RawSocket(port: port)
            liar?.write(Array("SKH1".utf8) + noise)
            for case let socket? in [loud, half, liar] { open.append(socket) }
        }
        expectCalm(onThreads(3) { rank in
            var open: [RawSocket] = []
            if rank > 0 { bother(port, &open) }
            let mesh = try Mesh.join(options(rank: rank, worldSize: 3, port: port))
            let own = try #require(mesh.listeningAddress)
            bother(Int(own.port), &open)
            bother(port, &open)
            try exchangeRandomMessages(mesh, count: 16)
            try mesh.leave()
        })
    }

    /// A listener drops who stays silent, and the oldest when too many come.
    @Test func silentConnectionsAreDropped() {
        expectCalm(runJob(worldSize: 2) { mesh in
            if mesh.rank == 0 {
                let port = try Int(#require(mesh.listeningAddress).port)
                let silent = try (0..<65).map { _ in try #require(RawSocket(port: port)) }
                // The 65th connection pushes the first one out; the last is dropped when its time is over.
                #expect(silent[0].read(100) == Handshake.busyReply)
                #expect(silent[64].read(100) == [])
            }
            try exchangeRandomMessages(mesh, count: 4)
            try mesh.leave()
        })
    }
}
