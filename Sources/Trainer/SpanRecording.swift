import Collectives
import Telemetry
import Tensor

/// Every run of the pool is a span on the lane of each thread that took part.
extension Trace: PoolObserver {
    public func ran(_ stage: StaticString, worker: Int, flops: Int, from: UInt64, to: UInt64) {
        record(Span(stage, .compute, lane: worker, from: from, to: to, amount: flops))
    }

    public func waitedForWorkers(from: UInt64, to: UInt64) {
        record(Span("other threads", .wait, from: from, to: to))
    }
}

/// Every collective is a span on a lane of the network, and every wait for one a span of thread 0.
extension Trace: CollectiveObserver {
    public func ran(_ request: Request, lane: Int, from: UInt64, to: UInt64) {
        record(Span(request.kind.label, .communication, lane: Trace.networkLane + lane, from: from, to: to,
                    amount: request.bytes))
    }

    public func waited(for request: Request, from: UInt64, to: UInt64) {
        record(Span(request.kind.label, .wait, from: from, to: to, amount: request.bytes))
    }
}
