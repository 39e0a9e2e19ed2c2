import Base

/// Who is alive, and whose fault it is: the failure detector of one rank, as a step function over what the
/// control streams say and over time. It knows no socket; the controller feeds it and does what it returns.
///
/// Rules.
/// 1. Every rank sends a heartbeat to every other on the control stream, from a thread of its own, five
///    times within the deadline. A peer from which nothing came for the whole deadline is the culprit.
/// 2. The control stream is the authority. Its end without a goodbye makes the peer the culprit, at once.
///    A data stream that breaks is only a suspicion: the peer may have closed because of somebody else,
///    and its abort may still be under way. The verdict waits for a short grace. So it does when a control
///    stream ends on which the peer never said a word: it may have left before its side of it stood.
/// 3. Whoever finds a culprit first tells all. Whoever is told adopts that culprit, tells all in turn and
///    looks no further: the first fault wins. Because everybody tells before leaving, and on the very
///    stream whose end would accuse it, a peer that leaves because of a fault is never taken for one.
/// 4. Time during which this rank itself did not run (it was stopped, or starved) is not held against
///    others: their heartbeats wait unread in our own sockets.
package struct Watch {
    /// Heartbeats in one deadline. More make detection less sure of itself, not quicker.
    package static let beatsPerDeadline = 5.0
    /// How long a broken data stream waits for a better explanation.
    package static let graceSeconds = 0.25

    package enum Action: Equatable {
        case beat
        /// Tell every peer, then report it to our own caller.
        case tell(LinkFault)
    }

    private struct Peer {
        var lastHeard: UInt64
        var hasLeft = false
        var broken: (evidence: String, at: UInt64)?
    }

    private let rank: Int
    private let hosts: [String]
    private let deadline: UInt64
    private let interval: UInt64
    /// By rank; nil for this rank itself.
    private var peers: [Peer?]
    private var lastTick: UInt64
    private var nextBeat: UInt64
    package private(set) var fault: LinkFault?

    /// `hosts` holds the host name of every rank, for the messages.
    package init(rank: Int, hosts: [String], heartbeatSeconds: Double, now: UInt64) {
        self.rank = rank
        self.hosts = hosts
        deadline = UInt64(heartbeatSeconds * 1e9)
        interval = UInt64(heartbeatSeconds / Self.beatsPerDeadline * 1e9)
        lastTick = now
        nextBeat = now
        peers = hosts.indices.map { $0 == rank ? nil : Peer(lastHeard: now) }
    }

    /// The peers that said goodbye.
    package var leftCount: Int { peers.count { $0?.hasLeft == true } }

    /// Any frame from `peer` shows that it lives.
    package mutating func heard(from peer: Int, at now: UInt64) {
        peers[peer]?.lastHeard = now
    }

    package mutating func goodbye(from peer: Int) {
        peers[peer]?.hasLeft = true
    }

    /// The control stream of `peer` ended or carried nonsense.
    package mutating func ended(_ peer: Int, evidence: String,
                                operation: @autoclosure () -> String) -> Action? {
        guard let state = peers[peer], !state.hasLeft else { return nil }
        return blame(peer, evidence, operation())
    }

    /// A stream of `peer` ended that cannot carry an explanation: a data stream while something was still
    /// expected of it, or a control stream that never spoke.
    package mutating func broke(_ peer: Int, evidence: String, at now: UInt64) {
        guard peers[peer]?.broken == nil else { return }
        peers[peer]?.broken = (evidence, now)
    }

    /// What `peer` sent over its data stream proves it wrong: no need to wait.
    package mutating func misbehaved(_ peer: Int, evidence: String,
                                     operation: @autoclosure () -> String) -> Action? {
        blame(peer, evidence, operation())
    }

    /// Our own caller gives up.
    package mutating func abort(_ own: LinkFault) -> Action? {
        guard fault == nil else { return nil }
        fault = own
        return .tell(own)
    }

    /// A peer gave up and said why.
    package mutating func told(_ theirs: LinkFault) -> Action? {
        guard fault == nil else { return nil }
        fault = theirs
        return .tell(theirs)
    }

    /// Time has passed. Call it after the sockets have been read, several times in an interval.
    package mutating func tick(_ now: UInt64, operation: @autoclosure () -> String) -> Action? {
        let gap = now - min(lastTick, now)
        lastTick = now
        if gap > interval { forgive(gap, at: now) }
        guard fault == nil else { return nil }
        for peer in peers.indices {
            guard let state = peers[peer] else { continue }
            if let (evidence, at) = state.broken, now - min(at, now) >= UInt64(Self.graceSeconds * 1e9) {
                return blame(peer, state.hasLeft ? "it had left the job" : evidence, operation())
            }
            if !state.hasLeft, now - min(state.lastHeard, now) >= deadline {
                let seconds = Units.fixed(Double(deadline) * 1e-9, 1)
                return blame(peer, "no heartbeat for \(seconds) s", operation())
            }
        }
        guard now >= nextBeat else { return nil }
        nextBeat = now + interval
        return .beat
    }

    /// This rank did not run for `gap`: the silence of the others in that time counts for nothing.
    private mutating func forgive(_ gap: UInt64, at now: UInt64) {
        for peer in peers.indices {
            guard let heard = peers[peer]?.lastHeard else { continue }
            peers[peer]?.lastHeard = min(heard + gap, now)
        }
    }

    private mutating func blame(_ peer: Int, _ evidence: String, _ operation: String) -> Action? {
        guard fault == nil else { return nil }
        let found = LinkFault(culprit: peer, host: hosts[peer], operation: operation, evidence: evidence,
                              reporter: rank)
        fault = found
        return .tell(found)
    }
}
