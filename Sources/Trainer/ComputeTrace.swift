import Telemetry
import Tensor

/// Puts every run of the pool into a trace: a span for each thread that took part, on the thread's lane.
final class ComputeTrace: PoolObserver {
    let trace: Trace

    init(_ trace: Trace) { self.trace = trace }

    func ran(_ stage: StaticString, worker: Int, from: UInt64, to: UInt64) {
        trace.record(stage, "compute", lane: worker, from: from, to: to)
    }
}
