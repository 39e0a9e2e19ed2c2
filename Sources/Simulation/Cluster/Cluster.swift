import Base
import Collectives
import Wire

/// A whole job on one thread in virtual time, all of it a function of one seed: real sessions, handshakes, frames,
/// inboxes and executors; what is simulated is the clock, the sockets, the processes and their misfortunes. Keys are
/// random, so bytes differ from run to run, but no length or moment does: a seed replays what it found.
package final class Cluster {
    enum Event {
        case begin(Int)
        case wake(Int)
        case tick(Int)
        case arrive(ClusterWire, Int)
        case connected(Int, number: Int, ClusterWire?)
        case strike
        case strikeAgain
        case recover
        case stranger
    }

    static let masterPort: UInt16 = 29_500
    static let secret = JobSecret(bytes: (0..<32).map { UInt8($0 * 5) })
    static let millisecond: UInt64 = 1_000_000
    static let second: UInt64 = 1_000_000_000

    package let seed: UInt64
    package let misfortune: Misfortune
    let worldSize: Int
    /// Whom the misfortune befalls, and when.
    let victim: Int
    private let strikesAt: UInt64
    private var recoversAt: UInt64 = .max
    /// The ends of the connection that broke, or on which a bit flipped.
    private(set) var broken: [Int] = []
    private(set) var now: UInt64 = 0
    private(set) var processes: [ClusterProcess] = []
    let communication: CommunicatorOptions
    let heartbeatSeconds: Double
    let startSeconds: Double
    private var random: SimulationRandom
    private var heap = EventHeap<Event>()
    private var wires: [ClusterWire] = []
    private let latency: ClosedRange<Int>
    private let sluggishness: Int
    private var hurried: Set<Int> = []
    private(set) var wrongs: [String] = []
    private var trace: UInt64 = 0xCBF2_9CE4_8422_2325
    /// Strangers' connections, which live no longer than the one that is being told of.
    private var strangers: [Socket] = []
    private(set) var strangerCount = 0
    /// Whether ranks agree on how to go on after a fault.
    let survives: Bool
    /// Another one, that is killed a little later.
    let second: Int?
    /// Whether every rank had started, and was still at work, when the misfortune struck.
    private(set) var struckAtWork = false

    /// survives: ranks do not leave after a fault, but agree first on how to go on; then a seed means another cluster.
    package init(seed: Int, misfortune: Misfortune? = nil, survives: Bool = false) {
        self.seed = UInt64(seed)
        self.survives = survives
        random = SimulationRandom(seed: self.seed, stream: survives ? 0xC2 : 0xC1)
        let all = survives ? Misfortune.survivable : Misfortune.allCases
        self.misfortune = misfortune ?? all[seed % all.count]
        worldSize = random.integer(in: survives ? 3...6 : 2...5)
        victim = random.integer(in: 0...(worldSize - 1))
        let isDouble = survives ? random.chance(oneIn: 3) : false
        second = isDouble ? (victim + random.integer(in: 1...(worldSize - 1))) % worldSize : nil
        let fastest = random.magnitude(in: 20_000...5_000_000)
        latency = fastest...(fastest * random.integer(in: 1...4))
        sluggishness = random.magnitude(in: 1...2_000_000)
        let beat = Double(random.integer(in: 5...20)) / 10
        // Shorter than that pause, the pause would be the rank's fault.
        heartbeatSeconds = self.misfortune == .longHiccup ? 8 : beat
        startSeconds = 12
        communication = CommunicatorOptions(timeoutSeconds: 6, segmentBytes: 64 << random.integer(in: 0...7),
                                            patienceSeconds: 18)
        let isEarly = random.chance(oneIn: 2) || self.misfortune == .longHiccup
        strikesAt = UInt64(random.integer(in: 0...(isEarly ? 500 : 1500))) * Self.millisecond
        populate()
        heap.add(.strike, at: strikesAt)
        if second != nil {
            let pause = UInt64(random.magnitude(in: 1...4_000)) * Self.millisecond
            heap.add(.strikeAgain, at: strikesAt + pause)
        }
        if random.chance(oneIn: 2) {
            for _ in 0..<random.magnitude(in: 1...60) {
                heap.add(.stranger, at: UInt64(random.integer(in: 0...2000)) * Self.millisecond)
            }
        }
    }

    // MARK: who is there

    private func populate() {
        let sizes = (0..<random.integer(in: 1...5)).map { _ in random.magnitude(in: 1...3000) }
        let pauses = sizes.map { _ in UInt64(random.integer(in: 0...500)) * Self.millisecond }
        let algorithms: [Algorithm] = sizes.map { _ in
            [.ring, .recursiveDoubling, .direct, .halvingDoubling][random.integer(in: 0...3)]
        }
        let protection: Protection = random.chance(oneIn: 3) ? .sealed : .checked
        let streams = random.chance(oneIn: 3) ? 2 : 1
        func join(_ rank: Int, at time: UInt64, secret: JobSecret = Cluster.secret) {
            var options = MeshOptions(rank: rank, worldSize: worldSize, masterHost: "10.0.0.1",
                                      masterPort: Int(Self.masterPort), secret: secret, jobID: "simulated")
            options.startDeadlineSeconds = startSeconds
            options.heartbeatSeconds = heartbeatSeconds
            options.protection = protection
            options.dataStreams = streams
            options.transport = .tcp
            options.earlyByteCount = 1 << 16
            options.survives = survives
            let group = Group(worldSize: worldSize, rank: rank)
            let jobs = sizes.indices.map { place in
                ClusterJob(number: place, request: Request(.allReduce, .float32, count: sizes[place], group: group,
                                                           algorithm: algorithms[place]),
                           segmentBytes: communication.segmentBytes, pause: pauses[place])
            }
            let number = processes.count
            let host = rank == 0 && number == 0 ? 1 : UInt8(number + 1)
            processes.append(ClusterProcess(
                number: number, options: options, address: SocketAddress(host: [10, 0, 0, host], port: Self.masterPort),
                jobs: jobs, cluster: self))
            heap.add(.begin(number), at: time)
        }
        for rank in 0..<worldSize {
            var time = UInt64(random.integer(in: 0...500)) * Self.millisecond
            if rank == victim, misfortune == .late { time += UInt64(random.integer(in: 1...8)) * Self.second }
            if rank == victim, misfortune == .absent { time = .max }
            join(rank, at: time)
        }
        // Two processes cannot both listen where rank 0 does, so the second of them is another rank's.
        let double = max(victim, 1)
        let time = UInt64(random.integer(in: 0...3000)) * Self.millisecond
        if misfortune == .twin { join(double, at: time) }
        if misfortune == .impostor {
            join(double, at: time, secret: JobSecret(bytes: [UInt8](repeating: 9, count: 32)))
        }
    }

    var masterAddress: SocketAddress { processes[0].address }

    func address(of number: Int) -> SocketAddress {
        number >= 0 ? processes[number].address : SocketAddress(host: [10, 9, 9, UInt8(-number % 3)], port: 1)
    }

    // MARK: the run

    /// Runs until every process that can has ended, and judges.
    package func run() -> ClusterReport {
        let limit = 90 * Self.second
        while !isOver, let (time, event) = heap.removeFirst(), time <= limit {
            now = max(now, time)
            handle(event)
        }
        if survives { judgeSequels() } else { judge() }
        let lines = processes.map { "process \($0.number), rank \($0.options.rank): \(Self.line(of: $0))" }
        var (finished, startsFailed, failed, goOn, retired) = (0, 0, 0, 0, 0)
        for process in processes {
            switch process.outcome {
            case .finished: finished += 1
            case .startFailed: startsFailed += 1
            case .failed: failed += 1
            case .survived(_, .goesOn): goOn += 1
            case .survived: retired += 1
            case .gone, nil: break
            }
        }
        return ClusterReport(seed: seed, misfortune: misfortune, lines: lines, wrongs: wrongs, finished: finished,
                             startsFailed: startsFailed, failed: failed, goOn: goOn, retired: retired,
                             nanoseconds: now, trace: trace,
                             strangers: strangerCount)
    }

    private static func line(of process: ClusterProcess) -> String {
        let text = switch process.outcome {
        case nil: "still there"
        case .finished: "finished"
        case .gone: "killed"
        case .survived(let fault, .goesOn(let next)):
            "\(fault), and goes on with \(next.members) at \(next.host):\(next.port)"
        case .survived(_, .ends(let why)): "ends: \(why.text)"
        case .survived(let fault, nil): "\(fault), and nobody has found out how to go on"
        case .startFailed(let error): "start failed: \(error)"
        case .failed(let fault): "failed: \(fault)"
        }
        return "\(text) at \(process.endedAt / millisecond) ms"
    }

    private var isOver: Bool {
        processes.allSatisfy { $0.outcome != nil || $0.stoppedUntil == .max || $0.startedAt == nil && isAbsent($0) }
    }

    private func isAbsent(_ process: ClusterProcess) -> Bool { misfortune == .absent && process.options.rank == victim }

    private func mark(_ values: UInt64...) {
        for value in [now] + values { trace = (trace ^ value) &* 0x100_0000_01B3 }
    }

    private func handle(_ event: Event) {
        switch event {
        case .begin(let number):
            guard processes[number].outcome == nil else { return }
            mark(1, UInt64(number))
            processes[number].begin()
            heap.add(.tick(number), at: now)
        case .wake(let number):
            processes[number].isWoken = false
            run(number)
        case .tick(let number):
            guard processes[number].outcome == nil else { return }
            run(number)
            heap.add(.tick(number), at: now + (hurried.contains(number) ? 5 : 50) * Self.millisecond)
        case .arrive(let wire, let side):
            wire[side].isLookedAt = .max
            wire[side].arrive(by: now)
            schedule(wire, side)
            let reader = wire.process(1 - side)
            if reader >= 0 { wake(processes[reader]) }
        case .connected(let number, let connection, let wire):
            mark(2, UInt64(number))
            let process = processes[number]
            if process.stoppedUntil > now {
                if process.stoppedUntil < .max { heap.add(event, at: process.stoppedUntil) }
            } else {
                process.connected(connection, wire.map { Socket(wire: $0, side: 0) }, "connection refused")
            }
        case .strike: strike()
        case .strikeAgain: if let second { processes[second].end(.gone) }
        case .recover: recover()
        case .stranger: visit()
        }
    }

    private func run(_ number: Int) {
        let process = processes[number]
        guard process.outcome == nil, process.startedAt != nil, process.stoppedUntil <= now else { return }
        mark(3, UInt64(number))
        process.run()
    }

    func wake(_ process: ClusterProcess) {
        guard !process.isWoken, process.outcome == nil else { return }
        process.isWoken = true
        heap.add(.wake(process.number), at: now + UInt64(random.integer(in: 0...sluggishness)))
    }

    func hurry(_ process: ClusterProcess) {
        hurried.insert(process.number)
        wake(process)
    }

    // MARK: sockets

    private func delay() -> UInt64 { UInt64(random.integer(in: latency)) }

    private func isCut(_ wire: ClusterWire) -> Bool {
        (misfortune == .cutOff || misfortune == .flicker) && now >= strikesAt && now < recoversAt
            && [wire.ends.0, wire.ends.1].contains(victim)
    }

    func connect(_ process: ClusterProcess, _ number: Int, to address: SocketAddress) {
        let target = processes.first { $0.address == address && $0.isListening && $0.outcome == nil }
        guard let target else {
            return heap.add(.connected(process.number, number: number, nil), at: now + 2 * delay())
        }
        let wire = ClusterWire(from: process.number, to: target.number)
        // Over a cut link nobody answers; who asks loses patience.
        if isCut(wire) { return }
        wires.append(wire)
        target.backlog.append(Socket(wire: wire, side: 1))
        wake(target)
        heap.add(.connected(process.number, number: number, wire), at: now + 2 * delay())
    }

    /// Sends what the kernel takes, in pieces of any length, and returns how much that was.
    @discardableResult
    func send(_ bytes: ArraySlice<UInt8>, on socket: Socket, isBounded: Bool = true) -> Int {
        let wire = socket.wire, side = socket.side
        let count = isBounded ? min(bytes.count, max(wire[side].room, 0)) : bytes.count
        guard !(side == 0 ? wire.isClosed.1 : wire.isClosed.0) else { return bytes.count }
        var rest = bytes.prefix(count)
        while !rest.isEmpty {
            let length = random.chance(oneIn: 3) ? random.magnitude(in: 1...max(rest.count, 1)) : rest.count
            let piece = rest.prefix(length)
            wire[side].send(Array(piece), arrival: now + delay())
            rest = rest.dropFirst(piece.count)
            mark(4, UInt64(piece.count))
        }
        if isCut(wire) { wire[side].hold(until: recoversAt) }
        schedule(wire, side)
        return count
    }

    private func schedule(_ wire: ClusterWire, _ side: Int) {
        let arrival = wire[side].nextArrival
        guard arrival > now, arrival < wire[side].isLookedAt else { return }
        wire[side].isLookedAt = arrival
        heap.add(.arrive(wire, side), at: arrival)
    }

    /// The process closes its end.
    func close(_ socket: Socket) {
        let wire = socket.wire, side = socket.side
        guard !(side == 0 ? wire.isClosed.0 : wire.isClosed.1) else { return }
        if side == 0 { wire.isClosed.0 = true } else { wire.isClosed.1 = true }
        let hasUnread = socket.available > 0
        wire[side].close(hasUnread ? "connection reset by peer" : "connection closed", arrival: now + delay(),
                         drops: hasUnread)
        if isCut(wire) { wire[side].hold(until: recoversAt) }
        schedule(wire, side)
    }

    func endOf(_ socket: Socket) -> String? { socket.wire[1 - socket.side].ended(by: now) }

    // MARK: misfortunes

    private func strike() {
        mark(5)
        let process = processes[victim]
        struckAtWork = processes.allSatisfy { $0.hasStarted && $0.outcome == nil && !$0.isLeaving }
        switch misfortune {
        case .killed: process.end(.gone)
        // A rank that comes back has to learn that the others have gone on.
        case .stopped where survives: pause(process, seconds: 4 * heartbeatSeconds)
        case .stopped: process.stoppedUntil = .max
        case .hiccup: pause(process, seconds: heartbeatSeconds * 0.4)
        case .longHiccup: pause(process, seconds: Double(random.integer(in: 32...60)) / 10)
        case .cutOff, .flicker:
            recoversAt = misfortune == .cutOff ? .max : now + UInt64(heartbeatSeconds * 0.4e9)
            for wire in wires where isCut(wire) {
                wire[0].hold(until: recoversAt)
                wire[1].hold(until: recoversAt)
            }
            if recoversAt < .max { heap.add(.recover, at: recoversAt) }
        case .damaged: someWire { $0[1 - $1].damage = random.integer(in: 0...1_000_000) }
        case .disconnected: someWire { wire, side in
                for end in [0, 1] {
                    wire[end].close("connection reset by peer", arrival: now + delay(), drops: true)
                    schedule(wire, end)
                }
                wire.isClosed = (true, true)
            }
        case .nothing, .absent, .late, .twin, .impostor: break
        }
    }

    private func pause(_ process: ClusterProcess, seconds: Double) {
        process.stoppedUntil = now + UInt64(seconds * 1e9)
        heap.add(.wake(process.number), at: process.stoppedUntil)
    }

    private func recover() {
        for wire in wires where [wire.ends.0, wire.ends.1].contains(victim) {
            schedule(wire, 0)
            schedule(wire, 1)
        }
    }

    /// One of the victim's open connections to another member, and which end of it is the other's.
    private func someWire(_ body: (ClusterWire, Int) -> Void) {
        let own = wires.filter { wire in
            let isOpen = !wire.isClosed.0 && !wire.isClosed.1
            return isOpen && [wire.ends.0, wire.ends.1].contains(victim) && min(wire.ends.0, wire.ends.1) >= 0
        }
        guard !own.isEmpty else { return }
        let wire = own[random.integer(in: 0...(own.count - 1))]
        broken = [wire.ends.0, wire.ends.1]
        body(wire, wire.ends.0 == victim ? 1 : 0)
    }

    /// Somebody who knows nothing, or has a recording, is at somebody's port.
    private func visit() {
        let target = processes[random.integer(in: 0...(processes.count - 1))]
        let kind = random.integer(in: 0...3), length = random.magnitude(in: 1...400)
        guard target.isListening, target.outcome == nil else { return }
        strangerCount += 1
        let wire = ClusterWire(from: -strangerCount, to: target.number)
        let recorded = wires.isEmpty ? nil : wires[random.integer(in: 0...(wires.count - 1))][0].recording
        target.backlog.append(Socket(wire: wire, side: 1))
        wake(target)
        let own = Socket(wire: wire, side: 0)
        strangers.append(own)
        let words: [UInt8] = switch kind {
        case 0: []
        case 1: (0..<length).map { _ in UInt8(random.integer(in: 0...255)) }
        case 2: Array("SKH2".utf8) + [UInt8](repeating: 1, count: length)
        default: recorded ?? []
        }
        send(words[...], on: own, isBounded: false)
        if random.chance(oneIn: 2) { close(own) }
    }

    func wrong(_ text: String) { wrongs.append(text) }
}
