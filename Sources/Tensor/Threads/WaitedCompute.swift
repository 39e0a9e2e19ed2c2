import Base

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Time that passes in place of computing. A sleep ends late by some tens of microseconds, and a step has hundreds of
/// them: what one was late by, the next is shorter.
final class WaitedCompute {
    private let nanosecondsPerFlop: Double
    private var late = 0.0
    private(set) var seconds = 0.0

    init(gflops: Double) {
        precondition(gflops > 0, "ranks that never get anywhere")
        nanosecondsPerFlop = 1 / gflops
    }

    func wait(_ flops: Int) {
        if flops > 0 { wait(seconds: Double(flops) * nanosecondsPerFlop * 1e-9) }
    }

    func wait(seconds: Double) {
        let own = seconds * 1e9
        self.seconds += seconds
        let wanted = own - late, start = MonotonicClock.nanoseconds()
        guard wanted > 1_000 else {
            late = -wanted
            return
        }
        var time = timespec(tv_sec: Int(wanted * 1e-9), tv_nsec: Int(wanted.truncatingRemainder(dividingBy: 1e9)))
        unsafe nanosleep(&time, nil)
        late = Double(MonotonicClock.nanoseconds() - start) - wanted
    }
}
