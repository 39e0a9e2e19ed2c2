import Base
import Collectives
import Wire

/// A rank that has no part in what comes after a fault.
struct Retired: Fault {
    let retirement: Retirement
    var kind: FaultKind { .running }
    var description: String { retirement.text }
}

extension World {
    /// How those that are left go on after a fault that ended this life. Nil: this life's ranks only leave, or nobody
    /// has found anything out.
    func sequel(after fault: CollectiveFault) -> Sequel? {
        // Ranks that hold different bits are no loss that copies would mend.
        guard survives, case .peer = fault, let mesh else { return nil }
        return mesh.sequel()
    }

    /// Gives back what this life had of the network.
    func close() { mesh?.shutDown() }
}
