import Base
import Wire

/// One direction between two ranks: what waits to leave, and what is under way. `flying` stands for both
/// kernels' socket buffers and the cable: at most `window` bytes.
final class Pipe {
    @safe struct Outgoing {
        var tag: MessageTag
        var memory: UnsafeRawBufferPointer
        var token: UInt32
        var departed = 0
    }

    struct Fragment {
        var arrival: UInt64
        var tag: MessageTag
        var messageLength: Int
        var bytes: [UInt8]
        var isCorrupt: Bool
    }

    let from: Int
    let to: Int
    /// What is leaving: one message at a time, pulled from the sender.
    var leaving: Outgoing?
    var flying = Line<Fragment>()
    var flyingBytes = 0
    var lastArrival: UInt64 = 0
    /// Corrupts the fragment that is this many fragments away; negative: none.
    var corruptAfter = -1

    init(from: Int, to: Int) {
        self.from = from
        self.to = to
    }
}

/// A rank's end of the simulated network. Bytes move only inside `poll`, as in a process that runs its own
/// event loop: a stopped rank reads and writes nothing, while what it had written still arrives.
@safe package final class SimulatedLink: Link {
    struct Key: Hashable {
        var peer: Int
        var operation: UInt64
        var segment: UInt32

        init(_ peer: Int, _ tag: MessageTag) {
            (self.peer, operation, segment) = (peer, tag.operation, tag.segment)
        }
    }

    @safe struct Posted {
        var fingerprint: UInt32
        var memory: UnsafeMutableRawBufferPointer
        var token: UInt32
        var filled = 0
    }

    struct Early {
        var tag: MessageTag
        var messageLength: Int
        var bytes: [UInt8]
    }

    package let rank: Int
    package let worldSize: Int
    unowned let network: SimulatedNetwork
    private var posted: [Key: Posted] = [:]
    private var early: [Key: Early] = [:]
    private var earlyBytes: [Int]
    private var events: [LinkEvent] = []
    private weak var user: (any LinkUser)?
    private(set) var fault: LinkFault?

    init(rank: Int, network: SimulatedNetwork) {
        self.rank = rank
        self.network = network
        worldSize = network.worldSize
        hosts = (0..<network.worldSize).map { "host\($0)" }
        earlyBytes = Array(repeating: 0, count: network.worldSize)
    }

    package var now: UInt64 { network.now }

    package let hosts: [String]

    package func attach(_ user: any LinkUser) -> UInt32 {
        self.user = user
        return 1
    }

    package func offer(to peer: Int) {
        precondition(peer != rank, "a message goes to a peer")
        network.wake(rank)
    }

    package func withdraw() {
        user = nil
        posted = [:]
    }

    package func wake() {}

    package func inquire() { network.ask(rank) }

    package func answer(_ peer: Int, _ answer: LinkAnswer) { network.tell(peer, .answered(by: rank, answer)) }

    func hear(_ event: LinkEvent) {
        events.append(event)
        network.wake(rank)
    }

    package func receive(into buffer: UnsafeMutableRawBufferPointer, from peer: Int, tag: MessageTag,
                         token: UInt32, sum: LinkSum?) {
        let key = Key(peer, tag)
        precondition(posted[key] == nil, "a message is posted once")
        unsafe posted[key] = Posted(fingerprint: tag.fingerprint, memory: buffer, token: token)
        if let first = early.removeValue(forKey: key) {
            earlyBytes[peer] -= first.bytes.count
            deliver(first.bytes, of: first.tag, messageLength: first.messageLength, from: peer)
        }
        network.wake(rank)
    }

    package func poll(until deadline: UInt64) {
        if fault == nil {
            for peer in 0..<worldSize where peer != rank { read(network.pipe(from: peer, to: rank)) }
            for peer in 0..<worldSize where peer != rank { write(network.pipe(from: rank, to: peer)) }
        }
        if let fault { events = [.failed(fault)] }
        var next = 0
        while next < events.count {
            user?.handle(events[next])
            next += 1
        }
        events.removeAll(keepingCapacity: true)
    }

    package func abort(_ fault: LinkFault) {
        self.fault = self.fault ?? fault
        network.tellPeers(of: rank, fault)
    }

    func fail(_ fault: LinkFault) {
        self.fault = self.fault ?? fault
        network.wake(rank)
    }

    private func read(_ pipe: Pipe) {
        while fault == nil, let fragment = pipe.flying.first, fragment.arrival <= now {
            if fragment.isCorrupt {
                return blame(pipe.from, "CRC mismatch in segment \(fragment.tag.segment)")
            }
            let key = Key(pipe.from, fragment.tag)
            if posted[key] != nil {
                deliver(fragment.bytes, of: fragment.tag, messageLength: fragment.messageLength,
                        from: pipe.from)
            } else {
                let room = network.conditions.earlyBytes - earlyBytes[pipe.from]
                guard fragment.bytes.count <= room else { return }
                let nothing = Early(tag: fragment.tag, messageLength: fragment.messageLength, bytes: [])
                early[key, default: nothing].bytes += fragment.bytes
                earlyBytes[pipe.from] += fragment.bytes.count
            }
            pipe.flying.removeFirst()
            pipe.flyingBytes -= fragment.bytes.count
            network.wakeAfterHop(pipe.from)
        }
    }

    /// Puts bytes where the receiver wants them, having checked that both mean the same message.
    private func deliver(_ bytes: [UInt8], of tag: MessageTag, messageLength: Int, from peer: Int) {
        let key = Key(peer, tag)
        guard var target = posted[key] else { preconditionFailure("delivered without a receive") }
        guard target.fingerprint == tag.fingerprint else {
            return blame(peer, "it does something else in operation \(tag.operation)")
        }
        guard unsafe target.memory.count == messageLength else {
            return unsafe blame(peer, "segment of \(messageLength) bytes, expected \(target.memory.count)")
        }
        unsafe UnsafeMutableRawBufferPointer(rebasing: target.memory[target.filled...]).copyBytes(from: bytes)
        target.filled += bytes.count
        if target.filled == messageLength {
            posted[key] = nil
            events.append(.received(target.token))
        } else {
            posted[key] = target
        }
    }

    private func write(_ pipe: Pipe) {
        let window = network.conditions.window
        while var message = pipe.leaving ?? pull(pipe) {
            pipe.leaving = message
            let room = window - pipe.flyingBytes
            let rest = unsafe message.memory.count - message.departed
            // As a kernel does, wait until a good part of the window is free.
            guard room >= min(rest, window / 4 + 1) else { return }
            let length = min(room, rest, network.fragmentLength())
            let bytes = unsafe Array(message.memory[message.departed..<(message.departed + length)])
            pipe.lastArrival = max(pipe.lastArrival, now + network.latency()) + network.transferTime(length)
            pipe.flying.append(unsafe Pipe.Fragment(
                arrival: pipe.lastArrival, tag: message.tag, messageLength: message.memory.count,
                bytes: bytes, isCorrupt: pipe.corruptAfter == 0))
            pipe.corruptAfter -= 1
            pipe.flyingBytes += length
            network.wake(pipe.to, at: pipe.lastArrival)
            message.departed += length
            if length == rest {
                pipe.leaving = nil
                events.append(.sent(message.token))
            } else {
                pipe.leaving = message
            }
        }
    }

    private func pull(_ pipe: Pipe) -> Pipe.Outgoing? {
        guard let next = user?.nextMessage(to: pipe.to) else { return nil }
        precondition(unsafe next.bytes.count > 0, "a message has bytes")
        return unsafe Pipe.Outgoing(tag: next.tag, memory: next.bytes, token: next.token)
    }

    private func blame(_ peer: Int, _ evidence: String) {
        abort(LinkFault(culprit: peer, host: "simulated", operation: "exchange of messages",
                        evidence: evidence, reporter: rank))
    }
}
