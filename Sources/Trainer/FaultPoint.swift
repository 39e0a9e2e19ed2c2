import Base
import Collectives
import Recipe
import Synchronization
import Telemetry
import Tensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// `debug.fault` on the rank that it names: told of every place that the run comes to, it kills or stops this process
/// at the first one that is meant. Nobody else has one, and those who have none pay a branch for each place.
final class FaultPoint: Sendable {
    private let fault: RehearsedFault
    private let isArmed = Atomic(false)

    init(_ fault: RehearsedFault) { self.fault = fault }

    /// Step `number` begins, counted from 1.
    func begin(step number: Int) {
        if number >= fault.step { isArmed.store(true, ordering: .relaxed) }
    }

    /// A killed process says no more than this; a stopped one goes on where it is when it gets SIGCONT.
    func reached(_ place: RehearsedFault.Place) {
        guard place == fault.place, isArmed.exchange(false, ordering: .relaxed) else { return }
        printError("skein: debug.fault: rank \(fault.rank) \(fault.action == .kill ? "kills" : "stops") itself in "
            + place.rawValue)
        kill(getpid(), fault.action == .kill ? SIGKILL : SIGSTOP)
    }
}

extension FaultPoint: PoolObserver {
    func ran(_ stage: StaticString, worker: Int, flops: Int, from: UInt64, to: UInt64) {
        if stage.description == "optimizer" { reached(.update) }
    }

    func waitedForWorkers(from: UInt64, to: UInt64) {}
}

extension FaultPoint: CollectiveObserver {
    func ran(_ request: Request, lane: Int, from: UInt64, to: UInt64) {
        if request.kind == .allToAll { reached(.allToAll) }
        if request.kind == .reduceScatter { reached(.reduceScatter) }
    }

    func waited(for request: Request, from: UInt64, to: UInt64) {}
}
