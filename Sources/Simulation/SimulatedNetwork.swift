import Base
import Collectives
import Wire

/// How the simulated network behaves: drawn from the seed, so that runs differ in kind.
package struct Conditions: Sendable {
    /// Nanoseconds for one hop, at least and at most.
    package var latency: ClosedRange<Int>
    package var bytesPerMicrosecond: Int
    package var largestFragment: Int
    /// Bytes under way between two ranks; the sender's `.sent` waits for room.
    package var window: Int
    /// Bytes that a rank keeps of messages it has not posted yet, per peer. May be 0.
    package var earlyBytes: Int
    /// Nanoseconds until a rank that has something to do gets to do it; now and then a hundred times that.
    package var sluggishness: Int

    package init(_ random: inout SimulationRandom) {
        let fastest = random.magnitude(in: 1...100_000)
        latency = fastest...(fastest * random.magnitude(in: 1...16))
        bytesPerMicrosecond = random.magnitude(in: 20...10_000)
        largestFragment = random.magnitude(in: (1 << 10)...(1 << 19))
        window = random.magnitude(in: 4096...(1 << 20))
        earlyBytes = random.chance(oneIn: 2) ? 0 : random.magnitude(in: 1...(1 << 20))
        sluggishness = random.magnitude(in: 1...100_000)
    }
}

/// N ranks on one thread with virtual time: everything that happens is a function of one seed. The ranks'
/// executors are the production ones; only the link and the clock are simulated.
package final class SimulatedNetwork {
    enum Event {
        case wake(Int)
        case act(Int, (Executor) -> Void)
        case deadline(Int)
        case kill(Int)
        case stop(Int, until: UInt64)
        case fail(Int, LinkFault)
        case hear(Int, LinkEvent)
    }

    package let worldSize: Int
    package let seed: UInt64
    package var conditions: Conditions
    /// What must stay alive as long as the network: the buffers of operations.
    package var kept: [AnyObject] = []
    package private(set) var now: UInt64 = 0
    package private(set) var executors: [Executor] = []
    private var links: [SimulatedLink] = []
    private var pipes: [Pipe] = []
    private var random: SimulationRandom
    private var heap = EventHeap<Event>()
    private var actsToCome = 0
    private var isAlive: [Bool]
    private var stoppedUntil: [UInt64]
    private var isDeadlineSet: [Bool]
    /// A wake of the rank as soon as it can is on its way.
    private var isWoken: [Bool]

    package init(worldSize: Int, seed: UInt64, options: CommunicatorOptions) {
        self.worldSize = worldSize
        self.seed = seed
        random = SimulationRandom(seed: seed)
        conditions = Conditions(&random)
        isAlive = Array(repeating: true, count: worldSize)
        stoppedUntil = Array(repeating: 0, count: worldSize)
        isDeadlineSet = Array(repeating: false, count: worldSize)
        isWoken = isDeadlineSet
        pipes = (0..<(worldSize * worldSize)).map { Pipe(from: $0 / worldSize, to: $0 % worldSize) }
        links = (0..<worldSize).map { SimulatedLink(rank: $0, network: self) }
        executors = links.map { Executor(link: $0, options: options) }
    }

    // MARK: What a test asks for

    /// Lets a rank do something with its executor, usually start an operation.
    package func at(_ time: UInt64, rank: Int, _ act: @escaping (Executor) -> Void) {
        actsToCome += 1
        heap.add(.act(rank, act), at: time)
    }

    /// The process dies; its peers' connections are reset a hop later.
    package func kill(_ rank: Int, at time: UInt64) { heap.add(.kill(rank), at: time) }

    /// The process does nothing until `end`; its kernel keeps what it has.
    package func stop(_ rank: Int, at time: UInt64, until end: UInt64) {
        heap.add(.stop(rank, until: end), at: time)
    }

    /// Flips bits in the fragment number `count` from one rank to another, which the receiver notices.
    package func corrupt(from: Int, to: Int, fragment count: Int) {
        pipe(from: from, to: to).corruptAfter = count
    }

    package func isAlive(_ rank: Int) -> Bool { isAlive[rank] }

    /// Runs until every living, unstopped rank has finished all it began, or has a fault. False: some rank
    /// is left with work and nothing will ever happen again, a hang.
    package func run() -> Bool {
        while !isSettled {
            guard let (time, event) = heap.removeFirst() else { return false }
            now = max(now, time)
            handle(event)
        }
        return true
    }

    private var isSettled: Bool {
        actsToCome == 0 && (0..<worldSize).allSatisfy {
            !isAlive[$0] || stoppedUntil[$0] == .max || !executors[$0].isBusy
        }
    }

    private func handle(_ event: Event) {
        switch event {
        case .wake(let rank):
            isWoken[rank] = false
            resume(rank) { $0.pass(until: 0) }
        case .act(let rank, let act):
            if isAlive[rank], stoppedUntil[rank] > now, stoppedUntil[rank] < .max {
                heap.add(event, at: stoppedUntil[rank])
            } else {
                actsToCome -= 1
                resume(rank, act)
            }
        case .deadline(let rank):
            isDeadlineSet[rank] = false
            resume(rank) { if $0.isBusy, now >= $0.deadline(since: 0) { $0.expire() } }
        case .kill(let rank):
            isAlive[rank] = false
            for peer in 0..<worldSize where peer != rank {
                let fault = LinkFault(culprit: rank, host: "simulated", operation: "exchange of messages",
                                      evidence: "connection reset", reporter: peer)
                heap.add(.fail(peer, fault), at: now + latency())
            }
        case .stop(let rank, let end):
            stoppedUntil[rank] = end
            if end < .max { heap.add(.wake(rank), at: end) }
        case .hear(let rank, let event):
            if isAlive[rank] { links[rank].hear(event) }
        case .fail(let rank, let fault):
            links[rank].fail(fault)
        }
    }

    /// Lets a rank run, if it can, and sees to it that its deadline will be looked at.
    private func resume(_ rank: Int, _ act: (Executor) -> Void) {
        guard isAlive[rank], stoppedUntil[rank] <= now else { return }
        act(executors[rank])
        if executors[rank].isBusy, !isDeadlineSet[rank] {
            isDeadlineSet[rank] = true
            heap.add(.deadline(rank), at: executors[rank].deadline(since: 0))
        }
    }

    // MARK: What links ask for

    func pipe(from: Int, to: Int) -> Pipe { pipes[from * worldSize + to] }

    func wake(_ rank: Int) {
        guard !isWoken[rank] else { return }
        isWoken[rank] = true
        let factor = random.chance(oneIn: 50) ? 100 : 1
        heap.add(.wake(rank), at: now + UInt64(random.integer(in: 0...conditions.sluggishness) * factor))
    }

    func wake(_ rank: Int, at time: UInt64) { heap.add(.wake(rank), at: time) }

    func wakeAfterHop(_ rank: Int) { heap.add(.wake(rank), at: now + latency()) }

    func tellPeers(of rank: Int, _ fault: LinkFault) {
        for peer in 0..<worldSize where peer != rank { heap.add(.fail(peer, fault), at: now + latency()) }
    }

    /// A rank asks all others what they are doing.
    func ask(_ rank: Int) { for peer in 0..<worldSize where peer != rank { tell(peer, .asked(by: rank)) } }

    func tell(_ rank: Int, _ event: LinkEvent) { heap.add(.hear(rank, event), at: now + latency()) }

    func latency() -> UInt64 { UInt64(random.integer(in: conditions.latency)) }

    /// Often as much as there is; one in four of any length, down to a byte.
    func fragmentLength() -> Int {
        let largest = conditions.largestFragment
        return random.chance(oneIn: 4) ? random.magnitude(in: 1...largest) : largest
    }

    func transferTime(_ bytes: Int) -> UInt64 { UInt64(bytes * 1000 / conditions.bytesPerMicrosecond) }
}
