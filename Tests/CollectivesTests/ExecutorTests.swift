import Base
import Collectives
import Simulation
import Testing

/// The production executor on a network with virtual time: any delays, fragments, early arrivals, stalls.
@Suite struct ExecutorTests {
    /// Starts the trials in one order on every rank, each rank at its own moments, and runs to the end.
    private func run(_ trials: [Trial], worldSize: Int, seed: UInt64, segmentBytes: Int,
                     staging: Int? = nil) -> String? {
        var options = CommunicatorOptions(timeoutSeconds: 100, segmentBytes: segmentBytes)
        options.stagingLimit = staging
        let network = SimulatedNetwork(worldSize: worldSize, seed: seed, options: options)
        var random = SimulationRandom(seed: seed, stream: 1)
        var counts: [[Int]: UInt32] = [:]
        var times = [UInt64](repeating: 0, count: worldSize)
        for trial in trials {
            let group = trial.request.group
            for (position, rank) in group.ranks.enumerated() {
                let operation = trial.operation(position, number: counts[group.ranks, default: 0],
                                                segmentBytes: segmentBytes)
                times[rank] += UInt64(random.magnitude(in: 1...3_000_000))
                network.at(times[rank], rank: rank) { $0.start(operation) }
            }
            counts[group.ranks, default: 0] += 1
        }
        let context = "seed \(seed), world size \(worldSize), \(network.conditions)"
        guard network.run() else { return "hang: \(context)" }
        for executor in network.executors {
            if let fault = executor.fault { return "\(fault); \(context)" }
        }
        for trial in trials {
            if let wrong = trial.wrongElement() { return "\(trial.request.name): \(wrong); \(context)" }
        }
        return nil
    }

    private func someCollective(_ random: inout SimulationRandom, _ size: Int) -> (CollectiveKind, Algorithm) {
        let some = allCollectives.filter { serves($0, size) }
        return some[random.integer(in: 0...(some.count - 1))]
    }

    /// The sum of whole numbers is exact in any order: the naive sum, whatever the algorithm.
    @Test(arguments: allCollectives, 1...9)
    func equalsTheNaiveSum(_ collective: (CollectiveKind, Algorithm), worldSize: Int) {
        guard serves(collective, worldSize) else { return }
        for count in [0, 1, 2, 1009, 5003] {
            let request = requests(collective.0, collective.1, count: count, worldSize: worldSize,
                                   root: worldSize / 2)[0]
            let trial = Trial(request, seed: 5, whole: true)
            let wrong = run([trial], worldSize: worldSize, seed: UInt64(count), segmentBytes: 512)
            #expect(wrong == nil)
            guard collective.0 == .allReduce else { continue }
            let naive = (0..<count).map { element in trial.inputs.reduce(0) { $0 + $1[element] } }
            #expect(trial.rows.allSatisfy { $0.values == naive })
        }
    }

    /// Arbitrary numbers: bit for bit the documented order of sums, on every rank, for every seed.
    @Test(arguments: allCollectives, 1...9)
    func equalsTheDocumentedOrder(_ collective: (CollectiveKind, Algorithm), worldSize: Int) {
        guard serves(collective, worldSize) else { return }
        for (count, segmentBytes, seeds) in [(0, 64, 2), (1, 64, 4), (2, 64, 4), (1009, 256, 8),
                                             (100_003, 8192, 2)] {
            for seed in 0..<UInt64(seeds) {
                let request = requests(collective.0, collective.1, count: count, worldSize: worldSize,
                                       root: Int(seed) % worldSize)[0]
                let wrong = run([Trial(request, seed: seed, whole: false)], worldSize: worldSize,
                                seed: seed, segmentBytes: segmentBytes)
                #expect(wrong == nil)
            }
        }
    }

    /// With the segments that training uses.
    @Test(arguments: [2, 3, 4, 9])
    func largeBuffersInFullSegments(worldSize: Int) {
        let request = requests(.allReduce, .ring, count: 1_500_007, worldSize: worldSize)[0]
        let wrong = run([Trial(request, seed: 1, whole: false)], worldSize: worldSize, seed: 3,
                        segmentBytes: 512 << 10)
        #expect(wrong == nil)
    }

    /// Many operations at once: all kinds, mixed sizes, more adding receives than staging segments.
    @Test(arguments: seeds(40))
    func severalInFlight(seed: Int) {
        var random = SimulationRandom(seed: UInt64(seed), stream: 2)
        let worldSize = random.integer(in: 2...6)
        let trials = (0..<10).map { index in
            let (kind, algorithm) = someCollective(&random, worldSize)
            let request = requests(kind, algorithm, count: random.magnitude(in: 1...20_000),
                                   worldSize: worldSize, root: index % worldSize)[0]
            return Trial(request, seed: UInt64(seed * 100 + index), whole: false)
        }
        let wrong = run(trials, worldSize: worldSize, seed: UInt64(seed), segmentBytes: 1024)
        #expect(wrong == nil)
    }

    /// Groups in any order of ranks, disjoint and overlapping, in flight together with the world's.
    @Test(arguments: seeds(20))
    func groups(seed: Int) {
        let sets = [[0, 1, 2, 3, 4, 5], [4, 1], [0, 2, 3, 5], [5, 3, 1], [2, 0, 4], [1, 4, 5, 0, 2, 3]]
        var random = SimulationRandom(seed: UInt64(seed), stream: 3)
        let trials = (0..<12).map { index in
            let ranks = sets[random.integer(in: 0...(sets.count - 1))]
            let group = Group(ranks: ranks, rank: ranks[0])
            let (kind, algorithm) = someCollective(&random, ranks.count)
            let request = request(kind, algorithm, count: random.magnitude(in: 1...5000), group: group,
                                  root: index % group.size)
            return Trial(request, seed: UInt64(seed * 100 + index), whole: false,
                         group: UInt32(sets.firstIndex(of: ranks) ?? 0))
        }
        #expect(run(trials, worldSize: 6, seed: UInt64(seed), segmentBytes: 512) == nil)
    }

    /// Random groups of random sizes in one order, as little staging as there can be, a network that keeps nothing
    /// early in every second case: the oldest operation can always go on, so all end.
    @Test(arguments: seeds(60))
    func randomGroupsWithTheLeastStaging(seed: Int) {
        var random = SimulationRandom(seed: UInt64(seed), stream: 4)
        let worldSize = random.integer(in: 3...9)
        var ids: [[Int]] = []
        let trials = (0..<16).map { index in
            var ranks = Array(0..<worldSize)
            for place in ranks.indices.dropLast() { ranks.swapAt(place, random.integer(in: place...(worldSize - 1))) }
            ranks.removeLast(worldSize - random.integer(in: 2...worldSize))
            if !ids.contains(ranks) { ids.append(ranks) }
            let group = Group(ranks: ranks, rank: ranks[0])
            let (kind, algorithm) = someCollective(&random, ranks.count)
            let request = request(kind, algorithm, count: random.magnitude(in: 1...3000), group: group,
                                  root: index % group.size)
            return Trial(request, seed: UInt64(seed * 100 + index), whole: false,
                         group: UInt32(ids.firstIndex(of: ranks) ?? 0))
        }
        #expect(run(trials, worldSize: worldSize, seed: UInt64(seed), segmentBytes: 256, staging: 1) == nil)
    }

    /// Half the bytes on the wire, or a quarter, sums in float32: bit for bit each contribution rounded once on its
    /// way, and the owner's result rounded for all, itself too.
    @Test(arguments: [CollectiveKind.allReduce, .reduceScatter, .allGather], 2...5)
    func narrowOnTheWire(_ kind: CollectiveKind, worldSize: Int) {
        for (count, segmentBytes) in [(1, 64), (1009, 256), (50_003, 8192)] {
            for wire in [WireFormat.bfloat16, .e4m3] {
                let request = requests(kind, .direct, count: count, worldSize: worldSize, wire: wire)[0]
                let wrong = run([Trial(request, seed: 3, whole: false)], worldSize: worldSize, seed: UInt64(count),
                                segmentBytes: segmentBytes)
                #expect(wrong == nil)
            }
        }
    }

    /// Which sums follow the balanced tree is what `isCanonical` says: the tree's bits in any segments, and of those
    /// that do not claim it, other bits somewhere.
    @Test(arguments: allCollectives.filter { $0.0.reduces }, [2, 4, 8, 16])
    func canonicalOrder(_ collective: (CollectiveKind, Algorithm), worldSize: Int) {
        let (kind, algorithm) = collective
        let count = 777
        for segmentBytes in [64, 4096] {
            let request = requests(kind, algorithm, count: count, worldSize: worldSize)[0]
            let trial = Trial(request, seed: 12, whole: false)
            #expect(run([trial], worldSize: worldSize, seed: 8, segmentBytes: segmentBytes) == nil)
            var tree = trial.inputs
            while tree.count > 1 {
                tree = stride(from: 0, to: tree.count, by: 2).map { zip(tree[$0], tree[$0 + 1]).map(+) }
            }
            let owners = Partition(evenly: count, over: worldSize)
            let isTree = trial.rows.enumerated().allSatisfy { position, row in
                let range = kind == .reduceScatter ? owners[position]
                    : kind == .reduce && position > 0 ? 0..<0 : 0..<count
                return range.allSatisfy { row.values[$0].bitPattern == tree[0][$0].bitPattern }
            }
            #expect(isTree == algorithm.isCanonical(kind, groupSize: worldSize), "\(kind) \(algorithm)")
        }
    }

    /// The least a network can buffer: one byte under way, nothing early. The rules of `Schedule` alone
    /// must keep everything moving.
    @Test(arguments: allCollectives, 2...5)
    func nothingIsBuffered(_ collective: (CollectiveKind, Algorithm), worldSize: Int) {
        guard serves(collective, worldSize) else { return }
        let options = CommunicatorOptions(timeoutSeconds: 1e6, segmentBytes: 64)
        let network = SimulatedNetwork(worldSize: worldSize, seed: 11, options: options)
        network.conditions.window = 1
        network.conditions.earlyBytes = 0
        network.conditions.latency = 1...10
        let trials = (0..<3).map {
            Trial(requests(collective.0, collective.1, count: 60 * (3 - $0), worldSize: worldSize)[0],
                  seed: UInt64($0), whole: false)
        }
        for (number, trial) in trials.enumerated() {
            for rank in 0..<worldSize {
                let operation = trial.operation(rank, number: UInt32(number), segmentBytes: 64)
                network.at(UInt64(rank * 1000), rank: rank) { $0.start(operation) }
            }
        }
        #expect(network.run())
        for executor in network.executors { #expect(executor.fault == nil) }
        for trial in trials { #expect(trial.wrongElement() == nil) }
    }
}
