import Base
import Testing
import Wire

/// Who goes on after a fault, by hand; whole jobs with all their misfortunes are SimulationTests' (ClusterTests).
@Suite struct AgreementTests {
    /// Ranks with what they have to say to each other, delivered in order.
    private struct Room {
        var ranks: [Agreement]
        var ends: [Int: Retirement] = [:]
        var leaders: [Int: [Int]] = [:]
        var now: UInt64 = 0
        var deaf: Set<Int> = []
        private var words: [(from: Int, lost: [Int])] = []

        init(_ size: Int) {
            ranks = (0..<size).map { Agreement(rank: $0, worldSize: size, heartbeatSeconds: 1) }
        }

        mutating func take(_ actions: [Agreement.Action], of rank: Int) {
            for action in actions {
                switch action {
                case .say(let lost): words.append((rank, lost))
                case .lead(let members): leaders[rank] = members
                case .end(let why): ends[rank] = why
                }
            }
        }

        mutating func begin(_ culprit: Int, at whom: [Int], absent: [Int] = []) {
            for rank in whom { take(ranks[rank].begin(fault(culprit), absent: absent, at: now), of: rank) }
            deliver()
        }

        mutating func deliver() {
            while !words.isEmpty {
                let word = words.removeFirst()
                for rank in ranks.indices where rank != word.from && !deaf.contains(rank) && !deaf.contains(word.from) {
                    take(ranks[rank].heard(word.lost, from: word.from, at: now), of: rank)
                }
            }
        }

        mutating func wait(seconds: Double) {
            now += UInt64(seconds * 1e9)
            for rank in ranks.indices { take(ranks[rank].tick(now), of: rank) }
            deliver()
        }
    }

    private static func fault(_ culprit: Int) -> LinkFault {
        LinkFault(culprit: culprit, host: "there", operation: "all-reduce", evidence: "connection reset", reporter: 1)
    }

    /// The lowest of those that are left leads, rank 0 as well as any other being lost.
    @Test(arguments: 0..<4) func oneIsLost(_ culprit: Int) {
        var room = Room(4)
        let others = (0..<4).filter { $0 != culprit }
        room.begin(culprit, at: others)
        #expect(room.leaders == [others[0]: others] && room.ends.isEmpty)
        let leader = others[0]
        for rank in others.dropFirst() {
            // Others than it knows of; not the leader; and then what it has agreed to.
            let words = [([0, 1, 2, 3], leader), (others, rank), (others, leader)]
            let taken = words.map { room.ranks[rank].led($0, by: $1) }
            #expect(taken == [false, false, true] && room.ranks[rank].isOver)
        }
    }

    /// Words that come before a rank has found out by itself are not lost; and what one knows all learn.
    @Test func someHearLater() {
        var room = Room(5)
        room.begin(4, at: [0, 1])
        room.begin(4, at: [2])
        #expect(room.leaders.isEmpty)
        // Rank 3 has seen another one go as well.
        room.begin(4, at: [3], absent: [2])
        #expect(room.ends[2] == .expelled(Self.fault(4)))
        #expect(room.leaders == [0: [0, 1, 3]])
    }

    /// Half is no majority.
    @Test func twoAgainstTwo() {
        var room = Room(4)
        room.deaf = [2, 3]
        room.begin(2, at: [0, 1])
        #expect(room.leaders.isEmpty && room.ends.isEmpty)
        room.wait(seconds: 0.5)
        #expect(room.ends.isEmpty, "their time is not over")
        room.wait(seconds: 0.6)
        #expect(room.ends[0] == .minority(present: [0, 1], of: 4, Self.fault(2)))
        #expect(room.ends[1] == room.ends[0] && room.leaders.isEmpty)
        #expect(room.ends[0]?.text.contains("ranks 0, 1 are left on this side, of 4: no majority") == true)
    }

    /// One more goes while they agree: before they have, it is lost; afterwards only the leader is missed.
    @Test func oneMoreGoes() {
        var room = Room(5)
        room.deaf = [1]
        room.begin(0, at: [2, 3, 4])
        #expect(room.leaders.isEmpty)
        for rank in [2, 3, 4] { room.take(room.ranks[rank].gone(1, at: room.now), of: rank) }
        room.deliver()
        #expect(room.leaders == [2: [2, 3, 4]])
        room.take(room.ranks[3].gone(4, at: room.now), of: 3)
        #expect(room.ends.isEmpty, "rank 4 may have heard the leader already")
        room.take(room.ranks[3].gone(2, at: room.now), of: 3)
        #expect(room.ends == [3: .leaderless(2, Self.fault(0))])
        room.wait(seconds: 1.1)
        #expect(room.ends[4] == .leaderless(2, Self.fault(0)), "a leader that says nothing is waited for only so long")
    }

    /// A rank that did not run must not take the others for silent.
    @Test func timeThatItSlept() {
        var room = Room(3)
        room.deaf = [2]
        room.begin(1, at: [0])
        room.ranks[0].forgive(5_000_000_000)
        room.wait(seconds: 5.5)
        #expect(room.ends.isEmpty)
        room.wait(seconds: 1)
        #expect(room.ends[0] == .minority(present: [0], of: 3, Self.fault(1)))
    }

    @Test func whatIsSaidIsRead() {
        let address = SocketAddress(host: [10, 0, 0, 7], port: 4_711)
        let read = ControlPayload.readSuccession(ControlPayload.succession(address, [0, 2, 5]), worldSize: 6)
        #expect(read?.address == address && read?.members == [0, 2, 5])
        #expect(ControlPayload.readRanks(ControlPayload.ranks([]), worldSize: 2) == [])
        for wrong in [[1, 1], [2, 1], [3]] {
            #expect(ControlPayload.readRanks(ControlPayload.ranks(wrong), worldSize: 3) == nil, "\(wrong)")
        }
        #expect(ControlPayload.readRanks(ControlPayload.ranks([1]) + [0], worldSize: 3) == nil)
    }
}

/// The same over real sockets, up to the next life.
@Suite(.serialized) struct SequelTests {
    @Test(arguments: [0, 2, 3], [Transport.tcp, .shm]) func theOthersMeetAgain(lost: Int, transport: Transport) {
        let port = freePort(), ranks = 4
        let errors = onThreads(ranks) { rank in
            var own = options(rank: rank, worldSize: ranks, port: port)
            (own.survives, own.transport) = (true, transport)
            do {
                let mesh = try Mesh.join(own)
                try exchangeRandomMessages(mesh, count: 4, largest: 20_000, inOrder: true)
                // A process that dies says nothing, and its sockets end.
                if rank == lost { return mesh.shutDown() }
                let messenger = Messenger(mesh)
                while !messenger.poll(until: mesh.now + 50_000_000).contains(where: \.isFailure) {}
                guard case .goesOn(let next)? = mesh.sequel() else { throw Disappointment(description: "no sequel") }
                mesh.shutDown()
                let others = (0..<ranks).filter { $0 != lost }
                guard next.members == others, next.epoch == 1 else { throw Disappointment(description: "\(next)") }
                own.rank = others.firstIndex(of: rank) ?? -1
                (own.worldSize, own.epoch) = (others.count, next.epoch)
                (own.masterHost, own.masterPort) = (next.host, next.port)
            }
            let mesh = try Mesh.join(own)
            try exchangeRandomMessages(mesh, count: 4, largest: 20_000, inOrder: true)
            try mesh.leave()
        }
        for (rank, error) in errors.enumerated() {
            #expect(error == nil, "rank \(rank): \(error.map { "\($0)" } ?? "")")
        }
    }
}

extension LinkEvent {
    fileprivate var isFailure: Bool {
        if case .failed = self { true } else { false }
    }
}
