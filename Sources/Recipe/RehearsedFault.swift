import Base

/// `debug.fault`: a rank that kills or stops itself at a place of a step, so that what a job does then can be
/// rehearsed. In TOML four words, "kill 1 update 40": what happens, to which rank, where, from which step on.
public struct RehearsedFault: Sendable, Equatable {
    public enum Action: String, Sendable, CaseIterable { case kill, stop }

    public enum Place: String, Sendable, CaseIterable {
        /// The step's documents are planned, and the others have not heard of it.
        case plan
        /// A shared sequence's first exchange is over.
        case allToAll = "all-to-all"
        /// The first sum of gradients that go to their owners is over.
        case reduceScatter = "reduce-scatter"
        /// A first piece of the weights is updated, and most are not gathered.
        case update
        /// This rank's part of a checkpoint is on disk, and the checkpoint does not count yet.
        case save
    }

    public let action: Action
    public let rank: Int
    public let place: Place
    /// Counted from 1.
    public let step: Int

    /// Nil if `text` is not four such words.
    init?(_ text: String) {
        let words = text.split(separator: " ").map(String.init)
        guard words.count == 4, let action = Action(rawValue: words[0]), let rank = Int(words[1]), rank >= 0,
              let place = Place(rawValue: words[2]), let step = Int(words[3]), step >= 1 else { return nil }
        (self.action, self.rank, self.place, self.step) = (action, rank, place, step)
    }
}

extension Recipe {
    /// Nil where `debug.fault` is empty.
    public var rehearsedFault: RehearsedFault? { RehearsedFault(debug.fault) }

    func validateFault(_ at: (String) -> String) throws(BadInput) {
        guard !debug.fault.isEmpty else { return }
        let key = "\(at("debug.fault")) = \"\(debug.fault)\""
        guard let fault = rehearsedFault else {
            let places = RehearsedFault.Place.allCases.map(\.rawValue).joined(separator: ", ")
            throw BadInput("\(key) is not four words such as \"kill 1 update 40\": kill or stop, a rank, one of "
                + "\(places), and a step from 1 on")
        }
        if profiling.trace {
            throw BadInput("\(key) and profiling.trace watch the same places; take one of them")
        }
        let isPlanned = fault.place == .plan && !plansSequences
        if isPlanned || fault.place == .allToAll && !plansSequences && contextDegree == 1 {
            throw BadInput("\(key) waits for ranks that share sequences; set parallelism.context_parallel_degree, or "
                + "name another place")
        }
    }

    func requireFault(worldSize: Int) throws(BadInput) {
        guard let fault = rehearsedFault, fault.rank >= worldSize else { return }
        throw BadInput("debug.fault = \"\(debug.fault)\" names rank \(fault.rank), and ranks are 0 to "
            + "\(worldSize - 1); name one of them")
    }
}
