import Base
import Crypto
import Testing
import Wire

private func bytes(_ hex: String) -> [UInt8] {
    let digits = Array(hex)
    return stride(from: 0, to: digits.count, by: 2).compactMap {
        UInt8(String(digits[$0...($0 + 1)]), radix: 16)
    }
}

@Suite struct NoiseTests {
    /// Made with an independent implementation (the Python package noiseprotocol 0.3.1), fixed keys.
    @Test func knownAnswer() throws {
        let prologue = Array("John Galt".utf8), secret = (100..<132).map { UInt8($0) }
        func key(_ first: UInt8) throws -> Curve25519.KeyAgreement.PrivateKey {
            try .init(rawRepresentation: (0..<32).map { first + $0 })
        }
        var initiator = try NoiseNNpsk0(secret: secret, prologue: prologue, ephemeral: key(1))
        var responder = try NoiseNNpsk0(secret: secret, prologue: prologue, ephemeral: key(65))
        let first = initiator.writeFirst(Array("Ludwig von Mises".utf8))
        #expect(first == bytes("07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7cf9bd019f"
            + "ffbaf709a2a232355dbe4c9c53ba6bb08bcc40185033e27f97190d9a"))
        #expect(try responder.readFirst(first) == Array("Ludwig von Mises".utf8))
        let second = try responder.writeSecond(Array("Murray Rothbard".utf8), to: first)
        #expect(second == bytes("64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d48466a0a03667"
            + "c536172245e9dc15231d44fa416c4a623519e5f868da328e5a7379"))
        #expect(try initiator.readSecond(second) == Array("Murray Rothbard".utf8))
        let hash = bytes("87a6f8c33cc9b254967b75fe98c0fe3f92191b1b5e17be454a66317f33b680c0")
        #expect(initiator.transcript == hash)
        #expect(responder.transcript == hash)
        var (forth, back) = initiator.split()
        let there = forth.seal(Array("F. A. Hayek".utf8))
        #expect(there == bytes("b6698bd6490eac6d78b751b25e1764f5d2f1db6946418e3e069ff0"))
        let here = back.seal(Array("Carl Menger".utf8))
        #expect(here == bytes("951588c8df43478a4d52971f258ec00cec573f5da6685a549d019a"))
    }
}

private func identity(_ rank: Int, worldSize: Int = 5, job: String = "job", epoch: UInt32 = 0,
                      protection: Protection = .checked, recipe: String = "aa",
                      extra: Bool = false) -> Identity {
    Identity(rank: rank, worldSize: worldSize, jobID: job, epoch: epoch, protection: protection,
             claims: [("recipe", recipe)] + (extra ? [("arithmetic", "x86-64")] : []))
}

/// Two sides joined by a wire that a test may tamper with.
private struct Pair {
    var initiator: Handshake
    var responder: Handshake
    var verdict = Handshake.Verdict.welcome
    /// Every message as it was sent: (is it the initiator's, bytes).
    var messages: [(fromInitiator: Bool, bytes: [UInt8])] = []
    var initiatorOutcome: Handshake.Outcome?
    var responderOutcome: Handshake.Outcome?
    /// Bytes that the responder took before the proof.
    var unproven = 0

    init(_ a: Identity, to peer: Int, stream: Int = 0, secret: JobSecret = testSecret, with b: Identity) {
        initiator = Handshake(connectingTo: peer, stream: stream, identity: a, secret: secret,
                              address: "there:1")
        responder = Handshake(listeningAs: b, secret: testSecret, address: "here:1")
    }

    /// Runs until both are done or wait for bytes that do not come. `tamper` may change each message.
    mutating func run(_ tamper: (Int, [UInt8]) -> [UInt8] = { $1 }) {
        var toResponder: [UInt8] = [], toInitiator: [UInt8] = []
        func send(_ bytes: [UInt8], _ fromInitiator: Bool, _ pair: inout Pair) {
            guard !bytes.isEmpty else { return }
            let sent = tamper(pair.messages.count, bytes)
            pair.messages.append((fromInitiator, bytes))
            if fromInitiator { toResponder += sent } else { toInitiator += sent }
        }
        send(initiator.open(), true, &self)
        while true {
            if responderOutcome == nil, toResponder.count >= responder.wanted {
                let count = responder.wanted
                if !responder.isProven { unproven += count }
                var step = responder.receive(Array(toResponder.prefix(count)))
                toResponder.removeFirst(count)
                send(step.send, false, &self)
                if case .proven = step.outcome {
                    step = responder.answer(verdict)
                    send(step.send, false, &self)
                }
                responderOutcome = step.outcome
            } else if initiatorOutcome == nil, toInitiator.count >= initiator.wanted {
                let count = initiator.wanted
                let step = initiator.receive(Array(toInitiator.prefix(count)))
                toInitiator.removeFirst(count)
                send(step.send, true, &self)
                initiatorOutcome = step.outcome
            } else {
                return
            }
        }
    }
}

private func established(_ outcome: Handshake.Outcome?) -> HandshakeResult? {
    if case .established(let result) = outcome { return result }
    return nil
}

private func error(_ outcome: Handshake.Outcome?) -> WireError? {
    if case .failed(let error) = outcome { return error }
    return nil
}

private func isStranger(_ outcome: Handshake.Outcome?) -> Bool {
    if case .stranger = outcome { return true }
    return false
}

@Suite struct HandshakeTests {
    @Test func allPairsAndStreamsAgree() throws {
        for a in 0..<5 {
            for b in 0..<5 where a != b {
                for stream in [0, 1, 16] {
                    var pair = Pair(identity(a), to: b, stream: stream, with: identity(b))
                    pair.run()
                    let near = try #require(established(pair.initiatorOutcome))
                    let far = try #require(established(pair.responderOutcome))
                    #expect(near.rank == b && far.rank == a && near.stream == stream && far.stream == stream)
                    #expect(pair.unproven <= Handshake.unprovenByteCount)
                    #expect(opens(near.sending, far.receiving) && opens(far.sending, near.receiving))
                    #expect(!opens(near.sending, far.sending))
                }
            }
        }
    }

    private func opens(_ sealing: FrameSeal, _ opening: FrameSeal) -> Bool {
        let header = [UInt8](repeating: 1, count: 48)
        var payload: [UInt8] = [5, 6, 7]
        let sealed = unsafe payload.withUnsafeBytes { body in
            unsafe header.withUnsafeBytes { unsafe Array(sealing.seal(body, header: $0, sequence: 3)) }
        }
        payload = Array(sealed[..<3])
        return unsafe payload.withUnsafeMutableBytes { body in
            unsafe header.withUnsafeBytes {
                unsafe opening.open(body, tag: Array(sealed[3...]), header: $0, sequence: 3)
            }
        } && payload == [5, 6, 7]
    }

    @Test func anotherSecretIsToldToTheInitiatorAndIgnoredByTheListener() {
        var pair = Pair(identity(1), to: 0, secret: JobSecret(bytes: [UInt8](repeating: 9, count: 32)),
                        with: identity(0))
        pair.run()
        #expect(error(pair.initiatorOutcome) == .wrongSecret(address: "there:1"))
        #expect(isStranger(pair.responderOutcome))
    }

    @Test func everyDifferenceIsNamedOnBothSides() {
        let here = identity(0)
        let cases: [(Identity, String, String, String)] = [
            (identity(3, job: "other"), "job", "job", "other"),
            (identity(3, worldSize: 8), "world size", "5", "8"),
            (identity(3, epoch: 2), "epoch", "0", "2"),
            (identity(3, protection: .sealed), "protection", "checked", "sealed"),
            (identity(3, recipe: "bb"), "recipe", "aa", "bb"),
            (identity(3, extra: true), "arithmetic", "nothing", "x86-64"),
        ]
        for (there, name, ours, theirs) in cases {
            var pair = Pair(there, to: 0, with: here)
            pair.run()
            #expect(error(pair.responderOutcome)
                == .disagreement(rank: 3, name: name, here: ours, there: theirs))
            #expect(error(pair.initiatorOutcome)
                == .disagreement(rank: 0, name: name, here: theirs, there: ours))
            #expect(error(pair.responderOutcome)?.kind == .badInput)
        }
    }

    @Test func aRefusedRankHearsWhy() {
        var pair = Pair(identity(1), to: 0, with: identity(0))
        pair.verdict = .refused("rank 1 is already taken by another process")
        pair.run()
        #expect(error(pair.initiatorOutcome)
            == .refused(by: 0, reason: "rank 1 is already taken by another process"))
        #expect(established(pair.responderOutcome) == nil)
    }

    @Test func aSecondConnectionComesAgain() {
        var pair = Pair(identity(1), to: 0, with: identity(0))
        pair.verdict = .later
        pair.run()
        guard case .busy = pair.initiatorOutcome else { return #expect(Bool(false), "not busy") }
        #expect(isStranger(pair.responderOutcome))
    }

    /// The responder holds nothing before the initiator has confirmed.
    @Test func anUnconfirmedStreamDoesNotStand() throws {
        var pair = Pair(identity(1), to: 0, with: identity(0))
        pair.run { number, bytes in number == 4 ? [] : bytes }
        #expect(pair.messages.count == 5)
        #expect(established(pair.responderOutcome) == nil && pair.responder.awaitsConfirmation)
        var confirmed = Pair(identity(1), to: 0, with: identity(0))
        confirmed.run()
        #expect(established(confirmed.responderOutcome) != nil && confirmed.messages.count == 5)
    }

    /// A recording of a whole good handshake, played again: it stops at the proof.
    @Test func replayedMessagesProveNothing() {
        var good = Pair(identity(1), to: 0, with: identity(0))
        good.run()
        let recorded = good.messages.filter { $0.fromInitiator }.flatMap { $0.bytes }
        var listener = Handshake(listeningAs: identity(0), secret: testSecret, address: "x")
        var taken = 0
        var outcome: Handshake.Outcome?
        while outcome == nil {
            let next = listener.wanted
            outcome = listener.receive(Array(recorded[taken..<(taken + next)])).outcome
            taken += next
        }
        #expect(isStranger(outcome))
        #expect(!listener.isProven)
        #expect(taken <= Handshake.unprovenByteCount)
    }

    @Test func reflectedMessagesAreDropped() {
        // To the initiator's own listener, to another rank's listener, and back to the initiator itself.
        for listener in [1, 2] {
            var initiator = Handshake(connectingTo: 0, stream: 0, identity: identity(1), secret: testSecret,
                                      address: "x")
            var other = Handshake(listeningAs: identity(listener), secret: testSecret, address: "y")
            #expect(isStranger(other.receive(initiator.open()).outcome))
        }
        var initiator = Handshake(connectingTo: 0, stream: 0, identity: identity(1), secret: testSecret,
                                  address: "x")
        let message = initiator.open()
        #expect(initiator.receive(Array(message[..<4])).outcome == nil)
        #expect(isStranger(initiator.receive(Array(message[4...])).outcome))
    }

    /// Whoever claims to be the rank that it talks to, with the right secret, is nobody of the job.
    @Test func ourOwnRankIsAStranger() {
        for rank in [0, 1, 2] {
            var twin = Handshake(connectingTo: rank, stream: 0, identity: identity(rank), secret: testSecret,
                                 address: "x")
            var listener = Handshake(listeningAs: identity(rank), secret: testSecret, address: "y")
            let opening = twin.open()
            var outcome = listener.receive(Array(opening[..<listener.wanted])).outcome
            if outcome == nil {
                outcome = listener.receive(Array(opening[(opening.count - listener.wanted)...])).outcome
            }
            #expect(isStranger(outcome) && !listener.isProven)
        }
    }

    @Test func noFlippedBitGoesThrough() {
        var good = Pair(identity(1), to: 0, with: identity(0))
        good.run()
        for (number, message) in good.messages.enumerated() {
            for bit in 0..<(8 * message.bytes.count) {
                var pair = Pair(identity(1), to: 0, with: identity(0))
                pair.run { index, bytes in
                    guard index == number else { return bytes }
                    var damaged = bytes
                    damaged[bit / 8] ^= 1 << UInt8(bit % 8)
                    return damaged
                }
                // The initiator may believe in a handshake whose last message was damaged on its way.
                #expect(established(pair.responderOutcome) == nil)
                if number < good.messages.count - 1 { #expect(established(pair.initiatorOutcome) == nil) }
            }
        }
    }

    @Test func randomBytesCostABoundedAmount() {
        let random = CounterRNG(seed: 5, stream: 6)
        for round in 0..<500 {
            var listener = Handshake(listeningAs: identity(0), secret: testSecret, address: "x")
            #expect(listener.wanted <= Handshake.unprovenByteCount)
            var noise = (0..<listener.wanted).map {
                UInt8(truncatingIfNeeded: random.bits(at: UInt64(round * 256 + $0)))
            }
            if round % 2 == 0 { noise.replaceSubrange(0..<4, with: Array("SKH2".utf8)) }
            let step = listener.receive(noise)
            #expect(isStranger(step.outcome))
            #expect(step.send == (round % 2 == 0 ? Array("SKR".utf8) + [1] : []))
        }
    }

    @Test func theListenersOtherRefusals() {
        func reply(_ bytes: [UInt8]) -> Handshake.Outcome? {
            var initiator = Handshake(connectingTo: 0, stream: 0, identity: identity(1), secret: testSecret,
                                      address: "x")
            _ = initiator.open()
            return initiator.receive(bytes).outcome
        }
        #expect(error(reply(Array("SKR".utf8) + [2])) == .otherVersion(address: "x"))
        guard case .busy = reply(Handshake.busyReply) else { return #expect(Bool(false), "not busy") }
        #expect(isStranger(reply(Array("HTTP".utf8))))
        var listener = Handshake(listeningAs: identity(0), secret: testSecret, address: "x")
        let newer = Array("SKH3".utf8) + [UInt8](repeating: 0, count: listener.wanted - 4)
        #expect(listener.receive(newer).send == Array("SKR".utf8) + [2])
    }

    @Test func claimRecordsAreReadExactly() {
        let record = identity(0, extra: true).record
        #expect(Identity.readRecord(record)?.count == 6)
        for count in 0..<record.count { #expect(Identity.readRecord(Array(record[..<count])) == nil) }
        #expect(Identity.readRecord(record + [0]) == nil)
    }
}
