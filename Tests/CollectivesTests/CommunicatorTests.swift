import Base
import Collectives
import Foundation
import Simulation
import Testing
import Wire

/// Resident memory of this process.
func residentBytes() -> Int {
    let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
    let pages = text.split(separator: " ")
    return (pages.count > 1 ? Int(pages[1]) ?? 0 : 0) * 4096
}

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
            let pair = try #require(communicator.makeGroups([[1, 0], [2, 3]]))
            let outer = Row([Float(rank)])
            let inner = Row([Float](repeating: Float(rank), count: 3))
            let first = unsafe communicator.allReduce(inner.floats, in: pair)
            let second = unsafe communicator.allReduce(outer.floats)
            try second.wait()
            try first.wait()
            #expect(inner.values == [Float](repeating: rank < 2 ? 1 : 5, count: 3))
            #expect(outer.values == [6])
            #expect(try communicator.sum(Double(rank), in: pair) == (rank < 2 ? 1 : 5))
            let alone = try #require(communicator.makeGroups((0..<4).map { [$0] }))
            try unsafe communicator.allReduce(inner.floats, in: alone).wait()
            try communicator.barrier(in: alone)
        }
        for result in results { try result.get() }
    }

    /// Who sends what to whom, and what becomes of it: each kind through its public face.
    @Test(arguments: 1...5)
    func movesOfAllKinds(ranks: Int) throws {
        let results = onThreads(ranks: ranks) { communicator in
            let rank = communicator.rank
            // To rank q go q + 1 numbers.
            var bounds = [0]
            for peer in 0..<ranks { bounds.append(bounds[peer] + peer + 1) }
            let incoming = Partition(evenly: ranks * (rank + 1), over: ranks)
            let rows: [[Float]] = (0..<ranks).map { peer in (0...peer).map { Float(100 * rank + 10 * peer + $0) } }
            let source = Row(Array(rows.joined()))
            let target = Row([Float](repeating: .nan, count: incoming.count))
            try unsafe communicator.allToAll(UnsafeBufferPointer(source.floats), Partition(bounds: bounds),
                                             into: target.floats, incoming).wait()
            let sent: [[Float]] = (0..<ranks).map { from in (0...rank).map { Float(100 * from + 10 * rank + $0) } }
            #expect(target.values == Array(sent.joined()))

            for root in 0..<ranks {
                let row = Row((0..<3000).map { Float($0 % 10 + rank) })
                try unsafe communicator.reduce(row.floats, to: root).wait()
                let expected = (0..<3000).map { Float(ranks * ($0 % 10) + ranks * (ranks - 1) / 2) }
                if rank == root { #expect(row.values == expected) }

                let parts = Partition(bounds: bounds.map { 4 * $0 })
                let whole = Row([Float](repeating: -1, count: rank == root ? bounds[ranks] : rank + 1))
                for place in 0...rank { unsafe whole.floats[(rank == root ? bounds[rank] : 0) + place] = Float(rank) }
                try unsafe communicator.gather(whole.bytes, partition: parts, at: root).wait()
                let all: [Float] = Array((0..<ranks).map { [Float](repeating: Float($0), count: $0 + 1) }.joined())
                if rank == root { #expect(whole.values == all) }
                if rank != root { for place in 0...rank { unsafe whole.floats[place] = -1 } }
                try unsafe communicator.scatter(whole.bytes, partition: parts, from: root).wait()
                if rank != root { #expect(whole.values == [Float](repeating: Float(rank), count: rank + 1)) }
            }

            let counts = UnsafeMutableBufferPointer<Int64>.allocate(capacity: 3)
            defer { unsafe counts.deallocate() }
            _ = unsafe counts.initialize(from: [Int64(rank), -Int64(rank), 1 << 40])
            try unsafe communicator.allReduce(counts).wait()
            #expect(unsafe Array(counts) == [Int64(ranks * (ranks - 1) / 2), -Int64(ranks * (ranks - 1) / 2),
                                             Int64(ranks) << 40])
            try unsafe communicator.allReduce(counts, style: .init(reduction: .maximum)).wait()
            let most = Row([Float(rank), -Float(rank), rank == ranks - 1 ? .nan : 1])
            try unsafe communicator.allReduce(most.floats, style: .init(reduction: .maximum)).wait()
            #expect(Array(most.values[..<2]) == [Float(ranks - 1), 0] && most.values[2].isNaN)
        }
        for result in results { try result.get() }
    }

    /// Messages between two ranks, both ways at once, in order.
    @Test func sendAndReceive() throws {
        let results = onThreads(ranks: 3) { communicator in
            let rank = communicator.rank, next = (rank + 1) % 3, last = (rank + 2) % 3
            let out = (0..<4).map { Row([Float](repeating: Float(10 * rank + $0), count: 1 + 400_000 * ($0 % 2))) }
            let back = (0..<4).map { Row([Float](repeating: -1, count: 1 + 400_000 * ($0 % 2))) }
            var tickets = TicketQueue(communicator)
            for place in 0..<4 {
                unsafe tickets.append(communicator.send(out[place].bytes, to: next))
                unsafe tickets.append(communicator.receive(back[place].bytes, from: last))
            }
            try tickets.waitAll()
            withExtendedLifetime(out) {}
            for place in 0..<4 { #expect(back[place].values.allSatisfy { $0 == Float(10 * last + place) }) }
        }
        for result in results { try result.get() }
    }

    /// The caller makes its part segment by segment; what is made travels meanwhile, and nothing travels before.
    @Test(arguments: 1...4)
    func preparedAllGather(ranks: Int) throws {
        let options = CommunicatorOptions(segmentBytes: 1024)
        let results = onThreads(ranks: ranks, options: options) { communicator in
            for overlaps in [false, true] {
                let parts = Partition(evenly: 5003, over: ranks), own = parts[communicator.rank]
                let row = Row([Float](repeating: .nan, count: 5003))
                var next = own.lowerBound
                if overlaps { communicator.beginOverlap() }
                try unsafe communicator.allGather(row.floats, preparing: { range in
                    #expect(range.lowerBound == next && range.count <= max(256, ranks == 1 ? 5003 : 0))
                    next = range.upperBound
                    for element in range { unsafe row.floats[element] = Float(element) }
                })
                if overlaps { communicator.endOverlap() }
                #expect(next == own.upperBound && row.values == (0..<5003).map { Float($0) })
            }
        }
        for result in results { try result.get() }
    }

    /// Two operations that are alike but for what the caller means are told apart at the first message.
    @Test func labelsAreCompared() {
        let results = onThreads(ranks: 2, options: CommunicatorOptions(timeoutSeconds: 0.3, graceSeconds: 0.1,
                                                                       patienceSeconds: 0)) { communicator in
            let a = Row([1, 2]), b = Row([3, 4]), first = UInt32(communicator.rank)
            let one = unsafe communicator.allReduce(a.floats, style: .init(label: first))
            let two = unsafe communicator.allReduce(b.floats, style: .init(label: 1 - first))
            try one.wait()
            try two.wait()
        }
        for result in results { #expect(throws: CollectiveFault.self) { try result.get() } }
    }

    /// Ids are counted alike on all ranks; groups cost no message and leave nothing; programs are kept up to a bound.
    @Test func manyGroups() throws {
        let results = onThreads(ranks: 3) { communicator -> UInt32? in
            let lists = [[0, 1], [2], [1, 2], [0, 2], [0, 1, 2]]
            func resident() -> Int { residentBytes() }
            for round in 0..<10_000 { _ = communicator.makeGroup(lists[round % 5]) }
            let before = resident()
            for round in 0..<1_000_000 { _ = communicator.makeGroup(lists[round % 5]) }
            // Leaked, they would take 300 MB; other tests of this process take what they take.
            #expect(resident() - before < 150 << 20)
            let last = try #require(communicator.makeGroup([2, 0, 1]))
            for count in 0..<600 {
                let row = Row([Float](repeating: 1, count: count + 1))
                try unsafe communicator.allReduce(row.floats, in: last).wait()
            }
            #expect(communicator.programCount <= 256)
            #expect(communicator.makeGroups([[0], [1, 2]])?.size == (communicator.rank == 0 ? 1 : 2))
            return last.id
        }
        for result in results { #expect(try result.get() == 1_010_001) }
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
        let options = CommunicatorOptions(timeoutSeconds: 0.2, graceSeconds: 0.1, patienceSeconds: 0)
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
