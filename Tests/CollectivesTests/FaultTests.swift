import Base
import Collectives
import Simulation
import Testing
import Wire

@Suite struct FaultTests {
    static let timeout = 20.0

    /// Four ring all-reduces on every rank; `skew` changes what one rank believes the second one to be.
    private func job(worldSize: Int, seed: UInt64, skew: Int? = nil) -> (SimulatedNetwork, [Trial]) {
        let options = CommunicatorOptions(timeoutSeconds: Self.timeout, segmentBytes: 1024)
        let network = SimulatedNetwork(worldSize: worldSize, seed: seed, options: options)
        let trials = [3000, 10_000, 500, 3000].enumerated().map { index, count in
            Trial(requests(.allReduce, .ring, count: count, worldSize: worldSize)[0],
                  seed: seed + UInt64(index), whole: true)
        }
        let other = Trial(requests(.allReduce, .ring, count: 10_001, worldSize: worldSize)[0], seed: 0,
                          whole: true)
        for (number, trial) in trials.enumerated() {
            for rank in 0..<worldSize {
                let own = rank == skew && number == 1 ? other : trial
                let operation = own.operation(rank, number: UInt32(number), segmentBytes: 1024)
                network.at(UInt64(number * 100 + rank), rank: rank) { $0.start(operation) }
            }
        }
        // The buffers must outlive the run, whatever the compiler thinks of their last use.
        network.kept = trials + [other]
        return (network, trials)
    }

    /// When the same job ends if nothing goes wrong.
    private func undisturbed(worldSize: Int, seed: UInt64) -> UInt64 {
        let (network, trials) = job(worldSize: worldSize, seed: seed)
        #expect(network.run())
        for trial in trials { #expect(trial.wrongElement() == nil) }
        return network.now
    }

    /// Every rank but `culprit` that has not finished has a fault that names it. How many had one.
    private func blames(_ network: SimulatedNetwork, culprit: Int) -> Int {
        var count = 0
        for (rank, executor) in network.executors.enumerated() where rank != culprit {
            guard let fault = executor.fault else {
                #expect(executor.operationsFinished == 4, "rank \(rank) neither finished nor failed")
                continue
            }
            count += 1
            #expect(fault.culprit == culprit, "seed \(network.seed), rank \(rank): \(fault)")
            #expect("\(fault)".contains("all-reduce of "), "\(fault)")
        }
        return count
    }

    @Test(arguments: seeds(60))
    func aKilledRankIsNamedByAll(seed: Int) {
        let worldSize = 2 + seed % 7
        let end = undisturbed(worldSize: worldSize, seed: UInt64(seed))
        var random = SimulationRandom(seed: UInt64(seed), stream: 9)
        let culprit = random.integer(in: 0...(worldSize - 1))
        let time = end / 100 * UInt64(random.integer(in: 0...70))
        let (network, _) = job(worldSize: worldSize, seed: UInt64(seed))
        network.kill(culprit, at: time)
        #expect(network.run(), "hang: seed \(seed)")
        #expect(blames(network, culprit: culprit) == worldSize - 1)
        // The reset reaches everyone within a hop, far from the deadline.
        #expect(Double(network.now - time) * 1e-9 < 1)
    }

    /// No connection breaks and no heartbeat helps: the deadline alone must find the rank that does not
    /// take part, although most others wait for someone else.
    @Test(arguments: seeds(60))
    func aSilentRankIsNamedByAll(seed: Int) {
        let worldSize = 2 + seed % 7
        let end = undisturbed(worldSize: worldSize, seed: UInt64(seed))
        var random = SimulationRandom(seed: UInt64(seed), stream: 10)
        let culprit = random.integer(in: 0...(worldSize - 1))
        let time = end / 100 * UInt64(random.integer(in: 0...60))
        let (network, _) = job(worldSize: worldSize, seed: UInt64(seed))
        network.stop(culprit, at: time, until: .max)
        #expect(network.run(), "hang: seed \(seed)")
        #expect(blames(network, culprit: culprit) == worldSize - 1)
        #expect(Double(network.now) * 1e-9 < Double(end) * 1e-9 + Self.timeout + 3)
    }

    /// A rank that pauses for less than the deadline disturbs nothing.
    @Test(arguments: seeds(20))
    func aPauseIsForgiven(seed: Int) {
        let worldSize = 2 + seed % 7
        let (network, trials) = job(worldSize: worldSize, seed: UInt64(seed))
        network.stop(seed % worldSize, at: 200_000, until: 15_000_000_000)
        #expect(network.run(), "hang: seed \(seed)")
        for executor in network.executors { #expect(executor.fault == nil) }
        for trial in trials { #expect(trial.wrongElement() == nil) }
    }

    @Test(arguments: seeds(30))
    func corruptionIsBlamedOnItsSender(seed: Int) {
        let worldSize = 2 + seed % 7
        let (network, _) = job(worldSize: worldSize, seed: UInt64(seed))
        let culprit = seed % worldSize
        network.corrupt(from: culprit, to: (culprit + 1) % worldSize, fragment: seed % 5)
        #expect(network.run(), "hang: seed \(seed)")
        for executor in network.executors {
            #expect(executor.fault?.culprit == culprit)
            #expect("\(executor.fault!)".contains("CRC mismatch"))
        }
    }

    /// A rank with another operation under the same number: its neighbours see it, or it sees a neighbour;
    /// either way all end, and the message names it.
    @Test(arguments: seeds(30))
    func anotherOperationIsNoticed(seed: Int) {
        let worldSize = 2 + seed % 7
        let odd = seed % worldSize
        let (network, _) = job(worldSize: worldSize, seed: UInt64(seed), skew: odd)
        #expect(network.run(), "hang: seed \(seed)")
        for executor in network.executors {
            guard case .peer(let cause, let during) = executor.fault else {
                Issue.record("seed \(seed): a rank goes on")
                continue
            }
            #expect(cause.culprit == odd || cause.reporter == odd, "\(cause)")
            #expect(cause.evidence.contains("operation 1"))
            #expect(during.contains("operation"))
        }
    }

    /// Silence described: who waits for whom, in what, with how much received.
    @Test func theDeadlineSaysWhatIsMissing() {
        let options = CommunicatorOptions(timeoutSeconds: 2, graceSeconds: 0.5, segmentBytes: 1024,
                                          patienceSeconds: 0)
        let network = SimulatedNetwork(worldSize: 2, seed: 1, options: options)
        let trial = Trial(requests(.allReduce, .ring, count: 1024, worldSize: 2)[0], seed: 1, whole: true)
        network.kept = [trial]
        let operation = trial.operation(0, number: 7, segmentBytes: 1024)
        network.at(0, rank: 0) { $0.start(operation) }
        #expect(network.run())
        #expect("\(network.executors[0].fault!)" == "rank 1 (host1) failed during all-reduce of 1,024 float32 "
            + "(4.0 KiB), operation 7: nothing moved for 2.5 s while rank 0 waits for segment 0 from rank 1 "
            + "(0 of 4 segments received, 2 of 4 sent); rank 1 has been in no collective for 2.0 s [seen by rank 0]")
    }

    @Test func theSeedDecidesEverything() {
        let ends = (0..<2).map { _ in undisturbed(worldSize: 5, seed: 77) }
        #expect(ends[0] == ends[1])
        #expect(ends[0] != undisturbed(worldSize: 5, seed: 78))
    }
}
