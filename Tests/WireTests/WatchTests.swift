import Base
import Testing
import Wire

private let second: UInt64 = 1_000_000_000
private let millisecond: UInt64 = 1_000_000

/// Ranks whose watches talk over a simulated network in virtual time. Streams keep their order: each pair
/// has one delay. The data stream of a pair may be faster or slower than its control stream.
private struct Cluster {
    enum Message {
        case beat
        case abort(LinkFault)
        case end
        case dataEnd
    }

    var watches: [Watch]
    var now: UInt64 = 0
    /// When a rank's process is gone, and from when it is stopped or cut off.
    var goneAt: [UInt64?]
    var stoppedAt: [UInt64?]
    var cutOffAt: [UInt64?]
    private var mail: [(at: UInt64, order: Int, from: Int, to: Int, message: Message)] = []
    private var delays: [[UInt64]]
    private var dataDelays: [[UInt64]]
    private var order = 0
    /// When each rank knew.
    var knownAt: [UInt64?]

    init(_ count: Int, seed: UInt64, heartbeat: Double) {
        let random = CounterRNG(seed: seed, stream: 1)
        let hosts = (0..<count).map { "host\($0)" }
        watches = (0..<count).map { Watch(rank: $0, hosts: hosts, heartbeatSeconds: heartbeat, now: 0) }
        goneAt = Array(repeating: nil, count: count)
        stoppedAt = goneAt
        cutOffAt = goneAt
        knownAt = goneAt
        func table(_ base: Int) -> [[UInt64]] {
            (0..<count).map { a in
                (0..<count).map { b in
                    UInt64(1 + random.integer(below: 100, at: UInt64(base + a * 64 + b))) * millisecond
                }
            }
        }
        delays = table(0)
        dataDelays = table(1 << 20)
    }

    private func runs(_ rank: Int) -> Bool {
        (goneAt[rank].map { now < $0 } ?? true) && (stoppedAt[rank].map { now < $0 } ?? true)
    }

    private mutating func post(_ message: Message, from: Int, to: Int, delay: UInt64) {
        let isCut = (cutOffAt[from].map { now >= $0 } ?? false) || (cutOffAt[to].map { now >= $0 } ?? false)
        guard !isCut else { return }
        mail.append((now + delay, order, from, to, message))
        order += 1
    }

    private mutating func end(_ rank: Int) {
        for other in watches.indices where other != rank {
            post(.end, from: rank, to: other, delay: delays[rank][other])
            post(.dataEnd, from: rank, to: other, delay: dataDelays[rank][other])
        }
    }

    private mutating func perform(_ action: Watch.Action?, of rank: Int) {
        for other in watches.indices where other != rank {
            switch action {
            case .beat: post(.beat, from: rank, to: other, delay: delays[rank][other])
            case .tell(let fault): post(.abort(fault), from: rank, to: other, delay: delays[rank][other])
            case .report, nil: break
            }
        }
        guard case .report = action else { return }
        knownAt[rank] = now
        // The process prints the fault and ends, some milliseconds later.
        goneAt[rank] = now + UInt64(rank + 1) * 3 * millisecond
    }

    mutating func step() {
        now += 5 * millisecond
        for rank in watches.indices {
            guard let gone = goneAt[rank], gone <= now, gone + 5 * millisecond > now else { continue }
            end(rank)
        }
        let due = mail.filter { $0.at <= now }.sorted { ($0.at, $0.order) < ($1.at, $1.order) }
        mail.removeAll { $0.at <= now }
        for (_, _, from, to, message) in due where runs(to) {
            switch message {
            case .beat: watches[to].heard(from: from, at: now)
            case .abort(let fault): perform(watches[to].told(fault), of: to)
            case .end: perform(watches[to].ended(from, evidence: "connection closed", operation: "x"), of: to)
            case .dataEnd: watches[to].broke(from, evidence: "connection reset", at: now)
            }
        }
        for rank in watches.indices where runs(rank) {
            perform(watches[rank].tick(now, operation: "x"), of: rank)
        }
    }
}

@Suite struct WatchTests {
    enum Misfortune: CaseIterable { case killed, stopped, cutOff }

    /// Every survivor names the same culprit, in time, whatever the delays.
    @Test(arguments: Misfortune.allCases) func survivorsAgree(misfortune: Misfortune) {
        for seed in 0..<60 {
            let count = 2 + seed % 5, victim = seed % count
            let when = 3 * second + UInt64(seed) * 37 * millisecond
            var cluster = Cluster(count, seed: UInt64(seed), heartbeat: 2)
            switch misfortune {
            case .killed: cluster.goneAt[victim] = when
            case .stopped: cluster.stoppedAt[victim] = when
            case .cutOff: cluster.cutOffAt[victim] = when
            }
            while cluster.now < 9 * second { cluster.step() }
            let limit = when + (misfortune == .killed ? second : 3 * second)
            for rank in 0..<count where rank != victim {
                #expect(cluster.watches[rank].fault?.culprit == victim, "seed \(seed), rank \(rank)")
                #expect(cluster.watches[rank].fault?.host == "host\(victim)")
                #expect((cluster.knownAt[rank] ?? .max) <= limit, "seed \(seed), rank \(rank)")
            }
        }
    }

    @Test func calmRanksAccuseNobody() {
        var cluster = Cluster(5, seed: 1, heartbeat: 1)
        while cluster.now < 60 * second { cluster.step() }
        for watch in cluster.watches { #expect(watch.fault == nil) }
    }

    private func pair() -> Watch { Watch(rank: 0, hosts: ["a", "b", "c"], heartbeatSeconds: 5, now: 0) }

    /// A rank that was stopped itself for a minute finds old news in its sockets, and blames nobody for it.
    @Test func ownAbsenceIsNotHeldAgainstOthers() {
        var watch = pair()
        _ = watch.tick(second, operation: "x")
        let late = 61 * second
        #expect(watch.tick(late, operation: "x") == .beat)
        watch.heard(from: 1, at: late)
        // Rank 2 stays silent from here on: it has its full deadline, and no more.
        var now = late
        while watch.fault == nil, now < 80 * second {
            now += 100 * millisecond
            if now < 67 * second { watch.heard(from: 1, at: now) }
            _ = watch.tick(now, operation: "y")
        }
        #expect(watch.fault?.culprit == 2)
        #expect(watch.fault?.evidence == "no heartbeat for 5.0 s")
        #expect(now <= late + 5 * second + 200 * millisecond)
    }

    @Test func aGoodbyeMakesTheEndHarmless() {
        var watch = pair()
        watch.goodbye(from: 1)
        #expect(watch.leftCount == 1)
        #expect(watch.ended(1, evidence: "closed", operation: "x") == nil)
        // But it is a fault to leave while something is still expected.
        watch.broke(1, evidence: "closed", at: 0)
        let action = watch.tick(second, operation: "x")
        #expect(watch.fault?.culprit == 1)
        #expect(watch.fault?.evidence == "it had left the job")
        #expect(action == watch.fault.map { .tell($0) })
    }

    private func fault(_ culprit: Int, by reporter: Int) -> LinkFault {
        LinkFault(culprit: culprit, host: "", operation: "x", evidence: "e", reporter: reporter)
    }

    @Test func oneFaultIsReported() {
        let first = fault(2, by: 1)
        var watch = pair()
        #expect(watch.told(first) == .tell(first))
        #expect(watch.ended(1, evidence: "closed", operation: "x") == nil)
        #expect(watch.misbehaved(1, evidence: "CRC", operation: "x") == nil)
        #expect(watch.told(fault(1, by: 2)) == nil)
        #expect(watch.tick(second, operation: "x") == nil)
        #expect(watch.tick(second + 99 * millisecond, operation: "x") == nil)
        #expect(watch.tick(second + 100 * millisecond, operation: "x") == .report(first))
        // What comes then changes nothing, whatever precedence it has.
        #expect(watch.abort(fault(0, by: 0)) == nil)
        #expect(watch.tick(100 * second, operation: "x") == nil)
        #expect(watch.fault == first)
    }

    /// Whatever faults there are, and in whatever order each rank hears of them, all report the same one.
    @Test func everyOrderEndsAtOneFault() {
        let faults = [fault(2, by: 1), fault(1, by: 2), fault(1, by: 0), fault(2, by: 2)]
        for order in 0..<256 {
            var watch = pair()
            for place in 0..<4 { _ = watch.told(faults[order >> (2 * place) & 3]) }
            let heard = Set((0..<4).map { order >> (2 * $0) & 3 })
            let expected = heard.contains(3) ? 3 : heard.contains(2) ? 2 : heard.contains(0) ? 0 : 1
            #expect(watch.fault == faults[expected])
        }
    }
}

@Suite struct RosterTests {
    private func place(_ rank: Int) -> Place {
        Place(address: SocketAddress(host: [10, 0, 0, UInt8(rank)], port: 1000), hostName: "h\(rank)")
    }

    /// Whatever the order of events, every pair gets each of its streams once, and all ranks finish.
    @Test(arguments: 1...6) func everyOrderCompletes(worldSize: Int) {
        for seed in 0..<40 {
            let random = CounterRNG(seed: UInt64(seed), stream: 9)
            var draw: UInt64 = 0
            var rosters = (0..<worldSize).map { Roster(rank: $0, worldSize: worldSize, streamCount: 3) }
            for rank in 0..<worldSize { rosters[rank].learn(place(rank), of: rank) }
            var pending: [(from: Int, to: Int, stream: Int)] = []
            var opened: Set<[Int]> = []
            var rounds = 0
            while !rosters.allSatisfy(\.isComplete), rounds < 1000 {
                rounds += 1
                for rank in 0..<worldSize {
                    let next = rosters[rank].nextConnections()
                    pending += next.map { (rank, $0.peer, $0.stream) }
                }
                guard !pending.isEmpty else { break }
                let (from, to, stream) = pending.remove(at: random.integer(below: pending.count, at: draw))
                draw += 1
                if random.integer(below: 4, at: draw << 32) == 0 {
                    rosters[from].retry(to, stream: stream)
                    continue
                }
                #expect(rosters[to].refusal(of: from, stream: stream) == nil)
                #expect(opened.insert([from, to, stream]).inserted)
                rosters[from].establish(to, stream: stream)
                rosters[to].establish(from, stream: stream)
                guard to == 0, stream == 0 else { continue }
                rosters[0].learn(place(from), of: from)
                for other in 1..<worldSize where rosters[other].isEstablished(0, stream: 0) {
                    rosters[other].learn(rosters[0].places, masterAddress: place(0).address)
                }
            }
            let areComplete = rosters.allSatisfy { $0.isComplete }
            #expect(areComplete)
            #expect(opened.count == worldSize * (worldSize - 1) / 2 * 3)
        }
    }

    @Test func strangeRanksAreRefused() {
        var roster = Roster(rank: 1, worldSize: 3, streamCount: 2)
        #expect(roster.refusal(of: 2, stream: 0) == nil)
        roster.establish(2, stream: 0)
        #expect(roster.refusal(of: 2, stream: 0) == "rank 2 is already taken by another process")
        #expect(roster.refusal(of: 2, stream: 1) == nil)
        #expect(roster.refusal(of: 2, stream: 2) != nil)
        #expect(roster.refusal(of: 0, stream: 0) != nil)
        #expect(roster.refusal(of: 3, stream: 0) != nil)
    }

    @Test func placesOnTheMastersLoopbackAreAtTheMaster() {
        let loopback = Place(address: SocketAddress(host: [127, 0, 0, 1], port: 77), hostName: "m")
        var roster = Roster(rank: 2, worldSize: 3, streamCount: 2)
        #expect(roster.missing == [0, 1])
        roster.learn([place(0), loopback, nil], masterAddress: place(0).address)
        #expect(roster.places[1]?.address == place(0).address.with(port: 77))
        #expect(roster.missing == [0, 1])
        roster.learn([place(0), loopback, nil], masterAddress: loopback.address)
        #expect(roster.places[1] == loopback)
    }
}
