import Collectives
import Testing

/// Every kind with every algorithm that serves it, at least where the group's size is a power of two.
let allCollectives: [(CollectiveKind, Algorithm)] = CollectiveKind.allCases.flatMap { kind in
    Algorithm.allCases.filter { $0.serves(kind, groupSize: 2) }.map { (kind, $0) }
}

/// Those of them that there are for a group of so many.
func serves(_ collective: (CollectiveKind, Algorithm), _ size: Int) -> Bool {
    collective.1.serves(collective.0, groupSize: size) && (collective.0 != .transfer || size == 2)
}

/// All members' requests for one collective over the world.
func requests(_ kind: CollectiveKind, _ algorithm: Algorithm, count: Int, worldSize: Int, root: Int = 0,
              partition: Partition? = nil, wire: WireFormat = .native) -> [Request] {
    (0..<worldSize).map {
        request(kind, algorithm, count: count, group: Group(worldSize: worldSize, rank: $0), root: root,
                partition: partition, wire: wire)
    }
}

func request(_ kind: CollectiveKind, _ algorithm: Algorithm, count: Int, group: Group, root: Int = 0,
             partition: Partition? = nil, wire: WireFormat = .native) -> Request {
    var count = count, partition = partition
    // A barrier's buffer is as long as it has tokens.
    if kind == .barrier {
        count = 1
        while count < group.size { count *= 2 }
    }
    // Filled in by `exchanged`, for each position.
    if kind == .allToAll { partition = Partition(evenly: count, over: group.size) }
    return Request(kind, .float32, count: count, group: group, partition: partition,
                   outgoing: kind == .allToAll ? partition : nil, root: kind.hasRoot ? root : 0, wire: wire,
                   algorithm: algorithm)
}

@Suite struct ScheduleTests {
    /// Lengths below, at and far above the number of ranks, whole and cut into segments.
    static let shapes = [(0, 4), (1, 4), (2, 1), (8, 16), (9, 2), (1009, 16), (1009, 5000),
                         (1_000_003, 40_000)]

    @Test(arguments: allCollectives, 1...9)
    func eachContributionArrivesExactlyOnce(_ collective: (CollectiveKind, Algorithm), worldSize: Int) {
        guard serves(collective, worldSize) else { return }
        for (count, limit) in Self.shapes {
            for root in collective.0.hasRoot ? Array(0..<worldSize) : [0] {
                check(requests(collective.0, collective.1, count: count, worldSize: worldSize, root: root),
                      segmentLimit: limit)
            }
        }
    }

    /// Parts of any size, also empty ones in between.
    @Test(arguments: allCollectives.filter { ![.broadcast, .barrier, .allToAll, .reduce, .transfer].contains($0.0) })
    func unevenPartitions(_ collective: (CollectiveKind, Algorithm)) {
        for bounds in [[0, 0, 0, 10], [0, 10, 10, 10], [0, 1, 8, 8, 20], [0, 0, 5, 5, 6, 30]] {
            let partition = Partition(bounds: bounds)
            guard serves(collective, partition.parts) else { continue }
            check(requests(collective.0, collective.1, count: partition.count, worldSize: partition.parts,
                           partition: partition), segmentLimit: 3)
        }
    }

    private func check(_ requests: [Request], segmentLimit: Int) {
        var requests = requests
        for position in requests.indices where requests[position].kind == .allToAll {
            let cut = exchanged(requests[position], position)
            (requests[position].partition, requests[position].outgoing) = (cut.incoming, cut.outgoing)
        }
        let schedules = requests.map { $0.schedule(segmentBytes: 4 * segmentLimit) }
        let first = requests[0]
        let what = "\(first.algorithm) \(first.name) over \(requests.count), root \(first.root)"
        for schedule in schedules {
            if let broken = brokenRule(of: schedule, segmentLimit: segmentLimit) {
                Issue.record("\(what): \(broken)\n\(schedule)")
            }
        }
        var symbolic = SymbolicRun(requests, schedules)
        if let fault = symbolic.run() ?? symbolic.wrongResult() {
            Issue.record("\(what): \(fault)\n\(schedules.map(\.description).joined())")
        }
    }

    /// The rules of `Schedule` that one rank's list shows by itself.
    private func brokenRule(of schedule: Schedule, segmentLimit: Int) -> String? {
        for (step, next) in zip(schedule.steps, schedule.steps.dropFirst())
        where (step.round, step.segment) > (next.round, next.segment) { return "not sorted by round and segment" }
        for (index, step) in schedule.steps.enumerated() {
            if step.range.isEmpty || step.isMessage && step.range.count > segmentLimit {
                return "a segment of \(step.range.count)"
            }
            guard step.isMessage else { continue }
            if step.peer == schedule.index { return "a message to itself" }
            let together = schedule.steps.enumerated().filter {
                $0.offset != index && ($0.element.round, $0.element.segment) == (step.round, step.segment)
            }.map(\.element)
            if step.deed == .send { continue }
            if together.contains(where: { $0.isMessage && $0.deed != .send }) { return "two receives at once" }
            let overlaps = together.contains { !$0.isOfSource && $0.range.overlaps(step.range) }
            if step.deed == .receive(.replace), overlaps { return "replaces what it sends" }
        }
        return nil
    }

    /// The executor may reorder whatever `blockers` leaves open. So any two steps whose elements conflict
    /// (one of them writes) must be joined by a path of blockers.
    @Test(arguments: allCollectives, [2, 3, 4, 5, 8])
    func conflictingStepsAreOrdered(_ collective: (CollectiveKind, Algorithm), worldSize: Int) {
        guard serves(collective, worldSize) else { return }
        for request in requests(collective.0, collective.1, count: 101, worldSize: worldSize) {
            let schedule = request.schedule(segmentBytes: 4 * 8)
            var reachable: [Set<Int>] = []
            for earlier in Program.blockers(of: schedule) {
                reachable.append(earlier.reduce(into: earlier) { $0.formUnion(reachable[$1]) })
            }
            for (index, step) in schedule.steps.enumerated() {
                for (before, other) in schedule.steps[..<index].enumerated()
                where other.range.overlaps(step.range) && !other.isOfSource && !step.isOfSource
                    && (other.deed != .send || step.deed != .send) {
                    #expect(reachable[index].contains(before), "steps \(before) and \(index) of \(schedule)")
                }
            }
        }
    }

    @Test func printedForPeople() {
        let schedule = requests(.allReduce, .ring, count: 5, worldSize: 2)[1].schedule(segmentBytes: 8)
        #expect(schedule.description == """
            position 1 of 2, 5 elements, 6 steps
              round 0.0: send 0..<2 -> 0
              round 0.0: add 3..<5 <- 0
              round 0.1: send 2..<3 -> 0
              round 1.0: send 3..<5 -> 0
              round 1.0: receive 0..<2 <- 0
              round 1.1: receive 2..<3 <- 0

            """)
    }

    @Test func busFactorsAreThoseOfNcclTests() {
        #expect(CollectiveKind.allReduce.busFactor(worldSize: 4) == 1.5)
        #expect(CollectiveKind.reduceScatter.busFactor(worldSize: 4) == 0.75)
        #expect(CollectiveKind.allGather.busFactor(worldSize: 2) == 0.5)
        #expect(CollectiveKind.broadcast.busFactor(worldSize: 8) == 1)
    }
}

/// Runs all ranks' schedules with sets of contributions in place of numbers: for each rank and interval of
/// elements, how often each rank's contribution is in it. Column W counts what was never a contribution.
struct SymbolicRun {
    typealias Value = [Int]
    struct Message {
        var step: Step
        var values: [Value]
    }

    let requests: [Request]
    let schedules: [Schedule]
    let bounds: [Int]
    var values: [[Value]]
    var wire: [[[Message]]]

    init(_ requests: [Request], _ schedules: [Schedule]) {
        self.requests = requests
        self.schedules = schedules
        let size = requests.count
        let count = requests[0].count
        let owners = requests[0].partition ?? Partition(evenly: count, over: size)
        let edges = schedules.flatMap { schedule in
            schedule.steps.flatMap { $0.isOfSource ? [] : [$0.range.lowerBound, $0.range.upperBound] }
        }
        let all = requests.flatMap { $0.partition?.bounds ?? owners.bounds }
        let tokens = requests[0].kind == .barrier ? Array(0...count) : []
        let bounds = Set(edges + owners.bounds + all + tokens).sorted()
        self.bounds = bounds
        wire = Array(repeating: Array(repeating: [], count: size), count: size)
        values = (0..<size).map { rank in
            bounds.dropLast().map { start in
                let contributes = switch requests[0].kind {
                case .allReduce, .reduceScatter, .reduce: true
                case .allGather: owners[rank].contains(start)
                case .barrier: start == 0
                case .broadcast, .transfer, .scatter: rank == requests[0].root
                case .gather: rank == requests[0].root ? owners[rank].contains(start) : true
                case .allToAll: false
                }
                var value = Value(repeating: 0, count: size + 1)
                value[contributes ? rank : size] = 1
                return value
            }
        }
    }

    private func intervals(_ range: Range<Int>) -> Range<Int> {
        bounds.firstIndex(of: range.lowerBound)!..<bounds.firstIndex(of: range.upperBound)!
    }

    /// Each rank in its own order, waiting only for messages; what went wrong, if anything.
    mutating func run() -> String? {
        var next = [Int](repeating: 0, count: schedules.count)
        var moved = true
        while moved {
            moved = false
            for (rank, schedule) in schedules.enumerated() {
                while next[rank] < schedule.steps.count {
                    let step = schedule.steps[next[rank]]
                    if case .receive(let combine) = step.deed {
                        guard !wire[step.peer][rank].isEmpty else { break }
                        let message = wire[step.peer][rank].removeFirst()
                        let isShifted = [.allToAll, .gather, .scatter, .barrier].contains(requests[0].kind)
                        guard isShifted ? message.step.range.count == step.range.count
                                : message.step.range == step.range, message.step.round == step.round,
                              message.step.segment == step.segment else {
                            return "ends differ: \(message.step), \(step)"
                        }
                        // Where ranges are shifted, a message has one value throughout.
                        for (place, interval) in intervals(step.range).enumerated() {
                            let value = isShifted && requests[0].kind != .barrier
                                ? message.values[0] : message.values[place]
                            values[rank][interval] = combine == .replace
                                ? value : zip(values[rank][interval], value).map(+)
                        }
                    } else if step.isOfSource {
                        var own = Value(repeating: 0, count: schedules.count + 1)
                        own[rank] = 1
                        wire[rank][step.peer].append(Message(step: step, values: [own]))
                    } else if case .copy = step.deed {
                        for interval in intervals(step.range) {
                            values[rank][interval] = Value(repeating: 0, count: schedules.count + 1)
                            values[rank][interval][rank] = 1
                        }
                    } else if step.isMessage {
                        wire[rank][step.peer].append(
                            Message(step: step, values: Array(values[rank][intervals(step.range)])))
                    }
                    next[rank] += 1
                    moved = true
                }
            }
        }
        let isDone = zip(next, schedules).allSatisfy { $0 == $1.steps.count }
        let isDelivered = wire.allSatisfy { $0.allSatisfy(\.isEmpty) }
        return isDone && isDelivered ? nil : "stuck, or messages left over"
    }

    func wrongResult() -> String? {
        let size = requests.count
        for rank in 0..<size {
            let request = requests[rank]
            let owners = request.partition ?? Partition(evenly: request.count, over: size)
            for (interval, start) in bounds.dropLast().enumerated() {
                guard start < owners.count,
                      let owner = (0..<size).first(where: { owners[$0].contains(start) }) else { continue }
                if request.kind == .reduceScatter, owner != rank { continue }
                var expected = Value(repeating: 0, count: size + 1)
                switch request.kind {
                case .allReduce, .reduceScatter: for member in 0..<size { expected[member] = 1 }
                case .reduce:
                    if rank != request.root { continue }
                    for member in 0..<size { expected[member] = 1 }
                case .barrier: expected[((rank - start) % size + size) % size] = 1
                case .allGather, .allToAll: expected[owner] = 1
                case .broadcast, .transfer: expected[request.root] = 1
                case .gather:
                    if rank != request.root { continue }
                    expected[owner] = 1
                case .scatter:
                    // Elsewhere than at the root the buffer is the part alone.
                    if rank != request.root, start >= owners[rank].count { continue }
                    expected[request.root] = 1
                }
                if values[rank][interval] != expected {
                    return "rank \(rank) has \(values[rank][interval]) from element \(start)"
                }
            }
        }
        return nil
    }
}
