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

    /// The rank that this one waits for, if it is in a collective and not the caller's own work is next.
    var awaited: Int? {
        stuck.flatMap { $0.operation.program.messages[$0.message] }.flatMap { $0.isDoneHere ? nil : $0.peer }
    }

    /// When to call `expire`, if nothing moves, for a wait that began at `begin`: any message in or out
    /// starts the timeout afresh, so a slow but living network is not cut off.
    package func deadline(since begin: UInt64) -> UInt64 {
        if let askedAt = inquiry.askedAt { return askedAt + nanoseconds(options.graceSeconds) }
        return max(begin, lastProgress, excusedAt) + nanoseconds(options.timeoutSeconds)
    }

    /// The deadline has passed. The first time: asks everyone what they are doing, and gives them `graceSeconds` to
    /// answer. The second time: a rank at the end of the chain that computes is waited for up to `patienceSeconds`,
    /// and that is said; else it is named, and all are told.
    package func expire() {
        guard let (operation, message) = stuck else { return }
        let place = operation.program.messages[message]
        guard inquiry.askedAt != nil else {
            inquiry.begin(at: link.now)
            return link.inquire()
        }
        let chain = inquiry.chain(from: link.rank, awaited: place.peer)
        let culprit = chain[chain.count - 1], computing = inquiry.computing(culprit)
        if let computing, computing < nanoseconds(options.patienceSeconds) {
            inquiry.withdraw()
            excusedAt = link.now
            notice?("rank \(link.rank) waits for rank \(culprit) (\(host(of: culprit))), which has been in no "
                + "collective for \(Units.fixed(Double(computing) * 1e-9, 1)) s")
            return
        }
        let what = place.deed == .send
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
        } else if let computing {
            evidence += "; rank \(culprit) has been in no collective for \(Units.fixed(Double(computing) * 1e-9, 1)) s"
        }
        fail(LinkFault(culprit: culprit, host: host(of: culprit), operation: operation.name,
                       evidence: evidence, reporter: link.rank))
    }

    func host(of rank: Int) -> String { link.hosts.indices.contains(rank) ? link.hosts[rank] : "host unknown" }

    /// What has passed between this rank and `peer` in one operation: "3 of 8 segments received, 4 of 8
    /// sent".
    private func exchanged(with peer: Int, in operation: Operation) -> String {
        let exchanges = operation.exchanges.first { $0.peer == peer } ?? Operation.Wait(peer: peer)
        let (received, sent) = (exchanges.received, exchanges.sent)
        return "\(received.done) of \(received.all) segments received, \(sent.done) of \(sent.all) sent"
    }

    private func nanoseconds(_ seconds: Double) -> UInt64 { UInt64(seconds * 1e9) }
}
