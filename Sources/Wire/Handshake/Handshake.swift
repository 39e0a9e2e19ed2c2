import Base

// THE HANDSHAKE
// =============
// Before its first frame, every TCP stream carries five messages (I is the side that connected):
//
//   1  I -> R   S K H 2, then Noise message 1 over a payload of 42 bytes:              94 bytes
//   2  R -> I   S K H 2, then Noise message 2 over a payload of 42 bytes:              94 bytes
//   3  I -> R   an empty sealed record (the proof), then a claims record:    16 + 2 + n + 16 bytes
//   4  R -> I   an answer record:                                                2 + m + 16 bytes
//   5  I -> R   an empty sealed record (the confirmation):                              16 bytes
//
//   payload of 1 and 2:  role (1 byte: 1 I, 2 R), stream (1), own rank (4), other rank (4), digest of the
//                        own claims (32, SHA-256)
//   claims record:       the claims (Identity.swift), sealed, after their sealed length (2 bytes)
//   answer record:       0 and R's claims; 1 and a sentence why this rank is refused; or 2, come again; sealed
//                        likewise
//
// A listener that cannot open message 1 answers S K R and one byte, then closes: 1 for "another secret",
// 2 for "another version", 3 for "too busy, come again".
//
// The argument
// ------------
// 1. A stranger gets nowhere. Message 1 opens only under the secret. A recorded message 1 gets a fresh
//    message 2 and no further, because message 3 needs the ephemeral key of message 1. Nothing that a peer
//    says has any effect before its proof is right, except that its connection is dropped.
// 2. No message can be sent back or to somebody else: role, both ranks and the stream stand under the
//    secret's seal, and the Noise transcript covers all bytes. Version, job, epoch, world size and every
//    other claim are bound by the digest.
// 3. Before its proof a peer can make us read 94 + 16 bytes, all of fixed length, into 256 bytes that exist
//    already, and make us compute one X25519. The length of the claims record is read only after the proof.
// 4. A mismatch is named, not guessed: the full claims cross the wire under the fresh keys, and each side
//    reports the first difference in its own words.
// 5. Both sides agree on whether a stream stands. I uses it from its confirmation on and never gives it up by itself; R
//    counts it when the confirmation has come. An I that lost patience before (R was stopped for some seconds, say)
//    has confirmed nothing, so R does not hold a stream that nobody is at the other end of, and takes the next one.

/// Who is at the other end of an established stream, and the keys to talk to it.
package struct HandshakeResult {
    package let rank: Int
    package let stream: Int
    package let sending: FrameSeal
    package let receiving: FrameSeal
}

/// One side of a handshake, as a step function: bytes in, bytes and an outcome out. It never waits, never
/// reads a clock and knows no socket.
package struct Handshake {
    /// More than everything that is read before the proof.
    package static let unprovenByteCount = 256
    package static let seconds = 3.0

    package enum Outcome {
        /// The stream may carry frames now.
        case established(HandshakeResult)
        /// The responder knows who it is; `answer` must be called before it is fed more.
        case proven(rank: Int, stream: Int)
        /// An unauthenticated peer, to be dropped without further effect.
        case stranger(String)
        /// The listener asks to come again later.
        case busy
        /// An end for this process: the other side is real, or we are wrong.
        case failed(WireError)
    }

    package struct Step {
        package var send: [UInt8] = []
        package var outcome: Outcome?
    }

    /// What the responder makes of a peer that has proven itself.
    package enum Verdict: Equatable {
        case welcome
        case refused(String)
        /// Another connection of this rank's is in the middle of its handshake: whichever is left comes again.
        case later
    }

    private enum State {
        case first, second, proof, claimsLength, claims, deciding, answerLength, answer, confirmation, over
    }

    private static let magic = Array("SKH2".utf8)
    private static let refusal = Array("SKR".utf8)
    private static let payloadByteCount = 42
    /// The first message of either side.
    package static let openingByteCount = 4 + payloadByteCount + NoiseNNpsk0.overhead

    private let identity: Identity
    private let address: String
    private var noise: NoiseNNpsk0
    private var sending: NoiseCipher?
    private var receiving: NoiseCipher?
    private var peer: Int
    private var stream: Int
    private var peerDigest: [UInt8] = []
    private var state: State
    /// True once the peer has proven that it knows the secret.
    package private(set) var isProven = false
    /// The responder's: it has said yes, and waits for the peer to confirm.
    package var awaitsConfirmation: Bool { state == .confirmation }
    /// How many bytes the next `receive` must be given, exactly.
    package private(set) var wanted: Int

    /// The side that connects, to `peer`, whose address is only for messages.
    package init(connectingTo peer: Int, stream: Int, identity: Identity, secret: JobSecret,
                 address: String) {
        self.init(identity, secret, address, peer, stream, .second, wanted: 4)
    }

    /// The side that listens.
    package init(listeningAs identity: Identity, secret: JobSecret, address: String) {
        self.init(identity, secret, address, -1, -1, .first, wanted: Self.openingByteCount)
    }

    private init(_ identity: Identity, _ secret: JobSecret, _ address: String, _ peer: Int, _ stream: Int,
                 _ state: State, wanted: Int) {
        self.identity = identity
        self.address = address
        self.peer = peer
        self.stream = stream
        self.state = state
        self.wanted = wanted
        noise = NoiseNNpsk0(secret: secret.bytes, prologue: Self.magic)
    }

    /// What the connecting side says first.
    package mutating func open() -> [UInt8] {
        precondition(state == .second, "only the connecting side speaks first")
        return Self.magic + noise.writeFirst(payload(role: 1))
    }

    /// Takes exactly `wanted` bytes.
    package mutating func receive(_ bytes: [UInt8]) -> Step {
        precondition(bytes.count == wanted, "a handshake is fed exactly what it wants")
        switch state {
        case .first: return first(bytes)
        case .second: return wanted == 4 ? secondMagic(bytes) : second(bytes)
        case .proof: return proof(bytes)
        case .claimsLength: return length(bytes, then: .claims)
        case .claims: return claims(bytes)
        case .answerLength: return length(bytes, then: .answer)
        case .answer: return answered(bytes)
        case .confirmation: return confirmed(bytes)
        case .deciding, .over: preconditionFailure("nothing is wanted now")
        }
    }

    /// The bytes that a listener with too many half-open connections says before it closes.
    package static var busyReply: [UInt8] { refusal + [3] }

    private func payload(role: UInt8) -> [UInt8] {
        var writer = ByteWriter(capacity: Self.payloadByteCount)
        writer.append(role)
        writer.append(UInt8(stream))
        writer.append(UInt32(identity.rank))
        writer.append(UInt32(peer))
        writer.append(bytes: identity.digest)
        return writer.bytes
    }

    /// Role, stream, rank, addressed rank and digest of an opened payload.
    private static func parse(_ bytes: [UInt8]) -> (UInt8, Int, Int, Int, [UInt8])? {
        var reader = ByteReader(bytes)
        guard bytes.count == payloadByteCount, let role = reader.read(UInt8.self),
              let stream = reader.read(UInt8.self), let from = reader.read(UInt32.self),
              let to = reader.read(UInt32.self), let digest = reader.read(count: 32) else { return nil }
        return (role, Int(stream), Int(from), Int(to), Array(digest))
    }

    // MARK: the listening side

    private mutating func first(_ bytes: [UInt8]) -> Step {
        guard bytes.prefix(3).elementsEqual(Self.magic.prefix(3)) else { return stranger("not a handshake") }
        guard bytes[3] == Self.magic[3] else { return stranger("another version", reply: 2) }
        let message = Array(bytes.dropFirst(4))
        guard let opened = try? noise.readFirst(message) else { return stranger("another secret", reply: 1) }
        guard let (role, stream, from, to, digest) = Self.parse(opened), role == 1, to == identity.rank,
              from != identity.rank else { return stranger("a message for somebody else") }
        (self.stream, peer, peerDigest) = (stream, from, digest)
        guard let reply = try? noise.writeSecond(payload(role: 2), to: message) else {
            return stranger("a key without order")
        }
        let (toUs, toThem) = noise.split()
        (receiving, sending) = (toUs, toThem)
        (state, wanted) = (.proof, NoiseNNpsk0.tagByteCount)
        return Step(send: Self.magic + reply)
    }

    private mutating func proof(_ bytes: [UInt8]) -> Step {
        guard receiving?.open(bytes) == [] else { return stranger("no proof") }
        isProven = true
        (state, wanted) = (.claimsLength, 2)
        return Step()
    }

    private mutating func claims(_ bytes: [UInt8]) -> Step {
        guard let record = receiving?.open(bytes), Identity.digest(of: record) == peerDigest,
              let theirs = Identity.readRecord(record) else {
            return over(.stranger("damaged claims"))
        }
        // Our own claims go out even on a difference, so that the other side can name it too.
        if let difference = identity.difference(from: theirs, rank: peer) {
            return over(.failed(difference), send: seal([0] + identity.record))
        }
        (state, wanted) = (.deciding, 0)
        return Step(outcome: .proven(rank: peer, stream: stream))
    }

    /// The decision about a proven peer.
    package mutating func answer(_ verdict: Verdict) -> Step {
        precondition(state == .deciding, "there is nobody to answer")
        switch verdict {
        case .refused(let reason):
            return over(.stranger(reason), send: seal([1] + Array(reason.utf8.prefix(1024))))
        case .later:
            return over(.stranger("a second connection of rank \(peer)"), send: seal([2]))
        case .welcome:
            (state, wanted) = (.confirmation, NoiseNNpsk0.tagByteCount)
            return Step(send: seal([0] + identity.record))
        }
    }

    private mutating func confirmed(_ bytes: [UInt8]) -> Step {
        guard receiving?.open(bytes) == [] else { return over(.stranger("a damaged confirmation")) }
        return over(.established(result))
    }

    // MARK: the connecting side

    private mutating func secondMagic(_ bytes: [UInt8]) -> Step {
        if bytes == Self.magic {
            wanted = Self.openingByteCount - 4
            return Step()
        }
        guard bytes.starts(with: Self.refusal) else { return over(.stranger("not a rank of a job")) }
        switch bytes[3] {
        case 1: return over(.failed(.wrongSecret(address: address)))
        case 2: return over(.failed(.otherVersion(address: address)))
        default: return over(.busy)
        }
    }

    private mutating func second(_ bytes: [UInt8]) -> Step {
        guard let opened = try? noise.readSecond(bytes),
              let (role, stream, from, to, digest) = Self.parse(opened), role == 2, stream == self.stream,
              from == peer, to == identity.rank else { return over(.stranger("an answer of somebody else")) }
        peerDigest = digest
        let (toThem, toUs) = noise.split()
        (sending, receiving) = (toThem, toUs)
        isProven = true
        (state, wanted) = (.answerLength, 2)
        let proof = sending?.seal([]) ?? []
        return Step(send: proof + seal(identity.record))
    }

    private mutating func answered(_ bytes: [UInt8]) -> Step {
        guard let record = receiving?.open(bytes), let verdict = record.first else {
            return over(.stranger("a damaged answer"))
        }
        let content = Array(record.dropFirst())
        if verdict == 2 { return over(.busy) }
        guard verdict == 0 else {
            return over(.failed(.refused(by: peer, reason: String(decoding: content, as: UTF8.self))))
        }
        guard Identity.digest(of: content) == peerDigest, let theirs = Identity.readRecord(content) else {
            return over(.stranger("damaged claims"))
        }
        if let difference = identity.difference(from: theirs, rank: peer) { return over(.failed(difference)) }
        let confirmation = sending?.seal([]) ?? []
        return over(.established(result), send: confirmation)
    }

    // MARK: both

    private mutating func length(_ bytes: [UInt8], then next: State) -> Step {
        let count = Int(bytes[0]) | Int(bytes[1]) << 8
        guard count > NoiseNNpsk0.tagByteCount, count <= Identity.maximumRecordByteCount + 64 else {
            return over(.stranger("a record of impossible length"))
        }
        (state, wanted) = (next, count)
        return Step()
    }

    private mutating func seal(_ record: [UInt8]) -> [UInt8] {
        precondition(record.count <= Identity.maximumRecordByteCount, "claims of more than 8 KiB")
        let sealed = sending?.seal(record) ?? []
        return [UInt8(sealed.count & 0xFF), UInt8(sealed.count >> 8)] + sealed
    }

    private var result: HandshakeResult {
        guard let sending, let receiving else { preconditionFailure("keys come before the result") }
        return HandshakeResult(rank: peer, stream: stream,
                               sending: FrameSeal(key: sending.derived(for: "skein frames")),
                               receiving: FrameSeal(key: receiving.derived(for: "skein frames")))
    }

    private mutating func over(_ outcome: Outcome, send: [UInt8] = []) -> Step {
        (state, wanted) = (.over, 0)
        return Step(send: send, outcome: outcome)
    }

    private mutating func stranger(_ what: String, reply: UInt8? = nil) -> Step {
        over(.stranger(what), send: reply.map { Self.refusal + [$0] } ?? [])
    }
}
