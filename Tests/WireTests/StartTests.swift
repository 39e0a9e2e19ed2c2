import Base
import Synchronization
import Testing
import Wire
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Everything that can be wrong when a job starts is one line that names it.
@Suite(.serialized) struct StartTests {
    private func join(_ options: MeshOptions) -> WireError? {
        do throws(WireError) {
            _ = try Mesh.join(options)
            return nil
        } catch {
            #expect(!error.description.contains("\n"))
            return error
        }
    }

    /// The error of each rank when all join with these options.
    private func join(_ count: Int, port: Int = freePort(), deadline: Double = 10,
                      _ adjust: @Sendable (inout MeshOptions) -> Void) -> [WireError?] {
        let all = (0..<count).map { rank in
            var own = options(rank: rank, worldSize: count, port: port)
            own.startDeadlineSeconds = deadline
            adjust(&own)
            return own
        }
        return onThreads(count) { rank in try Mesh.join(all[rank]).leave() }.map { $0 as? WireError }
    }

    @Test func impossibleOptions() {
        let good = options(rank: 0, worldSize: 2, port: 29_500)
        let changes: [(inout MeshOptions) -> Void] = [
            { $0.rank = 2 }, { $0.rank = -1 }, { $0.worldSize = 0 }, { $0.worldSize = 5000 },
            { $0.masterPort = 0 }, { $0.masterPort = 70_000 }, { $0.portRange = 0...5 },
            { $0.dataStreams = 0 }, { $0.heartbeatSeconds = 0 }, { $0.startDeadlineSeconds = 0 },
            { $0.claims = [("a", String(repeating: "x", count: 9000))] },
        ]
        for change in changes {
            var bad = good
            change(&bad)
            guard case .badOption = join(bad) else { return #expect(Bool(false), "\(bad) was accepted") }
        }
    }

    @Test func aPortInUse() throws {
        let port = freePort()
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        let address = SocketAddress(host: [127, 0, 0, 1], port: UInt16(port))
        unsafe address.withRaw { _ = unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        #expect(listen(descriptor, 1) == 0)
        let error = try #require(join(options(rank: 0, worldSize: 2, port: port)))
        #expect(error == .cannotListen(address: "127.0.0.1:\(port)", problem: "address already in use"))
        #expect(error.kind == .badInput)
    }

    @Test func nobodyAnswers() throws {
        var own = options(rank: 1, worldSize: 2, port: freePort())
        own.startDeadlineSeconds = 0.2
        let error = try #require(join(own))
        let address = "127.0.0.1:\(own.masterPort)"
        #expect(error == .noMaster(address: address, seconds: 0.2, problem: "connection refused"))
        own.masterHost = "no-such-host.invalid"
        guard case .noMaster(_, _, let problem) = try #require(join(own)) else { return #expect(Bool(false)) }
        #expect(problem.contains("no-such-host.invalid"))
    }

    @Test func aRankThatNeverComesIsNamedByAll() {
        let port = freePort()
        let errors = onThreads(3) { rank in
            var own = options(rank: rank, worldSize: 4, port: port)
            own.startDeadlineSeconds = rank == 0 ? 0.5 : 10
            _ = try Mesh.join(own)
        }.map { $0 as? WireError }
        #expect(errors[0] == .missing(ranks: [3], seconds: 0.5, strangers: 0))
        for error in errors[1...] {
            guard case .startFailed(let fault, .running) = error else {
                return #expect(Bool(false), "\(error as Any)")
            }
            #expect(fault.culprit == 3 && fault.reporter == 0)
            #expect(fault.evidence.hasPrefix("rank 3 never came within 500 ms; "))
        }
    }

    @Test func anotherSecret() {
        let errors = join(2, deadline: 0.5) { own in
            if own.rank == 1 { own.secret = JobSecret(bytes: [UInt8](repeating: 1, count: 32)) }
        }
        // Rank 1 goes on trying, for it cannot know who refuses it.
        guard case .missing([1], 0.5, let strangers) = errors[0], strangers > 1 else {
            return #expect(Bool(false), "\(errors[0] as Any)")
        }
        guard case .wrongSecret = errors[1] else { return #expect(Bool(false), "\(errors[1] as Any)") }
        #expect(errors[1]?.kind == .badInput)
    }

    /// Somebody on rank 0's port who answers as if for another secret, or another version, proves nothing: rank 1 goes
    /// on trying, and finds rank 0 when it comes.
    @Test(arguments: [UInt8(1), 2]) func aStrangerIsNotBelieved(reply: UInt8) {
        let port = freePort()
        let errors = onThreads(2) { rank in
            if rank == 0 { answer([0x53, 0x4B, 0x52, reply], on: port, times: 3) }
            try Mesh.join(options(rank: rank, worldSize: 2, port: port)).leave()
        }
        #expect(errors.allSatisfy { $0 == nil }, "\(errors)")
    }

    /// Listens on the loopback interface and gives so many connections the same answer.
    @Sendable private func answer(_ bytes: [UInt8], on port: Int, times: Int) {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var yes: Int32 = 1
        unsafe setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, 4)
        let address = SocketAddress(host: [127, 0, 0, 1], port: UInt16(port))
        unsafe address.withRaw { _ = unsafe bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        #expect(listen(listener, 8) == 0)
        for _ in 0..<times {
            let peer = accept(listener, nil, nil)
            var greeting = [UInt8](repeating: 0, count: 200)
            _ = unsafe recv(peer, &greeting, greeting.count, 0)
            _ = unsafe send(peer, bytes, bytes.count, 0)
            close(peer)
        }
    }

    @Test func bracketsAroundAnAddress() throws {
        #expect(try SocketAddress.resolve("[::1]", port: 7) == SocketAddress.resolve("::1", port: 7))
        #expect(isLoopback(host: "[::1]") && isLoopback(host: "127.0.1.1") && !isLoopback(host: "::2"))
    }

    @Test func anotherWorldSize() {
        let errors = join(2) { own in if own.rank == 1 { own.worldSize = 3 } }
        #expect(errors == [.disagreement(rank: 1, name: "world size", here: "2", there: "3"),
                           .disagreement(rank: 0, name: "world size", here: "3", there: "2")])
    }

    @Test func anotherRecipe() {
        let errors = join(3, deadline: 2) { own in
            own.claims = [("recipe", own.rank == 2 ? "b7" : "a1"), ("arithmetic", "x86-64")]
        }
        #expect(errors[0] == .disagreement(rank: 2, name: "recipe", here: "a1", there: "b7"))
        #expect(errors[2] == .disagreement(rank: 0, name: "recipe", here: "b7", there: "a1"))
        #expect(errors[0]?.description == "rank 2 runs with another recipe (a1 here, b7 there)")
        // Rank 1 hears of it from rank 0, unless rank 0 was gone before rank 1 came.
        switch errors[1] {
        case .startFailed(let fault, let kind): #expect(fault.culprit == 2 && kind == .badInput, "\(fault)")
        case .noMaster: break
        default: #expect(Bool(false), "\(errors[1] as Any)")
        }
    }

    /// Two processes with the same rank, while another rank is still to come: one is part of the job, the other hears
    /// why it is not, and the job goes on. When all have come, nobody listens any more.
    @Test func aRankThatComesTwice() {
        let port = freePort()
        let isRefused = Atomic<Bool>(false)
        let errors = onThreads(4) { index in
            if index == 3 { while !isRefused.load(ordering: .sequentiallyConsistent) { usleep(1000) } }
            let mesh: Mesh
            do {
                mesh = try Mesh.join(options(rank: [0, 1, 1, 2][index], worldSize: 3, port: port))
            } catch {
                isRefused.store(true, ordering: .sequentiallyConsistent)
                throw error
            }
            try exchangeRandomMessages(mesh, count: 4)
            if mesh.rank == 0 { #expect(RawSocket(port: port) == nil) }
            try mesh.leave()
        }
        #expect(errors[0] == nil && errors[3] == nil)
        let refused = errors[1...2].compactMap { $0 as? WireError }
        #expect(refused == [.refused(by: 0, reason: "rank 1 is already taken by another process")])
    }
}
