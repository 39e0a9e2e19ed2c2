import Base
import Glibc
import Wire

/// Decides which thread drives the executor, and so the link: the caller's, or, while overlapping, a helper.
///
/// Exactly one thread touches the executor and the link at a time:
/// - `wanted`, `driving`, `hasWork`, `inbox` and `stopping` are read and written under the monitor only.
/// - The helper touches the executor only between setting `driving` and clearing it, both under the monitor,
///   and it sets `driving` only while `wanted` holds.
/// - The caller touches the executor only inside `withExecutor`. There it has cleared `wanted` and then
///   waited until `driving` was clear (or it never set `wanted`), so the helper is outside and cannot enter
///   again before the caller sets `wanted`, which it does when it is done.
/// The monitor's lock orders the memory accesses of the one before those of the other.
///
/// All methods belong to one thread, the caller's.
@safe final class Driver {
    /// How long the helper stays in the link's `poll` when nothing happens. New work and the caller's wish to take over
    /// wake it.
    private static let slice: UInt64 = 100_000_000

    private let executor: Executor
    private let monitor = Monitor()
    private var inbox: [Operation] = []
    private var wanted = false
    private var driving = false
    private var hasWork = false
    private var stopping = false

    /// The caller's own: whether it is between `beginOverlap` and `endOverlap`.
    private(set) var isOverlapping = false
    private var helper: pthread_t?
    /// The helper's own: what it took out of the inbox.
    private var starting: [Operation] = []

    init(_ executor: Executor) {
        self.executor = executor
        inbox.reserveCapacity(64)
        starting.reserveCapacity(64)
    }

    /// From here to `endOverlap` the helper moves the collectives while the caller computes.
    func beginOverlap() {
        precondition(!isOverlapping, "overlapping has already begun")
        if helper == nil { startHelper() }
        isOverlapping = true
        hand(over: executor.isBusy)
    }

    func endOverlap() {
        precondition(isOverlapping, "overlapping has not begun")
        takeOver()
        isOverlapping = false
    }

    /// Puts an operation in flight. While overlapping it goes through the inbox and this returns at once.
    func submit(_ operation: Operation) {
        guard isOverlapping else { return executor.start(operation) }
        monitor.lock()
        inbox.append(operation)
        if driving { executor.link.wake() } else { monitor.broadcast() }
        monitor.unlock()
    }

    /// Runs `body` with the executor in the caller's hands; a helper that was driving rests meanwhile.
    func withExecutor<Result, Failure: Error>(
        _ body: (Executor) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        guard isOverlapping else { return try body(executor) }
        takeOver()
        defer { hand(over: executor.isBusy) }
        return try body(executor)
    }

    /// The link touches no buffer any more. The helper has been stopped.
    func end() { executor.end() }

    /// Ends the helper thread; afterwards the driver is of no use.
    func stop() {
        guard let helper else { return }
        monitor.lock()
        wanted = false
        stopping = true
        if driving { executor.link.wake() }
        monitor.broadcast()
        monitor.unlock()
        pthread_join(helper, nil)
        self.helper = nil
    }

    private func hand(over work: Bool) {
        monitor.lock()
        wanted = true
        hasWork = work
        monitor.broadcast()
        monitor.unlock()
    }

    private func takeOver() {
        monitor.lock()
        wanted = false
        if driving { executor.link.wake() }
        while driving { monitor.wait() }
        monitor.unlock()
        // Nobody else appends to the inbox, and the helper reads it only while it drives.
        for operation in inbox { executor.start(operation) }
        inbox.removeAll(keepingCapacity: true)
    }

    // MARK: The helper thread

    private func startHelper() {
        helper = startThread { self.help() }
    }

    private func help() {
        monitor.lock()
        while true {
            while !stopping && !(wanted && (hasWork || !inbox.isEmpty)) {
                if driving {
                    driving = false
                    monitor.broadcast()
                }
                monitor.wait()
            }
            if stopping { break }
            driving = true
            swap(&inbox, &starting)
            monitor.unlock()
            for operation in starting { executor.start(operation) }
            starting.removeAll(keepingCapacity: true)
            executor.pass(until: executor.link.now + Self.slice)
            let work = executor.isBusy
            monitor.lock()
            hasWork = work
        }
        driving = false
        monitor.broadcast()
        monitor.unlock()
    }
}

/// A lock and a condition to wait for under it.
@safe final class Monitor {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>

    init() {
        unsafe mutex = .allocate(capacity: 1)
        unsafe condition = .allocate(capacity: 1)
        unsafe mutex.initialize(to: pthread_mutex_t())
        unsafe condition.initialize(to: pthread_cond_t())
        unsafe pthread_mutex_init(mutex, nil)
        unsafe pthread_cond_init(condition, nil)
    }

    deinit {
        unsafe pthread_cond_destroy(condition)
        unsafe pthread_mutex_destroy(mutex)
        unsafe condition.deallocate()
        unsafe mutex.deallocate()
    }

    func lock() { unsafe pthread_mutex_lock(mutex) }
    func unlock() { unsafe pthread_mutex_unlock(mutex) }
    /// Gives up the lock until a broadcast (or for no reason: check the condition again).
    func wait() { unsafe pthread_cond_wait(condition, mutex) }
    func broadcast() { unsafe pthread_cond_broadcast(condition) }
}
