import Base

/// The network as a collective sees it: reliable, integrity-checked messages between ranks.
///
/// A `Link` never blocks except in `poll`, and never interprets payloads. `Mesh` (sockets) is one; the
/// tests' simulated network with virtual time is another. All calls but `wake` come from one thread at a time.
///
/// Sending is pulled: the user offers, and the link asks it for the next message to a peer when it can send
/// one. So what is queued costs no memory here, and a checksum or a seal is made as the bytes leave.
///
/// Matching: a message is identified by (peer, tag). The receiver posts a buffer for each message that
/// its own schedule expects; the length on the wire only confirms the posted length, and a difference is a
/// fault that names the peer. Messages from one peer may overtake each other where several streams carry them.
public protocol Link: AnyObject {
    var rank: Int { get }
    var worldSize: Int { get }
    /// The name of each rank's machine: every fault names one.
    var hosts: [String] { get }

    /// Nanoseconds on this link's clock: monotonic for sockets, virtual in simulation.
    var now: UInt64 { get }

    /// Who is asked for messages and told of events from here on. The link does not keep it alive: it withdraws
    /// before it goes. Returns how many users this link has had, so that messages of two can be told apart.
    func attach(_ user: any LinkUser) -> UInt32

    /// The user may have a message for `peer` now. The link asks for as many as it can send, at once or later.
    func offer(to peer: Int)

    /// Says where the message (peer, tag) is to land. Its length must be exactly `buffer.count`. The memory
    /// belongs to the link until `.received(token)` is reported. It may be posted before or after the bytes
    /// arrive; early bytes wait within a bounded buffer, and beyond it in the peer's socket. With a `sum` the message
    /// is added to what is there; only where `addsInPlace` allows it.
    func receive(into buffer: UnsafeMutableRawBufferPointer, from peer: Int, tag: MessageTag, token: UInt32,
                 sum: LinkSum?)

    /// Whether messages from `peer` can be added to their place as they come. What a checksum or a seal has to be
    /// verified of cannot: it must be whole first.
    func addsInPlace(from peer: Int) -> Bool

    /// Takes everything back: afterwards no buffer of the user is read or written, and it hears nothing more.
    func withdraw()

    /// Runs the network and hands the user what happened. Returns when at least one event was handed over, when
    /// `wake` was called, or when `deadline` (on this link's clock) has passed. A deadline in the past makes one
    /// pass without waiting. A fault is reported once and then on every later call.
    func poll(until deadline: UInt64)

    /// Makes a `poll` in another thread return, or the next one if none is under way. Any thread may call it.
    func wake()

    /// Says what the messages from here on are for: `name` is the operation's kind ("all-reduce"), `bytes`
    /// its size. Only for the text of faults; cheap enough to call for each operation.
    func begin(operation: UInt64, name: StaticString, bytes: Int)

    /// Asks all peers what they are doing; `.answered` tells. Whoever is in `poll` is asked itself (`.asked`), for
    /// one that computes the link answers. Neither question nor answer waits behind data.
    func inquire()

    /// The answer to `.asked(peer)`.
    func answer(_ peer: Int, _ answer: LinkAnswer)

    /// Tells every peer why this rank gives up, so that all survivors print the same culprit. Idempotent.
    func abort(_ fault: LinkFault)
}

extension Link {
    public func addsInPlace(from peer: Int) -> Bool { false }

    public func receive(into buffer: UnsafeMutableRawBufferPointer, from peer: Int, tag: MessageTag, token: UInt32) {
        unsafe receive(into: buffer, from: peer, tag: tag, token: token, sum: nil)
    }

    /// A link that names no operations in its faults needs none of this.
    public func begin(operation: UInt64, name: StaticString, bytes: Int) {}
}

/// Who uses a link. Both calls come from within calls of the link's, on the thread that made those.
public protocol LinkUser: AnyObject {
    /// The next message to `peer`, which leaves now; nil when none may. Its bytes must stay untouched until
    /// `.sent(token)` is reported.
    func nextMessage(to peer: Int) -> OutgoingMessage?

    /// Never called within `offer` or `receive`, only within `poll`.
    func handle(_ event: LinkEvent)
}

/// How a link adds a message to what is there: `add(place, message, bytes)`, for any part of the message that is a
/// multiple of 64 bytes, or its end.
@safe public struct LinkSum: Sendable {
    public let add: @Sendable (UnsafeMutableRawPointer, UnsafeRawPointer, Int) -> Void

    public init(_ add: @escaping @Sendable (UnsafeMutableRawPointer, UnsafeRawPointer, Int) -> Void) {
        unsafe self.add = unsafe add
    }
}

/// A message on its way out.
@safe public struct OutgoingMessage {
    public var bytes: UnsafeRawBufferPointer
    public var tag: MessageTag
    public var token: UInt32

    @unsafe public init(bytes: UnsafeRawBufferPointer, tag: MessageTag, token: UInt32) {
        unsafe self.bytes = unsafe bytes
        self.tag = tag
        self.token = token
    }
}

/// What one message is, agreed by both sides from their own plans.
public struct MessageTag: Hashable, Sendable {
    /// The group's id (upper half) and the number of the collective in that group, the same on every member.
    public var operation: UInt64
    /// A hash of (operation kind, element type, element count, group): ranks that disagree on what they
    /// are doing are told so at the first message, instead of exchanging nonsense.
    public var fingerprint: UInt32
    /// The message's number within the operation.
    public var segment: UInt32

    public init(operation: UInt64, fingerprint: UInt32, segment: UInt32) {
        self.operation = operation
        self.fingerprint = fingerprint
        self.segment = segment
    }
}

public enum LinkEvent: Sendable {
    case sent(UInt32)
    case received(UInt32)
    /// A peer has waited for long and wants to know what this rank is doing.
    case asked(by: Int)
    case answered(by: Int, LinkAnswer)
    case failed(LinkFault)
}

/// What a rank that is asked is doing.
public enum LinkAnswer: Sendable, Equatable {
    /// It is in a collective, and waits for another rank.
    case waits(for: Int)
    /// It has been in no collective for so many nanoseconds.
    case computes(UInt64)
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
