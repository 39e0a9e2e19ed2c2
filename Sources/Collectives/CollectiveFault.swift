import Base
import Wire

/// Why a collective cannot finish. After one of these the communicator is of no further use: every later
/// wait throws the same fault.
public enum CollectiveFault: Fault, Equatable {
    /// A peer died, was silent beyond the deadline, or disagreed; `during` is what this rank was doing.
    case peer(LinkFault, during: String)
    /// Replicated values that must be equal are not: `ranks` hold something else than the majority.
    case disagreement(ranks: [Int], what: String, evidence: String)

    public var kind: FaultKind { .running }

    /// The rank to blame. Of several that disagree, the first.
    public var culprit: Int {
        switch self {
        case .peer(let fault, _): fault.culprit
        case .disagreement(let ranks, _, _): ranks[0]
        }
    }

    public var description: String {
        switch self {
        case .peer(let fault, let during):
            return fault.operation == during ? "\(fault)" : "\(fault); this rank was in \(during)"
        case .disagreement(let ranks, let what, let evidence):
            let names = ranks.map(String.init).joined(separator: ", ")
            let whose = ranks.count == 1 ? "rank \(names) holds" : "ranks \(names) hold"
            return "\(whose) a different \(what): \(evidence)"
        }
    }
}
