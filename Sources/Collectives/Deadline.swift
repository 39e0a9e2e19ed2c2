import Base
import Wire

// No wait without a name: when nothing has moved for too long, the executor says who is waited for.
// A heartbeat (the link's business) finds dead and stopped ranks much sooner; what ends here is a rank that
// lives but does not take part.
extension Executor {
    /// The message that holds up the oldest operation: the first unfinished one in its schedule's order. All
    /// that it depends on is done, so it waits for its peer alone.
    private var stuck: (operation: Operation, message: Int)? {
        guard let operation = order.first, let message = operation.firstUnfinished else { return nil }
        return (operation, message)
    }

    /// When to give up if nothing moves, for a wait that began at `begin`: any message in or out starts the
    /// timeout afresh, so a slow but living network is not cut off.
    ///
    /// When one rank fails to take part, its neighbour misses it in the first round, the next rank misses
    /// the neighbour in the second, and so on. A grace per round lets the one who sees the real culprit
    /// speak first, so all survivors name the same rank.
    package func deadline(since begin: UInt64) -> UInt64 {
        let round = stuck.map { $0.operation.program.messages[$0.message].round } ?? 0
        let patience = options.timeoutSeconds + Double(round) * options.graceSeconds
        return max(begin, lastProgress) + UInt64(patience * 1e9)
    }

    /// Gives up: names the rank that is waited for, and tells all.
    package func expire() {
        guard let (operation, message) = stuck else { return }
        let program = operation.program
        let place = program.messages[message]
        let fault = LinkFault(
            culprit: place.peer, host: options.host(of: place.peer), operation: operation.name,
            evidence: "nothing moved for \(Units.fixed(Double(link.now - lastProgress) * 1e-9, 1)) s while rank "
                + "\(link.rank) \(place.isSend ? "waits for rank \(place.peer) to take" : "waits for") "
                + "segment \(place.segment)" + (place.isSend ? "" : " from rank \(place.peer)") + "; "
                + evidence(of: operation, peer: place.peer),
            reporter: link.rank)
        fail(fault)
    }

    /// What has passed between this rank and `peer` in one operation: "received 3 of 8 segments from it,
    /// sent 4 of 8".
    private func evidence(of operation: Operation, peer: Int) -> String {
        var received = (done: 0, all: 0)
        var sent = received
        for (message, place) in operation.program.messages.enumerated() where place.peer == peer {
            let state = operation.states[message]
            if place.isSend {
                sent.all += 1
                sent.done += state == .done ? 1 : 0
            } else {
                received.all += 1
                received.done += state == .done || state == .arrived ? 1 : 0
            }
        }
        return "received \(received.done) of \(received.all) segments from it, sent it \(sent.done) of \(sent.all)"
    }
}
