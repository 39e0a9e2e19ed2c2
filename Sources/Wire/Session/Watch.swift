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
///    looks no further. Because everybody tells before leaving, and on the very
///    stream whose end would accuse it, a peer that leaves because of a fault is never taken for one.
///    Two may find two culprits before either hears of the other: the ends of one broken connection do. So a fault is
///    reported a moment after it was found, and of those that are heard of until then every rank takes the same one:
///    a rank's word about itself first, then the lowest reporter's.
/// 4. Time during which this rank itself did not run (it was stopped, or starved) is not held against
///    others: their heartbeats wait unread in our own sockets.
package struct Watch {
    /// Heartbeats in one deadline. More make detection less sure of itself, not quicker.
    package static let beatsPerDeadline = 5.0
    /// How long a broken data stream waits for a better explanation.
    package static let graceSeconds = 0.25

    /// How long a fault waits for another rank's word, which may take precedence.
    package static let settleSeconds = 0.1

    package enum Action: Equatable {
        case beat
        /// Tell every peer.
        case tell(LinkFault)
        /// It stays at this fault: once the peers have heard of it, our own caller may.
        case report(LinkFault)
    }

    private struct Peer {
        var lastHeard: UInt64
        var hasLeft = false
        var broken: (evidence: String, at: UInt64)?
    }

    private let rank: Int
    private var hosts: [String]
    private let deadline: UInt64
    private let interval: UInt64
    /// By rank; nil for this rank itself, and for those that have not been met.
    private var peers: [Peer?]
    private var lastTick: UInt64
    private var nextBeat: UInt64
    package private(set) var fault: LinkFault?
    /// When the fault is reported, known from the first tick after it was found.
    private var settledAt: UInt64?
    private var isReported = false

    /// `hosts` holds the host name of every rank, for the messages. All of them have been met.
    package init(rank: Int, hosts: [String], heartbeatSeconds: Double, now: UInt64) {
        self.init(rank: rank, worldSize: hosts.count, heartbeatSeconds: heartbeatSeconds, now: now)
        for peer in hosts.indices where peer != rank { meet(peer, at: now) }
        self.hosts = hosts
    }

    /// Nobody has been met yet.
    package init(rank: Int, worldSize: Int, heartbeatSeconds: Double, now: UInt64) {
        self.rank = rank
        hosts = Array(repeating: "never seen", count: worldSize)
        deadline = UInt64(heartbeatSeconds * 1e9)
        interval = UInt64(heartbeatSeconds / Self.beatsPerDeadline * 1e9)
        lastTick = now
        nextBeat = now
        peers = Array(repeating: nil, count: worldSize)
    }

    /// A control stream to this peer stands: from now on it beats, or it is the culprit.
    package mutating func meet(_ peer: Int, at now: UInt64) { peers[peer] = Peer(lastHeard: now) }

    /// What the peer's machine is called.
    package mutating func name(_ peer: Int, _ host: String) { hosts[peer] = host }

    package func hasLeft(_ peer: Int) -> Bool { peers[peer]?.hasLeft ?? false }

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
    package mutating func abort(_ own: LinkFault) -> Action? { take(own) }

    /// A peer gave up and said why.
    package mutating func told(_ theirs: LinkFault) -> Action? { take(theirs) }

    /// Time has passed. Call it after the sockets have been read, several times in an interval.
    package mutating func tick(_ now: UInt64, operation: @autoclosure () -> String) -> Action? {
        let gap = now - min(lastTick, now)
        lastTick = now
        if gap > interval { forgive(gap, at: now) }
        guard fault == nil else { return settle(now) }
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

    private mutating func settle(_ now: UInt64) -> Action? {
        let end = settledAt ?? now + UInt64(Self.settleSeconds * 1e9)
        settledAt = end
        guard let fault, !isReported, now >= end else { return nil }
        isReported = true
        return .report(fault)
    }

    private mutating func blame(_ peer: Int, _ evidence: String, _ operation: String) -> Action? {
        guard fault == nil else { return nil }
        return take(LinkFault(culprit: peer, host: hosts[peer], operation: operation, evidence: evidence,
                              reporter: rank))
    }

    /// The first fault, or one that takes precedence while nothing is reported yet.
    private mutating func take(_ other: LinkFault) -> Action? {
        if let fault {
            guard !isReported, Self.rank(of: other) < Self.rank(of: fault) else { return nil }
        }
        fault = other
        return .tell(other)
    }

    private static func rank(of fault: LinkFault) -> (Int, Int, Int) {
        (fault.culprit == fault.reporter ? 0 : 1, fault.reporter, fault.culprit)
    }
}
