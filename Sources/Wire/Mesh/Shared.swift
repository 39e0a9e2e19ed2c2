import Base
import Synchronization

/// What the caller's thread tells the control thread.
enum Note: Sendable {
    /// A data stream ended while something was expected from it.
    case broke(peer: Int, evidence: String)
    /// What came over a data stream proves the peer wrong.
    case misbehaved(peer: Int, evidence: String)
    case abort(LinkFault)
    case inquire
    case answer(peer: Int, LinkAnswer)
    case goodbye
    case stop
}

/// All that the caller's thread and the control thread share. Each field is guarded by itself.
final class Shared: Sendable {
    private struct State {
        var notes: [Note] = []
        var fault: LinkFault?
        var sequel: Sequel?
        var operation: UInt64?
        var name: StaticString = ""
        var bytes = 0
        /// Whether the caller is in `poll`, and since when it is not.
        var isInside = false
        var leftAt = MonotonicClock.nanoseconds()
        /// Peers that want to know what this rank is doing; their answers, for the caller.
        var questions: [Int] = []
        var answers: [(peer: Int, answer: LinkAnswer)] = []
    }

    private let state = Mutex(State())
    /// Set after the fault is known and all peers have been told: only then may this process report it and
    /// end, or its own end would be taken for the fault.
    private let published = Atomic<Bool>(false)
    /// Peers that said goodbye.
    let leftCount = Atomic<Int>(0)

    func post(_ note: Note) { state.withLock { $0.notes.append(note) } }

    func takeNotes() -> [Note] {
        state.withLock { state in
            defer { state.notes.removeAll(keepingCapacity: true) }
            return state.notes
        }
    }

    func publish(_ fault: LinkFault) {
        state.withLock { state in
            if state.fault == nil { state.fault = fault }
        }
        published.store(true, ordering: .releasing)
    }

    /// How it goes on after the fault.
    var sequel: Sequel? {
        get { state.withLock { $0.sequel } }
        set { state.withLock { $0.sequel = newValue } }
    }

    var isFailed: Bool { published.load(ordering: .acquiring) }

    var fault: LinkFault? { isFailed ? state.withLock { $0.fault } : nil }

    // MARK: questions of those who have waited for long

    /// The caller goes into `poll`.
    func enter() { state.withLock { $0.isInside = true } }

    /// The caller leaves it. Whoever asked in the last moment hears that it computes.
    func leave() {
        state.withLock { state in
            state.isInside = false
            state.leftAt = MonotonicClock.nanoseconds()
            for peer in state.questions { state.notes.append(.answer(peer: peer, .computes(0))) }
            state.questions.removeAll(keepingCapacity: true)
        }
    }

    /// `peer` asks what this rank is doing. The answer, unless the caller is there to give it.
    func ask(by peer: Int) -> LinkAnswer? {
        state.withLock { state in
            guard state.isInside else {
                let now = MonotonicClock.nanoseconds()
                return .computes(now - min(now, state.leftAt))
            }
            state.questions.append(peer)
            return nil
        }
    }

    func answered(by peer: Int, _ answer: LinkAnswer) { state.withLock { $0.answers.append((peer, answer)) } }

    /// Questions and answers that the caller has not seen yet.
    func takeMail() -> [LinkEvent] {
        state.withLock { state in
            guard !state.questions.isEmpty || !state.answers.isEmpty else { return [] }
            let mail = state.questions.map { LinkEvent.asked(by: $0) }
                + state.answers.map { LinkEvent.answered(by: $0.peer, $0.answer) }
            state.questions.removeAll(keepingCapacity: true)
            state.answers.removeAll(keepingCapacity: true)
            return mail
        }
    }

    /// What this rank is doing, for the texts of faults.
    func begin(operation: UInt64, name: StaticString, bytes: Int) {
        state.withLock { state in
            state.operation = operation
            state.name = name
            state.bytes = bytes
        }
    }

    var operation: String {
        let (operation, name, bytes) = state.withLock { ($0.operation, $0.name, $0.bytes) }
        guard let operation else { return "the time before its first operation" }
        return "\(name) of \(Units.bytes(bytes)), operation \(operation)"
    }
}
