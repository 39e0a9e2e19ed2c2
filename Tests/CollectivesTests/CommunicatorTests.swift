import Base
import Collectives
import Simulation
import Testing
import Wire

/// The blocking shell, with ranks as threads.
@Suite struct CommunicatorTests {
    @Test(arguments: 1...5)
    func everyCollective(ranks: Int) throws {
        let results = onThreads(ranks: ranks) { communicator in
            let rank = communicator.rank
            let sum = Float(ranks * (ranks + 1) / 2)
            let row = Row([Float](repeating: Float(rank + 1), count: 10_007))
            try unsafe communicator.allReduce(row.floats).wait()
            #expect(row.values.allSatisfy { $0 == sum })

            let scattered = Row([Float](repeating: Float(rank + 1), count: 1009))
            try unsafe communicator.reduceScatter(scattered.floats).wait()
            let own = Partition(evenly: 1009, over: ranks)[rank]
            #expect(scattered.values[own].allSatisfy { $0 == sum })
            for element in 0..<1009 where !own.contains(element) { unsafe scattered.floats[element] = -1 }
            try unsafe communicator.allGather(scattered.floats).wait()
            #expect(scattered.values.allSatisfy { $0 == sum })

            for root in 0..<ranks {
                let copied = Row([Float](repeating: rank == root ? 42 : 0, count: 30_000))
                try unsafe communicator.broadcast(copied.bytes, from: root).wait()
                #expect(copied.values.allSatisfy { $0 == 42 })
            }
            try communicator.barrier()

            let bytes = Row([Float](repeating: .nan, count: ranks))
            unsafe bytes.floats[rank] = Float(rank)
            try unsafe communicator.allGather(bytes: bytes.bytes).wait()
            #expect(bytes.values == (0..<ranks).map { Float($0) })
        }
        for result in results { try result.get() }
    }

    @Test(arguments: 1...4)
    func fewNumbers(ranks: Int) throws {
        let results = onThreads(ranks: ranks) { communicator -> [UInt64] in
            let rank = Double(communicator.rank)
            #expect(try communicator.exchange([rank, -rank]) == (0..<ranks).map { [Double($0), -Double($0)] })
            let all = Double(ranks * (ranks - 1) / 2)
            #expect(try communicator.sum(rank) == all)
            #expect(try communicator.sum(rank, 1) == (all, Double(ranks)))
            #expect(try communicator.sum(1, rank, 2 * rank) == [Double(ranks), all, 2 * all])
            try communicator.compareHashes(99, of: "parameters")
            return try communicator.sum(0.1 * (rank + 1), 1e-9 * rank, 1e17 / (rank + 3)).map(\.bitPattern)
        }
        let rows = try results.map { try $0.get() }
        #expect(Set(rows).count == 1)
    }

    /// Reductions move while nobody waits, and end with the same bits as without the helper.
    @Test func overlapping() throws {
        let results = onThreads(ranks: 3) { communicator -> [Float] in
            var all: [Float] = []
            for overlaps in [false, true, true] {
                let rows = (0..<5).map {
                    Row(input(rank: communicator.rank, count: 50_000 + $0, seed: UInt64($0), whole: false))
                }
                var tickets = TicketQueue(communicator)
                if overlaps { communicator.beginOverlap() }
                for row in rows { tickets.append(unsafe communicator.allReduce(row.floats)) }
                if overlaps { try tickets.waitNext() } else { communicator.progress() }
                #expect(try communicator.sum(1.0) == 3)
                if overlaps { communicator.endOverlap() }
                #expect(tickets.count == (overlaps ? 4 : 5))
                try tickets.waitAll()
                let values = rows.flatMap(\.values)
                #expect(all.isEmpty || all == values)
                all = values
            }
            return all
        }
        let rows = try results.map { try $0.get() }
        #expect(rows[0] == rows[1] && rows[1] == rows[2])
    }

    /// While the caller is busy elsewhere the helper alone finishes what was begun.
    @Test func theHelperWorksAlone() throws {
        let results = onThreads(ranks: 2) { communicator -> Double in
            let row = Row([Float](repeating: 1, count: 600_000))
            communicator.beginOverlap()
            let ticket = unsafe communicator.allReduce(row.floats)
            let before = communicator.statistics.operations
            var polls = 0
            while communicator.statistics.operations == before, polls < 1_000_000 { polls += 1 }
            communicator.endOverlap()
            try ticket.wait()
            #expect(row.values.allSatisfy { $0 == 2 })
            let figures = communicator.statistics
            #expect(figures.bytesSent == 2_400_000 && figures.bytesReceived == 2_400_000)
            return figures.hiddenShare
        }
        for result in results { #expect(try result.get() == 1) }
    }

    @Test func groupsSideBySide() throws {
        let results = onThreads(ranks: 4) { communicator in
            let rank = communicator.rank
            let pair = Group(ranks: rank < 2 ? [1, 0] : [2, 3], rank: rank)
            let outer = Row([Float(rank)])
            let inner = Row([Float](repeating: Float(rank), count: 3))
            let first = unsafe communicator.allReduce(inner.floats, in: pair)
            let second = unsafe communicator.allReduce(outer.floats)
            try second.wait()
            try first.wait()
            #expect(inner.values == [Float](repeating: rank < 2 ? 1 : 5, count: 3))
            #expect(outer.values == [6])
            #expect(try communicator.sum(Double(rank), in: pair) == (rank < 2 ? 1 : 5))
            let alone = Group(ranks: [rank], rank: rank)
            try unsafe communicator.allReduce(inner.floats, in: alone).wait()
            try communicator.barrier(in: alone)
        }
        for result in results { try result.get() }
    }

    @Test func differingHashesNameTheRank() {
        let results = onThreads(ranks: 4) { communicator in
            let hash: UInt64 = communicator.rank == 2 ? 1 : 0x1234
            try communicator.compareHashes(hash, of: "parameters after step 50")
        }
        for result in results {
            #expect { try result.get() } throws: { error in
                guard let fault = error as? CollectiveFault else { return false }
                return fault.culprit == 2 && "\(fault)".contains("parameters after step 50")
                    && "\(fault)".contains("rank 3: 0000000000001234") && fault.kind == .running
            }
        }
    }

    @Test func withoutMajorityBothAreNamed() {
        let results = onThreads(ranks: 2) { communicator in
            try communicator.compareHashes(UInt64(communicator.rank), of: "losses")
        }
        for result in results {
            #expect { try result.get() } throws: { "\($0)".contains("ranks 0, 1 hold a different losses") }
        }
    }

    /// A rank that never comes: the others give up by the deadline, all with one name, and their other
    /// tickets may be dropped.
    @Test func aMissingRankEndsEveryWait() {
        let options = CommunicatorOptions(timeoutSeconds: 0.2, graceSeconds: 0.1)
        let results = onThreads(ranks: 3, options: options) { communicator in
            let row = Row([Float](repeating: 1, count: 100_000))
            guard communicator.rank != 1 else { return }
            let first = unsafe communicator.allReduce(row.floats)
            let second = unsafe communicator.allReduce(row.floats)
            try first.wait()
            try second.wait()
        }
        for rank in [0, 2] {
            #expect { try results[rank].get() } throws: { error in
                (error as? CollectiveFault)?.culprit == 1
                    && "\(error)".contains("all-reduce of 100,000 float32")
            }
        }
    }

    @Test func aRankThatAbortsIsNamed() {
        let results = onThreads(ranks: 3) { communicator in
            if communicator.rank == 2 {
                communicator.abort("disk full", during: "checkpoint of step 10")
                #expect(communicator.hasFailed)
            }
            try communicator.barrier()
        }
        for result in results {
            #expect { try result.get() } throws: { error in
                (error as? CollectiveFault)?.culprit == 2
                    && "\(error)".contains("checkpoint of step 10: disk full")
            }
        }
    }

    @Test func aDroppedTicketTraps() async {
        await #expect(processExitsWith: .failure) {
            _ = onThreads(ranks: 2) { communicator in
                let row = Row([1, 2])
                _ = unsafe communicator.allReduce(row.floats)
            }
        }
    }

    @Test func aDroppedQueueTraps() async {
        await #expect(processExitsWith: .failure) {
            _ = onThreads(ranks: 2) { communicator in
                let row = Row([1, 2])
                var queue = TicketQueue(communicator)
                queue.append(unsafe communicator.allReduce(row.floats))
            }
        }
    }
}
