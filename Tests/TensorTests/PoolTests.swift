import Base
import Foundation
import Synchronization
import Tensor
import Testing
import TestSupport

private final class Listener: PoolObserver {
    struct Run: Sendable {
        var stage: String
        /// -1: a wait for workers.
        var worker: Int
        var flops: Int
        var from: UInt64
        var to: UInt64
    }

    private let heard = Mutex<[Run]>([])

    func ran(_ stage: StaticString, worker: Int, flops: Int, from: UInt64, to: UInt64) {
        heard.withLock { $0.append(Run(stage: stage.description, worker: worker, flops: flops, from: from, to: to)) }
    }

    func waitedForWorkers(from: UInt64, to: UInt64) {
        heard.withLock { $0.append(Run(stage: "", worker: -1, flops: 0, from: from, to: to)) }
    }

    var runs: [Run] { heard.withLock { $0 } }
}

/// Seconds of processor time that this thread has used.
private func threadSeconds() -> Double {
    var time = timespec()
    unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

@Suite struct PoolTests {
    /// A caller that waits for a long tile sleeps, with and without spinning first: it uses a small part of the time
    /// in processor time, and the run is whole when it comes back.
    @Test(arguments: [true, false]) func theCallerSleeps(spin: Bool) {
        let pool = Pool(threads: 2, spin: spin)
        defer { pool.close() }
        let done = Atomic<Int>(0)
        for _ in 0..<20 { pool.run(2) { _, _ in done.add(1, ordering: .relaxed) } }
        let before = threadSeconds()
        // The caller takes one tile, which waits for the other to have begun, so that it cannot take both.
        let begun = Atomic<Int>(0)
        pool.run(2) { _, worker in
            begun.add(1, ordering: .sequentiallyConsistent)
            while begun.load(ordering: .sequentiallyConsistent) < 2 { usleep(100) }
            if worker == 1 { usleep(300_000) }
            done.add(1, ordering: .relaxed)
        }
        #expect(done.load(ordering: .relaxed) == 42)
        #expect(threadSeconds() - before < 0.1)
    }

    /// Every tile once, whatever the counts; workers are named below the number of threads.
    @Test(arguments: [1, 2, 3, 5]) func everyTileOnce(threads: Int) {
        let pool = Pool(threads: threads, spin: false)
        defer { pool.close() }
        for tiles in [0, 1, 2, 3, 4, 5, 7, 8, 16, 63, 64, 65, 1_000] {
            let visits = Doubles(count: tiles)
            let strangers = Atomic<Int>(0)
            pool.run(tiles) { tile, worker in
                visits[tile] += 1
                if worker < 0 || worker >= threads { strangers.add(1, ordering: .relaxed) }
            }
            #expect((0..<tiles).allSatisfy { visits[$0] == 1 }, "\(tiles) tiles")
            #expect(strangers.load(ordering: .relaxed) == 0)
        }
    }

    /// Thousands of short runs, one after the other, spinning and sleeping in between: none is lost, and what
    /// one run wrote the next one reads.
    @Test(arguments: [false, true]) func manyRuns(spin: Bool) {
        let pool = Pool(threads: 3, spin: spin)
        defer { pool.close() }
        let sums = Doubles(count: 8)
        for _ in 0..<5_000 {
            pool.run(8) { tile, _ in sums[tile] += 1 }
            pool.run(4) { tile, _ in sums[tile] += sums[tile + 4] }
        }
        for tile in 0..<4 { #expect(sums[tile] == 5_000 + 5_000 * 5_001 / 2) }
    }

    /// Whoever works under a number has it alone: scratch memory is chosen by it.
    @Test func noTwoWorkersShareANumber() {
        let pool = Pool(threads: 3, spin: false)
        defer { pool.close() }
        let inside = Mutex<Set<Int>>([])
        let clashes = Atomic<Int>(0)
        pool.run(3_000) { _, worker in
            let fresh = inside.withLock { $0.insert(worker).inserted }
            if !fresh { clashes.add(1, ordering: .relaxed) }
            inside.withLock { _ = $0.remove(worker) }
        }
        #expect(clashes.load(ordering: .relaxed) == 0)
    }

    /// Each run once from the caller, with its operations, and once at most from each worker, within the caller's time;
    /// nothing before an observer is set or after it is taken off, and operations are not reckoned then.
    @Test(arguments: [1, 2, 4], [false, true]) func observersHearOfEveryRun(threads: Int, spin: Bool) {
        let pool = Pool(threads: threads, spin: spin)
        defer { pool.close() }
        func many(_ flops: @autoclosure () -> Int) {
            for tiles in [0, 1, 2, 3, 50] { pool.run(tiles, stage: "work", flops: flops()) { _, _ in } }
        }
        let listener = Listener()
        var reckoned = 0
        func reckon() -> Int {
            reckoned += 1
            return reckoned
        }
        many(reckon())
        pool.observer = listener
        many(reckon())
        pool.observer = nil
        many(reckon())
        #expect(reckoned == 4)
        let own = listener.runs.filter { $0.worker == 0 }
        #expect(own.map(\.flops) == [1, 2, 3, 4])
        #expect(own.allSatisfy { $0.stage == "work" })
        #expect(listener.runs.count { $0.worker < 0 } == (threads == 1 ? 0 : 3))
        for (before, after) in zip(own, own.dropFirst()) { #expect(before.to <= after.from) }
        for run in listener.runs {
            #expect(run.from <= run.to)
            #expect(own.count { $0.from <= run.from && run.to <= $0.to } >= 1)
        }
        for worker in 1..<max(threads, 1) { #expect(listener.runs.count { $0.worker == worker } == 3) }
    }

    @Test func poolsOpenAndClose() {
        for round in 0..<200 {
            let pool = Pool(threads: 1 + round % 4, spin: round % 2 == 0)
            let sum = Atomic<Int>(0)
            pool.run(10) { tile, _ in sum.add(tile, ordering: .relaxed) }
            #expect(sum.load(ordering: .relaxed) == 45)
            pool.close()
            pool.close()
        }
    }

    @Test func misuseTraps() async {
        await #expect(processExitsWith: .failure) { _ = Pool(threads: 0) }
        await #expect(processExitsWith: .failure) {
            let pool = Pool(threads: 2)
            pool.run(2) { _, _ in pool.run(2) { _, _ in } }
        }
        await #expect(processExitsWith: .failure) {
            let pool = Pool(threads: 2)
            pool.close()
            pool.run(2) { _, _ in }
        }
    }
}
