import Base
import Collectives
import Simulation
import Synchronization
import Testing

/// What an observer hears, kept as text and numbers.
private final class Listener: CollectiveObserver {
    struct Heard: Sendable {
        var bytes: Int
        /// -1: a wait.
        var lane: Int
        var from: UInt64
        var to: UInt64
    }

    private let heard = Mutex<[Heard]>([])

    func ran(_ request: Request, lane: Int, from: UInt64, to: UInt64) {
        heard.withLock { $0.append(Heard(bytes: request.bytes, lane: lane, from: from, to: to)) }
    }

    func waited(for request: Request, from: UInt64, to: UInt64) {
        heard.withLock { $0.append(Heard(bytes: request.bytes, lane: -1, from: from, to: to)) }
    }

    var all: [Heard] { heard.withLock { $0 } }
}

@Suite struct ObserverTests {
    /// Every collective once and every wait once, each within the time of the whole; those of a lane one after the
    /// other. On the caller's thread and on the helper's.
    @Test(arguments: [2, 3, 4], [false, true]) func everyCollectiveIsTold(ranks: Int, overlapping: Bool) throws {
        let counts = [5, 1_000, 70_000, 3, 40_000, 1]
        let results = onThreads(ranks: ranks) { communicator -> [Listener.Heard] in
            let listener = Listener()
            let memory = UnsafeMutableBufferPointer<Float>.allocate(capacity: counts.reduce(0, +))
            defer { unsafe memory.deallocate() }
            unsafe memory.initialize(repeating: 1)
            let begin = MonotonicClock.nanoseconds()
            communicator.observer = listener
            if overlapping { communicator.beginOverlap() }
            var queue = TicketQueue(communicator)
            var start = 0
            for count in counts {
                let part = unsafe UnsafeMutableBufferPointer(rebasing: memory[start..<(start + count)])
                unsafe queue.append(communicator.allReduce(part))
                start += count
            }
            if overlapping { communicator.endOverlap() }
            try queue.waitAll()
            communicator.observer = nil
            _ = try communicator.sum(1)
            let end = MonotonicClock.nanoseconds()
            return listener.all.filter { $0.from >= begin && $0.from <= $0.to && $0.to <= end }
        }
        for result in results {
            let heard = try result.get()
            let ran = heard.filter { $0.lane >= 0 }
            #expect(ran.map(\.bytes).sorted() == counts.map { 4 * $0 }.sorted())
            // A ticket that is done when it is awaited is no wait; the others come in order.
            var left = counts.map { 4 * $0 }[...]
            for waited in heard where waited.lane < 0 {
                let place = left.firstIndex(of: waited.bytes)
                #expect(place != nil)
                left = left.dropFirst((place ?? left.startIndex) - left.startIndex + 1)
            }
            for lane in Set(ran.map(\.lane)) {
                let own = ran.filter { $0.lane == lane }.sorted { $0.from < $1.from }
                for (before, after) in zip(own, own.dropFirst()) { #expect(before.to <= after.from) }
            }
        }
    }

    /// Each rank's clock is far from the others' and gains nothing: the estimate is as good as it says.
    @Test(arguments: 1...5) func clockOffsetsAreFound(ranks: Int) throws {
        let offsets: [Int64] = [0, 5_000_000_000, -70_000_000_000, 1, 3_600_000_000_000]
        let start = MonotonicClock.nanoseconds()
        let results = onThreads(ranks: ranks) { communicator -> ClockOffset in
            let ahead = offsets[communicator.rank]
            return try communicator.clockOffset { Int64(MonotonicClock.nanoseconds() - start) + ahead }
        }
        for (rank, result) in results.enumerated() {
            let measured = try result.get()
            #expect(abs(measured.nanoseconds - offsets[rank]) <= measured.uncertainty, "rank \(rank): \(measured)")
            #expect(measured.uncertainty < 1_000_000_000)
            if rank == 0 { #expect(measured == .none) }
        }
    }
}
