import Base
import CKernels
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Whoever wants to know where the pool's time goes. Called from the thread that worked, when it is done; times are
/// `MonotonicClock`'s, in nanoseconds.
public protocol PoolObserver: AnyObject, Sendable {
    /// `worker` took part in a run of `stage`. The caller of `run` is worker 0: its times are those of the whole run,
    /// and it alone tells the run's floating-point operations (0: nobody counted them).
    func ran(_ stage: StaticString, worker: Int, flops: Int, from: UInt64, to: UInt64)

    /// Worker 0 found no tile left and waited for the others, within a run that it tells of next.
    func waitedForWorkers(from: UInt64, to: UInt64)
}

/// Whoever wants to know how evenly work is cut. Called on a pool of one thread, which does tile after tile.
public protocol TileObserver: AnyObject, Sendable {
    /// A run of `stage` took so many nanoseconds for each of its tiles, in their order.
    func cut(_ stage: StaticString, _ nanoseconds: [UInt64])
}

/// A fixed set of threads that work through numbered tiles.
///
/// The caller cuts the work; the cut is a function of the shapes alone, never of the number of threads, and a
/// tile's result depends on the tile alone. So which thread takes a tile does not matter, and weights come out
/// bitwise equal for any number of threads. Threads take the next tile from a counter, which balances
/// uneven tiles (attention's) by itself.
///
/// The calling thread works too. Whoever has nothing to do, the others between two `run`s and the caller at the end of
/// one, spins for some microseconds, since a step is a chain of a hundred short runs, and then sleeps.
@safe public final class Pool: @unchecked Sendable {
    // @unchecked Sendable: `job` is written by `run` only while no worker is inside it (`running` is 0) and is
    // published by the release-store of `generation`, which every worker load-acquires before it reads `job`.
    // `run` is not reentrant; a second caller at the same time traps.
    public let threads: Int
    /// Set between two runs. Nil costs nothing that could be measured.
    public var observer: (any PoolObserver)?
    /// Likewise; it is heard on a pool of one thread only, and allocates.
    public var tileObserver: (any TileObserver)?

    @safe private struct Job {
        var tiles = 0
        var stage: StaticString = ""
        var body = unsafe skein_closure()
    }

    private var job = Job()
    private let next = Atomic<Int>(0)
    private let generation = Atomic<Int>(0)
    private let running = Atomic<Int>(0)
    private let sleepers = Atomic<Int>(0)
    private let callerSleeps = Atomic<Bool>(false)
    private let busy = Atomic<Bool>(false)
    private let closing = Atomic<Bool>(false)
    /// Threads besides the caller's, for `close`.
    private var workers: [pthread_t] = []
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private let wake: UnsafeMutablePointer<pthread_cond_t>
    private let done: UnsafeMutablePointer<pthread_cond_t>

    /// About 50 microseconds of spinning before a thread sleeps; no spinning when cores are oversubscribed.
    private let spins: Int
    /// Where nothing is computed, what waits in its place.
    private let waiting: WaitedCompute?

    /// A pool of one thread that computes nothing: a run takes as long as its operations take at `gflops`, and what
    /// nobody has counted takes no time. With it many ranks share a few cores and their messages are still those of
    /// real steps, which is what it is for; results are whatever the memory held.
    package convenience init(waitingAt gflops: Double) {
        self.init(threads: 1, spin: false, waiting: WaitedCompute(gflops: gflops))
    }

    public convenience init(threads: Int, spin: Bool = true) { self.init(threads: threads, spin: spin, waiting: nil) }

    /// Seconds that were waited in place of computing.
    package var waitedSeconds: Double { waiting?.seconds ?? 0 }

    /// Waits as for products that take so long, on a pool that waits.
    package func wait(seconds: Double) { waiting?.wait(seconds: seconds) }

    private init(threads: Int, spin: Bool, waiting: WaitedCompute?) {
        precondition(threads >= 1, "a pool needs a thread")
        self.threads = threads
        self.waiting = waiting
        spins = spin ? 4_000 : 0
        unsafe lock = .allocate(capacity: 1)
        unsafe wake = .allocate(capacity: 1)
        unsafe pthread_mutex_init(lock, nil)
        unsafe pthread_cond_init(wake, nil)
        unsafe done = .allocate(capacity: 1)
        unsafe pthread_cond_init(done, nil)
        for worker in 1..<max(threads, 1) { start(worker) }
    }

    /// Calls `body(tile, worker)` for every tile in 0..<tiles, each once, and returns when all are done.
    /// `worker` is in 0..<threads and names the caller's scratch memory. `body` runs on several threads. `stage` and
    /// `flops`, the floating-point operations of all tiles, are for the observer.
    public func run(_ tiles: Int, stage: StaticString = "other", flops: @autoclosure () -> Int = 0,
                    _ body: @Sendable (_ tile: Int, _ worker: Int) -> Void) {
        guard tiles > 0 else { return }
        guard observer != nil || waiting != nil else { return perform(tiles, stage, body) }
        let start = MonotonicClock.nanoseconds()
        if let waiting { waiting.wait(flops()) } else { perform(tiles, stage, body) }
        guard let observer else { return }
        observer.ran(stage, worker: 0, flops: flops(), from: start, to: MonotonicClock.nanoseconds())
    }

    private func perform(_ tiles: Int, _ stage: StaticString, _ body: @Sendable (Int, Int) -> Void) {
        if threads == 1, let tileObserver { return perform(tiles, stage, body, tileObserver) }
        if threads == 1 || tiles == 1 {
            for tile in 0..<tiles { body(tile, 0) }
            return
        }
        precondition(!busy.exchange(true, ordering: .acquiring), "Pool.run called from inside or beside a run")
        precondition(!closing.load(ordering: .acquiring), "Pool.run called after close")
        // The workers use the closure only until `running` is 0 again, which this function waits for; the loan's
        // end is a use of the closure that keeps the compiler from ending its life before.
        job.tiles = tiles
        job.stage = stage
        unsafe lend(body, &job.body)
        publish()
        work(job, worker: 0)
        waitForWorkers()
        endLoan(body)
        busy.store(false, ordering: .releasing)
    }

    private func perform(_ tiles: Int, _ stage: StaticString, _ body: @Sendable (Int, Int) -> Void,
                         _ observer: any TileObserver) {
        var times: [UInt64] = []
        times.reserveCapacity(tiles)
        var last = MonotonicClock.nanoseconds()
        for tile in 0..<tiles {
            body(tile, 0)
            let now = MonotonicClock.nanoseconds()
            times.append(now - last)
            last = now
        }
        observer.cut(stage, times)
    }

    /// Ends the workers. Without it they sleep for as long as the process lives, and keep the pool with them.
    public func close() {
        guard threads > 1, !closing.exchange(true, ordering: .acquiringAndReleasing) else { return }
        publish()
        // A thread that has ended holds neither lock nor condition.
        for worker in workers { pthread_join(worker, nil) }
        unsafe pthread_cond_destroy(done)
        unsafe done.deallocate()
        unsafe pthread_cond_destroy(wake)
        unsafe pthread_mutex_destroy(lock)
        unsafe wake.deallocate()
        unsafe lock.deallocate()
    }

    private func publish() {
        next.store(0, ordering: .relaxed)
        running.store(threads - 1, ordering: .relaxed)
        generation.add(1, ordering: .sequentiallyConsistent)
        if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
            unsafe pthread_mutex_lock(lock)
            unsafe pthread_cond_broadcast(wake)
            unsafe pthread_mutex_unlock(lock)
        }
    }

    private func waitForWorkers() {
        let start = observer == nil ? 0 : MonotonicClock.nanoseconds()
        waitForTheLast()
        observer?.waitedForWorkers(from: start, to: MonotonicClock.nanoseconds())
    }

    private func waitForTheLast() {
        for _ in 0..<spins {
            if running.load(ordering: .acquiring) == 0 { return }
            skein_pause()
        }
        // `callerSleeps` is set before the last look at `running`, and a worker lowers `running` before it looks at
        // `callerSleeps`: one of the two sees the other.
        unsafe pthread_mutex_lock(lock)
        callerSleeps.store(true, ordering: .sequentiallyConsistent)
        while running.load(ordering: .sequentiallyConsistent) > 0 { unsafe pthread_cond_wait(done, lock) }
        callerSleeps.store(false, ordering: .relaxed)
        unsafe pthread_mutex_unlock(lock)
    }

    /// A worker's last word on a run.
    private func finish() {
        let left = running.subtract(1, ordering: .sequentiallyConsistent).newValue
        guard left == 0, callerSleeps.load(ordering: .sequentiallyConsistent) else { return }
        unsafe pthread_mutex_lock(lock)
        unsafe pthread_cond_signal(done)
        unsafe pthread_mutex_unlock(lock)
    }

    private func work(_ job: Job, worker: Int) {
        while true {
            let tile = next.add(1, ordering: .relaxed).oldValue
            guard tile < job.tiles else { return }
            unsafe skein_call_closure(job.body, tile, worker)
        }
    }

    /// A worker waits for the generation to move on, works, and says that it is done.
    private func serve(_ worker: Int) {
        var seen = 0
        while true {
            waitForJob(past: seen)
            seen += 1
            if closing.load(ordering: .acquiring) { return }
            let start = observer == nil ? 0 : MonotonicClock.nanoseconds()
            work(job, worker: worker)
            observer?.ran(job.stage, worker: worker, flops: 0, from: start, to: MonotonicClock.nanoseconds())
            finish()
        }
    }

    private func waitForJob(past seen: Int) {
        for _ in 0..<spins {
            if generation.load(ordering: .acquiring) != seen { return }
            skein_pause()
        }
        // `sleepers` is raised before the last look at `generation`, and `run` moves `generation` before it
        // looks at `sleepers`: one of the two sees the other.
        unsafe pthread_mutex_lock(lock)
        sleepers.add(1, ordering: .sequentiallyConsistent)
        while generation.load(ordering: .sequentiallyConsistent) == seen { unsafe pthread_cond_wait(wake, lock) }
        sleepers.subtract(1, ordering: .relaxed)
        unsafe pthread_mutex_unlock(lock)
    }

    /// Twice what a product packs on the stack, and room for all else: the system's default may be a few pages.
    private static let stackBytes = 2 * Gemm.stackBytes + 1 << 20

    private func start(_ worker: Int) {
        workers.append(startThread(stackBytes: Self.stackBytes) { self.serve(worker) })
    }
}

@_silgen_name("skein_lend_closure")
private func lend(_ body: (Int, Int) -> Void, _ lent: UnsafeMutablePointer<skein_closure>)

@_silgen_name("skein_end_loan")
private func endLoan(_ body: (Int, Int) -> Void)
