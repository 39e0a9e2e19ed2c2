import Base
import Collectives
import Dispatch

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

extension World {
    /// Runs `work` on rank 0, for however long it takes, while the others wait. Returns its result there, else nil.
    ///
    /// A rank in which nothing moves passes for dead after `comm.timeout_seconds`, and reading a large checkpoint takes
    /// longer than that on a slow disk. So rank 0 works on a thread of its own and says every now and then that it is
    /// still there: what the others see is a chain of short exchanges. Where the work fails, its error is rank 0's to
    /// tell, as any other.
    package func onFirst<Result>(_ work: @escaping () throws -> Result) throws -> Result? {
        guard let communicator else { return try work() }
        guard rank == 0 else {
            while try communicator.sum(0) == 0 {}
            return nil
        }
        let work = BackgroundWork(work)
        while !work.isDone(within: min(2, communicator.options.timeoutSeconds / 4)) { _ = try communicator.sum(0) }
        let result = try work.result()
        _ = try communicator.sum(1)
        return result
    }
}

/// Work on a thread of its own. The result is written before the signal and read after it.
private final class BackgroundWork<Success> {
    private let done = DispatchSemaphore(value: 0)
    private var outcome: Result<Success, any Error>?

    init(_ work: @escaping () throws -> Success) {
        // What the main thread of a process usually has; the default for others is a few pages on some systems.
        let thread = startThread(stackBytes: 8 << 20) {
            self.outcome = Result { try work() }
            self.done.signal()
        }
        pthread_detach(thread)
    }

    func isDone(within seconds: Double) -> Bool { done.wait(timeout: .now() + seconds) == .success }

    func result() throws -> Success {
        guard let outcome else { preconditionFailure("asked before it was done") }
        return try outcome.get()
    }
}
