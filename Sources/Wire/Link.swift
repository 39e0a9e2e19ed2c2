import Base

/// The network as a collective sees it: ordered, reliable, integrity-checked messages between ranks.
///
/// A `Link` never blocks except in `poll`, and never interprets payloads. `Mesh` (sockets) is one; the
/// tests' simulated network with virtual time is another. All calls come from one thread at a time.
///
/// Matching: a message is identified by (peer, tag). The receiver posts a buffer for each message that
/// its own schedule expects; the length on the wire only confirms the posted length, and a difference is a
/// fault that names the peer. Between two ranks, messages of one `channel` arrive in the order sent.
public protocol Link: AnyObject {
    var rank: Int { get }
    var worldSize: Int { get }

    /// Nanoseconds on this link's clock: monotonic for sockets, virtual in simulation.
    var now: UInt64 { get }

    /// Queues `bytes` for `peer`. The memory must stay untouched until `.sent(token)` is reported.
    func send(_ bytes: UnsafeRawBufferPointer, to peer: Int, tag: MessageTag, token: UInt32)

    /// Says where the message (peer, tag) is to land. Its length must be exactly `buffer.count`. The memory
    /// belongs to the link until `.received(token)` is reported. It may be posted before or after the bytes
    /// arrive; early bytes wait within a bounded buffer, and beyond it in the peer's socket.
    func receive(into buffer: UnsafeMutableRawBufferPointer, from peer: Int, tag: MessageTag, token: UInt32)

    /// Runs the network and appends what happened to `events`. Returns as soon as there is at least one
    /// event, or when `deadline` (on this link's clock) has passed, then possibly with none. A deadline in
    /// the past makes one pass without waiting. A fault is reported once and then on every later call.
    func poll(into events: inout [LinkEvent], until deadline: UInt64)

    /// Says what the messages from here on are for: `name` is the operation's kind ("all-reduce"), `bytes`
    /// its size. Only for the text of faults; cheap enough to call for each operation.
    func begin(operation: UInt64, name: StaticString, bytes: Int)

    /// Tells every peer why this rank gives up, so that all survivors print the same culprit. Idempotent;
    /// the first fault wins.
    func abort(_ fault: LinkFault)
}

extension Link {
    /// A link that names no operations in its faults needs none of this.
    public func begin(operation: UInt64, name: StaticString, bytes: Int) {}
}

/// What one message is, agreed by both sides from their own plans.
public struct MessageTag: Hashable, Sendable {
    /// Counts the collectives of this job, the same on every rank.
    public var operation: UInt64
    /// A hash of (operation kind, element type, element count, group): ranks that disagree on what they
    /// are doing are told so at the first message, instead of exchanging nonsense.
    public var fingerprint: UInt32
    /// The message's number within the operation.
    public var segment: UInt32
    /// Independent orders over the same peers; each may be carried by its own stream.
    public var channel: UInt16

    public init(operation: UInt64, fingerprint: UInt32, segment: UInt32, channel: UInt16 = 0) {
        self.operation = operation
        self.fingerprint = fingerprint
        self.segment = segment
        self.channel = channel
    }
}

public enum LinkEvent: Sendable {
    case sent(UInt32)
    case received(UInt32)
    case failed(LinkFault)
}

/// Why the mesh cannot go on: one culprit, the same on every survivor's screen.
public struct LinkFault: Fault, Equatable {
    /// The rank that failed, and where it ran.
    public var culprit: Int
    public var host: String
    /// What the reporter was doing, for example "all-reduce of 4.0 MiB, operation 812".
    public var operation: String
    /// What was seen: "connection reset", "no heartbeat for 5.0 s", "CRC mismatch in segment 3".
    public var evidence: String
    /// The rank that saw it first.
    public var reporter: Int

    public init(culprit: Int, host: String, operation: String, evidence: String, reporter: Int) {
        self.culprit = culprit
        self.host = host
        self.operation = operation
        self.evidence = evidence
        self.reporter = reporter
    }

    public var kind: FaultKind { .running }

    public var description: String {
        "rank \(culprit) (\(host)) failed during \(operation): \(evidence) [seen by rank \(reporter)]"
    }
}
