import Base
import Synchronization
import Testing
import Wire
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Polls until the mesh reports a fault.
private func faultOf(_ mesh: Mesh, seconds: Double = 10) throws -> LinkFault {
    try faultOf(Messenger(mesh), seconds: seconds)
}

private func faultOf(_ messenger: Messenger, seconds: Double = 10) throws -> LinkFault {
    let limit = messenger.mesh.now + UInt64(seconds * 1e9)
    while messenger.mesh.now < limit {
        for event in messenger.poll(until: limit) { if case .failed(let fault) = event { return fault } }
    }
    throw Disappointment(description: "no fault was reported")
}

/// Memory for one message that outlives the mesh.
@safe private final class Buffer {
    let bytes: UnsafeMutableRawBufferPointer
    init(_ count: Int) { unsafe bytes = .allocate(byteCount: count, alignment: 8) }
    deinit { unsafe bytes.deallocate() }
}

private let tag = MessageTag(operation: 812, fingerprint: 6, segment: 3)

/// Runs rank 0 as a mesh that waits for a message of 64 bytes from rank 1, which is `misbehave`. Returns
/// rank 0's fault.
private func fault(heartbeat: Double = 5,
                   _ misbehave: @escaping @Sendable (RawPeer) throws -> Void) throws -> LinkFault {
    let port = freePort()
    let found = Mutex<LinkFault?>(nil)
    let errors = onThreads(2) { index in
        if index == 1 {
            let peer = try RawPeer(port: port)
            #expect(peer.data.next(.data) == [1])
            return try misbehave(peer)
        }
        var own = options(rank: 0, worldSize: 2, port: port)
        own.heartbeatSeconds = heartbeat
        let mesh = try Mesh.join(own), messenger = Messenger(mesh)
        let buffer = Buffer(64)
        mesh.begin(operation: 812, name: "all-reduce", bytes: 4 << 20)
        unsafe mesh.receive(into: buffer.bytes, from: 1, tag: tag, token: 0)
        let go = Buffer(1)
        unsafe go.bytes[0] = 1
        unsafe messenger.send(UnsafeRawBufferPointer(go.bytes), to: 1, tag: tag, token: 0)
        let fault = try faultOf(messenger)
        // It is reported again, at once, on every later call.
        #expect(try faultOf(messenger) == fault)
        found.withLock { $0 = fault }
    }
    for case let error? in errors { throw error }
    return try #require(found.withLock { $0 })
}

/// Real sockets against a peer that misbehaves.
@Suite(.serialized) struct FailureTests {
    /// A socket that is closed with heartbeats unread says "reset" instead of "closed".
    private func expect(_ fault: LinkFault, _ evidence: String...) {
        let faults = evidence.map {
            LinkFault(culprit: 1, host: "raw host", operation: "all-reduce of 4.0 MiB, operation 812",
                      evidence: $0, reporter: 0)
        }
        #expect(faults.contains(fault), "\(fault)")
    }

    @Test func aClosedConnectionIsNamed() throws {
        expect(try fault { peer in
            peer.data.socket.close()
            peer.control.socket.close()
        }, "connection closed", "connection reset by peer")
    }

    @Test func aBrokenDataStreamIsNamedAfterTheGrace() throws {
        expect(try fault { peer in
            peer.data.socket.close()
            #expect(peer.control.next(.abort) != nil)
        }, "connection closed")
    }

    @Test func silenceIsNamed() throws {
        expect(try fault(heartbeat: 0.3) { peer in
            let told = try #require(peer.control.next(.abort).flatMap(ControlPayload.readAbort))
            #expect(told.0.culprit == 1)
        }, "no heartbeat for 0.3 s")
    }

    /// One flipped bit of the payload; one of the header. The culprit itself is told as well.
    @Test(arguments: [(8 * 48 + 77, "CRC mismatch in segment 3 of operation 812 (64 B)"),
                      (8 * 28, "CRC mismatch in a frame header")])
    func damageIsNamed(bit: Int, evidence: String) throws {
        expect(try fault { peer in
            peer.data.sendData([UInt8](repeating: 1, count: 64), tag: tag, damagedBit: bit)
            let told = try #require(peer.control.next(.abort).flatMap(ControlPayload.readAbort))
            #expect(told.0.evidence == evidence)
        }, evidence)
    }

    @Test func anotherPlanIsNamed() throws {
        expect(try fault { peer in
            peer.data.sendData([UInt8](repeating: 1, count: 60), tag: tag)
            _ = peer.control.next(.abort)
        }, "segment 3 of operation 812 has 60 bytes, not 64")
        expect(try fault { peer in
            var other = tag
            other.fingerprint = 0xBEEF
            peer.data.sendData([UInt8](repeating: 1, count: 64), tag: other)
            _ = peer.control.next(.abort)
        }, "it disagrees on what operation 812 is (fingerprint beef, here 6)")
    }

    @Test func noiseOnTheControlStreamIsNamed() throws {
        expect(try fault { peer in
            peer.control.socket.write([UInt8](repeating: 0x5A, count: 200))
            _ = peer.control.next(.abort)
        }, "bytes that are no frame")
        expect(try fault { peer in
            peer.control.send(.roster, [1, 2, 3])
            _ = peer.control.next(.abort)
        }, "a roster frame that cannot be read")
    }

    @Test func anAbortIsAdoptedAsItIs() throws {
        let theirs = LinkFault(culprit: 1, host: "there", operation: "op", evidence: "disk full", reporter: 1)
        let found = try fault { peer in
            peer.control.send(.abort, ControlPayload.abort(theirs, kind: .running))
            peer.control.socket.close()
            peer.data.socket.close()
        }
        #expect(found == theirs)
    }

    @Test func leavingWhileSomethingIsExpectedIsNamed() throws {
        expect(try fault { peer in
            peer.control.send(.goodbye)
            peer.data.socket.close()
            _ = peer.control.next(.abort)
        }, "it had left the job")
    }

    @Test func leavingAfterwardsIsNoFault() throws {
        let port = freePort()
        let errors = onThreads(2) { index in
            if index == 1 {
                let peer = try RawPeer(port: port)
                peer.data.sendData([UInt8](repeating: 9, count: 64), tag: tag)
                peer.control.send(.goodbye)
                peer.control.socket.close()
                peer.data.socket.close()
                return
            }
            let mesh = try Mesh.join(options(rank: 0, worldSize: 2, port: port))
            let buffer = Buffer(64)
            unsafe mesh.receive(into: buffer.bytes, from: 1, tag: tag, token: 4)
            let messenger = Messenger(mesh)
            var events: [LinkEvent] = []
            let limit = mesh.now + 10_000_000_000
            while events.isEmpty, mesh.now < limit { events = messenger.poll(until: limit) }
            guard case .received(4) = events.first else { throw Disappointment(description: "\(events)") }
            try mesh.leave()
        }
        for error in errors { #expect(error == nil) }
    }

    /// A rank that goes away without a goodbye is named by all others.
    @Test func allSurvivorsNameTheSame() throws {
        let errors = runJob(worldSize: 4) { mesh in
            // Others may still be at this when rank 2 has done its part, and learn of the fault in it.
            try exchangeRandomMessages(mesh, count: 4)
            if mesh.rank == 2 { return }
            let buffer = Buffer(64), messenger = Messenger(mesh)
            // Ranks 0 and 3 wait for the one that dies, rank 1 for another.
            unsafe mesh.receive(into: buffer.bytes, from: mesh.rank == 1 ? 3 : 2, tag: tag, token: 0)
            throw try faultOf(messenger)
        }
        #expect(errors[2] == nil)
        for rank in [0, 1, 3] { #expect((errors[rank] as? LinkFault)?.culprit == 2) }
    }

    @Test func ownAbortReachesAll() throws {
        let own = LinkFault(culprit: 0, host: "here", operation: "step 5", evidence: "disk full", reporter: 0)
        let errors = runJob(worldSize: 3) { mesh in
            try exchangeRandomMessages(mesh, count: 4)
            if mesh.rank == 0 {
                mesh.abort(own)
                mesh.abort(LinkFault(culprit: 1, host: "", operation: "", evidence: "", reporter: 0))
            }
            throw try faultOf(mesh)
        }
        for error in errors { #expect(error as? LinkFault == own) }
    }

    /// An abort while others may still be starting: they name the same, whatever they were doing.
    @Test func anAbortDuringTheStartReachesAll() {
        let own = LinkFault(culprit: 0, host: "here", operation: "step 5", evidence: "disk full", reporter: 0)
        for _ in 0..<20 {
            let errors = runJob(worldSize: 4) { mesh in
                if mesh.rank == 0 { mesh.abort(own) }
                throw try faultOf(mesh)
            }
            for error in errors {
                if case .startFailed(let fault, .running) = error as? WireError {
                    #expect(fault == own)
                } else {
                    #expect(error as? LinkFault == own)
                }
            }
        }
    }

    /// Who computes for longer than the deadline without a call is not taken for dead, and the other's
    /// messages wait for it.
    @Test func aBusyRankIsNotDead() {
        let errors = runJob(worldSize: 2, { $0.heartbeatSeconds = 1 }) { mesh in
            if mesh.rank == 0 { usleep(2_500_000) }
            try exchangeRandomMessages(mesh, count: 4)
            try mesh.leave()
        }
        for error in errors { #expect(error == nil) }
    }

    /// A rank that does not poll still hears of a failure, and reports it at its next poll without waiting.
    @Test func aBusyRankLearnsAtItsNextPoll() throws {
        let port = freePort()
        let errors = onThreads(2) { index in
            if index == 1 {
                let peer = try RawPeer(port: port)
                peer.control.socket.close()
                return
            }
            let mesh = try Mesh.join(options(rank: 0, worldSize: 2, port: port))
            let messenger = Messenger(mesh)
            var events: [LinkEvent] = []
            let limit = mesh.now + 10_000_000_000
            while events.isEmpty, mesh.now < limit {
                usleep(1000)
                events = messenger.poll(until: 0)
            }
            guard case .failed(let fault) = events.first, fault.culprit == 1 else {
                throw Disappointment(description: "\(events)")
            }
        }
        for error in errors { #expect(error == nil) }
    }
}
