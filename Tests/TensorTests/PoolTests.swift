import Synchronization
import Tensor
import Testing
import TestSupport

@Suite struct PoolTests {
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
