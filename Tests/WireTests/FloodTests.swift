import Base
import Synchronization
import Testing
import Wire
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Strangers at the ports of a job that starts, over real sockets: they change nothing but a counter.
@Suite(.serialized) struct FloodTests {
    private func expectCalm(_ errors: [(any Error)?]) {
        for (rank, error) in errors.enumerated() { #expect(error == nil, "rank \(rank)") }
    }

    /// Connections at a rate, until told to stop: silent ones, garbage, and a recorded first message in turn. Each is
    /// held for a while, so that many are open at once. Returns how many were made.
    @Sendable private func flood(_ port: Int, perSecond: Int, until isOver: borrowing Atomic<Bool>) -> Int {
        var recorded = Handshake(connectingTo: 0, stream: 0, identity: Identity(
            rank: 1, worldSize: 2, jobID: "test", epoch: 0, protection: .checked, claims: []), secret: testSecret,
            address: "x")
        let replay = recorded.open()
        var held: [RawSocket] = []
        var made = 0
        let begin = MonotonicClock.seconds()
        while !isOver.load(ordering: .sequentiallyConsistent) {
            let due = Int((MonotonicClock.seconds() - begin) * Double(perSecond))
            while made < due, let socket = RawSocket(port: port) {
                made += 1
                if made % 3 == 1 { socket.write([UInt8](repeating: 0x47, count: 300)) }
                if made % 3 == 2 { socket.write(replay) }
                held.append(socket)
                if held.count > 200 { held.removeFirst() }
            }
            usleep(1000)
        }
        return made
    }

    /// 1,000 connections a second from before the first rank comes: all ranks find each other all the same, and soon.
    @Test func aFloodKeepsNobodyOut() {
        let port = freePort()
        let isOver = Atomic<Bool>(false), made = Atomic<Int>(0)
        let seconds = Mutex<Double>(0), strangers = Atomic<Int>(0)
        let errors = onThreads(4) { index in
            if index == 3 {
                return made.store(flood(port, perSecond: 1000, until: isOver), ordering: .sequentiallyConsistent)
            }
            defer { isOver.store(true, ordering: .sequentiallyConsistent) }
            // The last one comes when the flood has lasted for two seconds.
            if index == 2 { usleep(2_000_000) }
            let begin = MonotonicClock.seconds()
            let mesh = try Mesh.join(options(rank: index, worldSize: 3, port: port))
            if index == 2 { seconds.withLock { $0 = MonotonicClock.seconds() - begin } }
            if index == 0 { strangers.store(mesh.strangerCount, ordering: .sequentiallyConsistent) }
            try exchangeRandomMessages(mesh, count: 8)
            try mesh.leave()
        }
        expectCalm(errors)
        let count = made.load(ordering: .sequentiallyConsistent)
        let found = strangers.load(ordering: .sequentiallyConsistent)
        #expect(count > 500 && found > 300, "\(count) connections, \(found) strangers")
        #expect(seconds.withLock { $0 } < 3, "\(seconds.withLock { $0 }) s under the flood")
    }

    /// Noise, half a handshake and silence on every port before the ranks come.
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
            half?.write(Array("SKH2".utf8))
            let liar = RawSocket(port: port)
            liar?.write(Array("SKH2".utf8) + noise)
            for case let socket? in [loud, half, liar] { open.append(socket) }
        }
        expectCalm(onThreads(3) { rank in
            var open: [RawSocket] = []
            for _ in 0..<(2 * rank) {
                bother(port, &open)
                usleep(50_000)
            }
            let mesh = try Mesh.join(options(rank: rank, worldSize: 3, port: port))
            try exchangeRandomMessages(mesh, count: 16)
            try mesh.leave()
        })
    }

    /// A listener drops who stays silent, and the oldest when too many come from one host.
    @Test func silentConnectionsAreDropped() {
        let port = freePort()
        expectCalm(onThreads(2) { rank in
            if rank == 1 {
                var first: RawSocket?
                while first == nil { first = RawSocket(port: port) }
                let others = try (0..<Gate.hostLimit).map { _ in try #require(RawSocket(port: port)) }
                // The last one pushes the first one out, and is dropped when its time is over.
                #expect(first?.read(100) == Handshake.busyReply)
                #expect(others[Gate.hostLimit - 1].read(100) == [])
            }
            let mesh = try Mesh.join(options(rank: rank, worldSize: 2, port: port))
            if rank == 0 { #expect(mesh.strangerCount == Gate.hostLimit + 1) }
            try mesh.leave()
        })
    }

    /// A rank that loses patience in the middle of a handshake, because the other end was stopped, and comes again, is
    /// not kept out by what is left of its first attempt, wherever it broke off.
    @Test(arguments: 2...3) func whoLosesPatienceComesAgain(message: Int) {
        let port = freePort()
        expectCalm(onThreads(2) { rank in
            if rank == 0 {
                let mesh = try Mesh.join(options(rank: 0, worldSize: 2, port: port))
                return try mesh.leave(within: 0.2)
            }
            var broken = try #require(waitForListener(port))
            for _ in 0..<3 {
                try RawStream.breakOff(broken, before: message)
                broken.close()
                broken = try #require(RawSocket(port: port))
            }
            let peer = try RawPeer(port: port)
            peer.control.send(.goodbye)
            #expect(peer.control.next(.goodbye) != nil)
        })
    }

    @Sendable private func waitForListener(_ port: Int) -> RawSocket? {
        for _ in 0..<500 {
            if let socket = RawSocket(port: port) { return socket }
            usleep(10_000)
        }
        return nil
    }
}

@Suite struct GateTests {
    private func address(_ host: UInt8) -> SocketAddress { SocketAddress(host: [10, 0, 0, host], port: 1) }

    @Test func aFloodingHostTakesPlacesFromItselfOnly() {
        var gate = Gate()
        for rank in 0..<20 { #expect(gate.admit(rank, from: address(UInt8(rank)), until: 9) == nil) }
        var evicted: [Int] = []
        for stranger in 100..<1100 {
            if let leaves = gate.admit(stranger, from: address(200), until: 9) { evicted.append(leaves) }
        }
        #expect(evicted == Array(100..<(1100 - Gate.hostLimit)))
        #expect(gate.count == 20 + Gate.hostLimit)
    }

    /// Many hosts together: those that have got furthest stay, and never more than there is room for.
    @Test func whoHasGotFurtherStays() {
        var gate = Gate()
        for rank in 0..<8 {
            _ = gate.admit(rank, from: address(1), until: 9)
            gate.advance(rank, to: .knowing)
        }
        for stranger in 100..<1000 {
            let leaves = gate.admit(stranger, from: address(UInt8(2 + stranger % 200)), until: 9)
            #expect(leaves ?? 100 >= 100)
            #expect(gate.count <= Gate.limit)
        }
    }

    @Test func timeRunsOutInTurn() {
        var gate = Gate()
        for connection in 0..<5 { _ = gate.admit(connection, from: address(1), until: UInt64(10 + connection)) }
        #expect(gate.late(at: 11) == [0, 1])
        gate.extend(by: 100)
        #expect(gate.late(at: 11) == [])
        gate.leave(0)
        #expect(gate.late(at: 112) == [1, 2])
    }

    /// An IPv6 host is its network, however many addresses it takes.
    @Test func aNetworkIsOneHost() {
        var gate = Gate()
        var evicted = 0
        for count in 0..<100 {
            let host = [0x20, 1] + [UInt8](repeating: 7, count: 13) + [UInt8(count)]
            if gate.admit(count, from: SocketAddress(host: host, port: 1), until: 9) != nil { evicted += 1 }
        }
        #expect(evicted == 100 - Gate.hostLimit)
    }
}
