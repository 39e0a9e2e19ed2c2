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
        expectCalm(runJob(worldSize: worldSize, { own in
            own.protection = protection
            own.transport = .tcp
        }) { mesh in
            #expect(mesh.sharedPeers.isEmpty)
            try exchangeRandomMessages(mesh, count: 24)
            try mesh.leave()
        })
    }

    @Test func severalStreamsSpinningAndATinyEarlyBuffer() {
        expectCalm(runJob(worldSize: 3, { own in
            own.dataStreams = 2
            own.transport = .tcp
            own.spins = own.rank == 0
            own.earlyByteCount = 1000
        }) { mesh in
            try exchangeRandomMessages(mesh, count: 24, largest: 900)
            try mesh.leave()
        })
    }

    /// Much more than sockets hold, to a rank that asks for it late.
    @Test func backpressure() {
        expectCalm(runJob(worldSize: 2, { own in
            own.earlyByteCount = 1 << 20
            own.transport = .tcp
        }) { mesh in
            if mesh.rank == 1 { usleep(200_000) }
            try exchangeRandomMessages(mesh, count: 8, largest: 8 << 20)
            try mesh.leave()
        })
    }

    /// Through memory: all sizes both ways, asked for in the order of sending, with and without spinning, and with
    /// messages far longer than the ring.
    @Test(arguments: [2, 3, 4], [Protection.checked, .sealed])
    func messagesThroughMemory(worldSize: Int, protection: Protection) {
        for spins in [false, true] {
            expectCalm(runJob(worldSize: worldSize, { own in
                own.protection = protection
                own.transport = .shm
                own.spins = spins
            }) { mesh in
                #expect(mesh.sharedPeers == (0..<worldSize).filter { $0 != mesh.rank })
                if mesh.rank == 1 { usleep(100_000) }
                try exchangeRandomMessages(mesh, count: 24, inOrder: true)
                try exchangeRandomMessages(mesh, count: 4, largest: 5 << 20, inOrder: true)
                try mesh.leave()
            })
        }
    }

    /// What is asked for as a sum is added, whatever way the ring's end cuts it.
    @Test func sumsInPlace() {
        let count = 700_001
        expectCalm(runJob(worldSize: 2, { $0.transport = .shm }) { mesh in
            let messenger = Messenger(mesh), peer = 1 - mesh.rank
            #expect(mesh.addsInPlace(from: peer))
            let own = UnsafeMutableBufferPointer<Float>.allocate(capacity: count)
            let sum = UnsafeMutableBufferPointer<Float>.allocate(capacity: count)
            defer {
                unsafe own.deallocate()
                unsafe sum.deallocate()
            }
            for i in 0..<count {
                unsafe own[i] = Float(i + mesh.rank)
                unsafe sum[i] = Float(i + mesh.rank)
            }
            for round in 0..<5 as Range<UInt32> {
                let tag = MessageTag(operation: 1, fingerprint: 2, segment: round)
                unsafe mesh.receive(into: UnsafeMutableRawBufferPointer(sum), from: peer, tag: tag, token: 1,
                                    sum: LinkSum { into, from, bytes in
                    let into = unsafe into.assumingMemoryBound(to: Float.self)
                    let from = unsafe from.assumingMemoryBound(to: Float.self)
                    for i in 0..<(bytes / 4) { unsafe into[i] += from[i] }
                })
                unsafe messenger.send(UnsafeRawBufferPointer(UnsafeBufferPointer(own)), to: peer, tag: tag, token: 0)
                var done = 0
                while done < 2 { done += messenger.poll(until: mesh.now + 1_000_000_000).count }
            }
            for i in 0..<count {
                let expected = Float(i + mesh.rank) + 5 * Float(i + peer)
                if unsafe sum[i] != expected { throw Disappointment(description: "element \(i)") }
            }
            withExtendedLifetime(messenger) {}
            try mesh.leave()
        })
    }

    /// A buffer that is taken back is not written any more, half a message or not, and what comes for the next user
    /// of the mesh arrives.
    @Test(arguments: [Transport.tcp, .shm], [Protection.checked, .sealed])
    func withdrawal(transport: Transport, protection: Protection) {
        expectCalm(runJob(worldSize: 2, { own in
            own.transport = transport
            own.protection = protection
        }) { mesh in
            let size = 6 << 20
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
            defer { unsafe memory.deallocate() }
            unsafe memory.initializeMemory(as: UInt8.self, repeating: 7)
            let tag = MessageTag(operation: 1, fingerprint: 2, segment: 0)
            let go = MessageTag(operation: 1, fingerprint: 2, segment: 1)
            if mesh.rank == 0 {
                let messenger = Messenger(mesh)
                unsafe messenger.send(UnsafeRawBufferPointer(memory), to: 1, tag: tag, token: 0)
                while messenger.poll(until: mesh.now + 1_000_000).isEmpty {}
                withExtendedLifetime(messenger) {}
            } else {
                do {
                    let messenger = Messenger(mesh)
                    unsafe memory.initializeMemory(as: UInt8.self, repeating: 9)
                    unsafe mesh.receive(into: memory, from: 0, tag: tag, token: 0)
                    while unsafe memory[1000] == 9 { _ = messenger.poll(until: 0) }
                }
                // Somebody else's from here on.
                unsafe memory.initializeMemory(as: UInt8.self, repeating: 5)
            }
            let next = Messenger(mesh)
            let word = UnsafeMutableRawBufferPointer.allocate(byteCount: 8, alignment: 8)
            defer { unsafe word.deallocate() }
            unsafe word.storeBytes(of: UInt64(mesh.rank), as: UInt64.self)
            if mesh.rank == 0 {
                unsafe next.send(UnsafeRawBufferPointer(word), to: 1, tag: go, token: 0)
            } else {
                unsafe mesh.receive(into: word, from: 0, tag: go, token: 0)
            }
            while next.poll(until: mesh.now + 1_000_000_000).isEmpty {}
            if mesh.rank == 1 {
                #expect(unsafe word.load(as: UInt64.self) == 0)
                #expect(unsafe memory.allSatisfy { $0 == 5 })
            }
            withExtendedLifetime(next) {}
            try mesh.leave()
        })
    }

    /// A wait ends when another thread says so, in the middle of it or before it.
    @Test func aWaitCanBeEnded() {
        expectCalm(runJob(worldSize: 2) { mesh in
            let messenger = Messenger(mesh), begin = MonotonicClock.seconds()
            mesh.wake()
            #expect(messenger.poll(until: mesh.now + 20_000_000_000).isEmpty)
            let other = startThread {
                usleep(50_000)
                mesh.wake()
            }
            #expect(messenger.poll(until: mesh.now + 20_000_000_000).isEmpty)
            pthread_join(other, nil)
            #expect(MonotonicClock.seconds() - begin < 15)
            withExtendedLifetime(messenger) {}
            try mesh.leave()
        })
    }

    /// Who waits is asked itself; for who computes the link answers, although megabytes of data lie between the two.
    @Test(arguments: [Transport.tcp, .shm])
    func questionsPassData(transport: Transport) {
        expectCalm(runJob(worldSize: 3, { $0.transport = transport }) { mesh in
            let messenger = Messenger(mesh)
            if mesh.rank == 1 { usleep(400_000) }
            let size = 16 << 20
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
            defer { unsafe memory.deallocate() }
            unsafe memory.initializeMemory(as: UInt8.self, repeating: 7)
            let tag = MessageTag(operation: 1, fingerprint: 2, segment: 0)
            if mesh.rank == 0 {
                unsafe messenger.send(UnsafeRawBufferPointer(memory), to: 1, tag: tag, token: 5)
                usleep(200_000)
                mesh.inquire()
                var answers: [Int: LinkAnswer] = [:]
                var isSent = false
                while answers.count < 2 || !isSent {
                    for event in messenger.poll(until: mesh.now + 1_000_000_000) {
                        if case .answered(let peer, let answer) = event { answers[peer] = answer }
                        if case .sent = event { isSent = true }
                    }
                    if answers.count == 2, !isSent { #expect(answers[2] == .waits(for: 0)) }
                }
                if case .computes(let time)? = answers[1] {
                    #expect(time > 10_000_000)
                } else {
                    Issue.record("\(answers)")
                }
            } else {
                if mesh.rank == 1 { unsafe mesh.receive(into: memory, from: 0, tag: tag, token: 6) }
                let limit = mesh.now + 700_000_000
                var isThere = mesh.rank == 2
                while mesh.now < limit || !isThere {
                    for event in messenger.poll(until: limit) { if case .received = event { isThere = true } }
                }
            }
            withExtendedLifetime(messenger) {}
            try mesh.leave()
        })
    }

    /// However much is offered, a rank pulls no more than the kernel takes and one message, and keeps no copy but the
    /// sealed one of that.
    @Test(arguments: [Protection.checked, .sealed])
    func littleIsHeldForSending(protection: Protection) {
        expectCalm(runJob(worldSize: 2, { own in
            own.protection = protection
            own.transport = .tcp
            own.earlyByteCount = 1 << 20
        }) { mesh in
            let size = 1 << 19, count = 256
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
            defer { unsafe memory.deallocate() }
            unsafe memory.initializeMemory(as: UInt8.self, repeating: 7)
            let messenger = Messenger(mesh)
            func tag(_ index: Int) -> MessageTag { MessageTag(operation: 1, fingerprint: 2, segment: UInt32(index)) }
            if mesh.rank == 0 {
                for index in 0..<count {
                    unsafe messenger.send(UnsafeRawBufferPointer(memory), to: 1, tag: tag(index), token: 0)
                }
                // The other reads nothing yet.
                for _ in 0..<50 {
                    _ = messenger.poll(until: mesh.now + 2_000_000)
                    #expect(mesh.heldByteCount <= (protection == .sealed ? size + 16 : 0))
                }
                #expect(messenger.waitingCount(1) > count / 2)
                var isDone = false
                let back = MessageTag(operation: 2, fingerprint: 2, segment: 0)
                unsafe mesh.receive(into: UnsafeMutableRawBufferPointer(rebasing: memory[..<8]), from: 1, tag: back,
                                    token: 1)
                while !isDone {
                    for event in messenger.poll(until: mesh.now + 1_000_000_000) {
                        if case .received = event { isDone = true }
                    }
                }
            } else {
                usleep(300_000)
                for index in 0..<count {
                    unsafe mesh.receive(into: memory, from: 0, tag: tag(index), token: 0)
                    while messenger.poll(until: mesh.now + 1_000_000_000).isEmpty {}
                }
                let back = MessageTag(operation: 2, fingerprint: 2, segment: 0)
                unsafe messenger.send(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory)[..<8]), to: 0,
                                      tag: back, token: 0)
                while messenger.poll(until: mesh.now + 1_000_000_000).isEmpty {}
            }
            withExtendedLifetime(messenger) {}
            try mesh.leave()
        })
    }

    @Test(arguments: ["localhost", "::1"]) func namesAndIPv6(host: String) {
        expectCalm(runJob(worldSize: 2, { $0.masterHost = host }) { mesh in
            try exchangeRandomMessages(mesh, count: 4)
            try mesh.leave()
        })
    }

    /// By an interface's name; one that is not there is named together with those that are.
    @Test func anInterface() throws {
        #expect(try SocketAddress.ofInterface("lo").isLoopback)
        let error = #expect(throws: WireError.self) { try SocketAddress.ofInterface("nosuch0") }
        #expect(error?.description.contains("cannot find host nosuch0") == true && error?.kind == .badInput)
        #expect(error?.description.contains("lo") == true)
        expectCalm(runJob(worldSize: 2, { $0.interface = "lo" }) { mesh in
            #expect(mesh.listeningAddress?.isLoopback == true)
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
}
