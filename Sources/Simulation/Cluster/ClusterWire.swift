import Base

/// One direction of a simulated TCP connection: what is on its way, and what lies in the receiver's kernel. Bytes keep
/// their order, are cut anywhere, and may be held up for as long as the simulation likes.
struct Flow {
    private struct Piece {
        var arrival: UInt64
        var bytes: [UInt8]
    }

    /// What a sender may have under way or unread; then its kernel takes no more.
    static let window = 256 << 10

    private var flying = Line<Piece>()
    private var flyingCount = 0
    private var arrived: [UInt8] = []
    private var consumed = 0
    private var lastArrival: UInt64 = 0
    /// When the end arrives, and in which words.
    private var end: (arrival: UInt64, evidence: String)?
    /// The next piece is damaged at a place that this number decides.
    var damage: Int?
    /// So many bytes have been sent.
    private(set) var sentCount = 0
    /// When the simulation looks at this flow next.
    var isLookedAt: UInt64 = .max
    /// What the first bytes were: a recording, for somebody who plays it again.
    private(set) var recording: [UInt8] = []

    var room: Int { Self.window - flyingCount - (arrived.count - consumed) }

    /// Everything that was sent lies in the receiver's kernel.
    var isDelivered: Bool { flyingCount == 0 }

    mutating func send(_ bytes: [UInt8], arrival: UInt64) {
        guard !bytes.isEmpty, end == nil else { return }
        var bytes = bytes
        if let place = damage {
            bytes[place % bytes.count] ^= 1 << UInt8(place / 7 % 8)
            damage = nil
        }
        if recording.count < 300 { recording += bytes.prefix(300 - recording.count) }
        sentCount += bytes.count
        lastArrival = max(lastArrival, arrival)
        flying.append(Piece(arrival: lastArrival, bytes: bytes))
        flyingCount += bytes.count
    }

    /// The sender's side is closed. With `drops` what is under way is lost: a kernel does so when the closing side had
    /// not read everything.
    mutating func close(_ evidence: String, arrival: UInt64, drops: Bool) {
        guard end == nil else { return }
        if drops {
            flying = Line()
            flyingCount = 0
            lastArrival = 0
        }
        lastArrival = max(lastArrival, arrival)
        end = (lastArrival, evidence)
    }

    /// Moves what has arrived by `now` into the receiver's kernel.
    mutating func arrive(by now: UInt64) {
        while let piece = flying.first, piece.arrival <= now {
            if consumed == arrived.count {
                arrived.removeAll(keepingCapacity: true)
                consumed = 0
            }
            arrived += piece.bytes
            flyingCount -= piece.bytes.count
            flying.removeFirst()
        }
    }

    /// A cut link: nothing that is under way arrives before `time`.
    mutating func hold(until time: UInt64) {
        var held = Line<Piece>()
        while var piece = flying.first {
            piece.arrival = max(piece.arrival, time)
            held.append(piece)
            flying.removeFirst()
        }
        flying = held
        lastArrival = max(lastArrival, time)
        if let (arrival, evidence) = end { end = (max(arrival, time), evidence) }
    }

    /// When something arrives next: bytes, or the end.
    var nextArrival: UInt64 { flying.first?.arrival ?? end?.arrival ?? .max }

    var available: Int { arrived.count - consumed }

    mutating func read(_ count: Int) -> [UInt8] {
        let bytes = Array(arrived[consumed..<(consumed + min(count, available))])
        consumed += bytes.count
        return bytes
    }

    /// How the stream ended, once everything before the end has been read.
    func ended(by now: UInt64) -> String? {
        guard let (arrival, evidence) = end, arrival <= now, available == 0, flyingCount == 0 else { return nil }
        return evidence
    }
}

/// A connection between two processes, which are numbers here: 0 is the one that connected.
final class ClusterWire {
    let ends: (Int, Int)
    var flows = (Flow(), Flow())
    var isClosed = (false, false)

    init(from: Int, to: Int) { ends = (from, to) }

    subscript(side: Int) -> Flow {
        _read { if side == 0 { yield flows.0 } else { yield flows.1 } }
        _modify { if side == 0 { yield &flows.0 } else { yield &flows.1 } }
    }

    func process(_ side: Int) -> Int { side == 0 ? ends.0 : ends.1 }
}

/// What a process holds of a connection. Flow `side` is what it writes, the other one what it reads.
struct Socket {
    let wire: ClusterWire
    let side: Int

    var peer: Int { wire.process(1 - side) }
    var available: Int { wire[1 - side].available }
    func read(_ count: Int) -> [UInt8] { wire[1 - side].read(count) }
}
