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

    /// The rank that this one waits for, if it is in a collective.
    var awaited: Int? { stuck.map { $0.operation.program.messages[$0.message].peer } }

    /// When to call `expire`, if nothing moves, for a wait that began at `begin`: any message in or out
    /// starts the timeout afresh, so a slow but living network is not cut off.
    package func deadline(since begin: UInt64) -> UInt64 {
        if let askedAt = inquiry.askedAt { return askedAt + nanoseconds(options.graceSeconds) }
        return max(begin, lastProgress) + nanoseconds(options.timeoutSeconds)
    }

    /// The deadline has passed. The first time: asks everyone whom they wait for, and gives them
    /// `graceSeconds` to answer. The second time: names the rank at the end of the chain, and tells all.
    package func expire() {
        guard let (operation, message) = stuck else { return }
        let place = operation.program.messages[message]
        guard inquiry.askedAt != nil else { return inquiry.ask(awaited: place.peer) }
        let chain = inquiry.chain(awaited: place.peer)
        let culprit = chain[chain.count - 1]
        let what = place.isSend
            ? "waits for rank \(place.peer) to take segment \(place.segment)"
            : "waits for segment \(place.segment) from rank \(place.peer)"
        let silence = Units.fixed(Double(link.now - lastProgress) * 1e-9, 1)
        var evidence = "nothing moved for \(silence) s while rank \(link.rank) \(what) "
            + "(\(exchanged(with: place.peer, in: operation)))"
        for (rank, next) in zip(chain, chain.dropFirst()).dropFirst() {
            evidence += ", rank \(rank) for rank \(next)"
        }
        if chain.dropLast().contains(culprit) {
            evidence += ": a circle, were collectives begun in different orders?"
        }
        fail(LinkFault(culprit: culprit, host: options.host(of: culprit), operation: operation.name,
                       evidence: evidence, reporter: link.rank))
    }

    /// What has passed between this rank and `peer` in one operation: "3 of 8 segments received, 4 of 8
    /// sent".
    private func exchanged(with peer: Int, in operation: Operation) -> String {
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
        return "\(received.done) of \(received.all) segments received, \(sent.done) of \(sent.all) sent"
    }

    private func nanoseconds(_ seconds: Double) -> UInt64 { UInt64(seconds * 1e9) }
}
