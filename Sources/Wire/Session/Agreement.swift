import Base

/// Where the survivors of a fault go on: what they have agreed on.
public struct Succession: Sendable, Equatable {
    /// Of the life that begins.
    public let epoch: UInt32
    /// Ranks of the life that has ended, in ascending order. The first of them leads: the others meet at its port.
    public let members: [Int]
    public let host: String
    public let port: Int
}

/// Why a rank has no part in what comes after a fault.
public enum Retirement: Sendable, Equatable {
    /// The others hold this rank for the one that failed, or cannot hear it, and go on without it.
    case expelled(LinkFault)
    /// Half of the ranks or fewer are left on this side; the others may be going on.
    case minority(present: [Int], of: Int, LinkFault)
    /// The lowest of those that agreed has gone before it said where to meet.
    case leaderless(Int, LinkFault)

    public var text: String {
        switch self {
        case .expelled(let fault):
            return "the others go on without this rank, which they hold for lost (\(fault)); it leaves"
        case .minority(let present, let size, let fault):
            let whom = present.count == 1 ? "this rank alone is" : "ranks \(list(present)) are"
            return "\(whom) left on this side, of \(size): no majority, so it stops (\(fault)); go on from the latest "
                + "checkpoint by --checkpoint.load latest"
        case .leaderless(let leader, let fault):
            return "rank \(leader), which led after a fault (\(fault)), has gone as well before it said where to meet; "
                + "go on from the latest checkpoint by --checkpoint.load latest"
        }
    }

    private func list(_ ranks: [Int]) -> String { ranks.map(String.init).joined(separator: ", ") }
}

/// How a life of a job goes on after a fault.
public enum Sequel: Sendable, Equatable {
    case goesOn(Succession)
    case ends(Retirement)
}

/// How the survivors of a fault find out who they are: one rank's part, as a step function over what the control
/// streams of the life that has ended still say, and over time. It knows no socket; `Session` does what it returns.
///
/// Rules.
/// 1. It begins once a fault is reported. Its culprit is lost, and so is whoever has gone. Every rank says to every
///    other which ranks it holds for lost. Whoever hears of more holds those for lost, too, and says so again; what is
///    lost stays lost.
/// 2. A stream that ends, or a rank that has not said the same within the heartbeat's deadline since the last change,
///    makes one more that is lost.
/// 3. A rank has settled when all that are not lost have said the very same as itself. These are the members. Every
///    member has then said so to every other, and takes nothing back: its word stands before its stream's end.
/// 4. Half of the ranks or fewer are no members of anything: they stop. A life begins when all of its members have met,
///    and each of them goes to one meeting; two majorities share a rank. So one side at most goes on.
/// 5. The lowest member leads, whichever it is: it says where to meet, and in which epoch. Nobody else does, so there
///    is one such word. Whoever has settled no longer minds that another member leaves, for it may have heard that word
///    already; without the leader, though, it waits in vain, and ends.
/// 6. A rank that hears itself among the lost is told by that, and leaves: it was stopped, or cut off, and has come
///    back.
///
/// A death between the leader's word and the next life's start is not covered here: then the ranks that meet miss one
/// of them, and end with its name.
package struct Agreement {
    package enum Action: Equatable {
        /// To every peer whose stream stands, lost ones included.
        case say(lost: [Int])
        /// This rank leads these members, and is to say where.
        case lead([Int])
        case end(Retirement)
    }

    private let rank: Int
    private let worldSize: Int
    /// How long ranks are waited for, in nanoseconds.
    private let deadline: UInt64
    private var fault: LinkFault?
    private var lost: Set<Int> = []
    /// What each peer has said last; kept from before this rank itself knew of the fault.
    private var words: [Set<Int>?]
    private var changedAt: UInt64 = 0
    package private(set) var hasSettled = false
    /// Nothing changes any more.
    package private(set) var isOver = false

    package init(rank: Int, worldSize: Int, heartbeatSeconds: Double) {
        self.rank = rank
        self.worldSize = worldSize
        deadline = UInt64(heartbeatSeconds * 1e9)
        words = Array(repeating: nil, count: worldSize)
    }

    package var isUnderWay: Bool { fault != nil && !isOver }
    package var members: [Int] { (0..<worldSize).filter { !lost.contains($0) } }

    /// The fault is reported; `absent` have left, or their streams have ended.
    package mutating func begin(_ fault: LinkFault, absent: [Int], at now: UInt64) -> [Action] {
        guard self.fault == nil else { return [] }
        self.fault = fault
        guard fault.culprit != rank else { return end(.expelled(fault)) }
        lost = Set(absent + [fault.culprit])
        for peer in members { lost.formUnion(words[peer] ?? []) }
        return announce(at: now)
    }

    /// `peer` holds these ranks for lost.
    package mutating func heard(_ theirs: [Int], from peer: Int, at now: UInt64) -> [Action] {
        words[peer] = Set(theirs)
        guard isUnderWay, !lost.contains(peer) else { return [] }
        guard !Set(theirs).isSubset(of: lost) else { return settle() }
        lost.formUnion(theirs)
        hasSettled = false
        return announce(at: now)
    }

    /// The stream of `peer` has ended.
    package mutating func gone(_ peer: Int, at now: UInt64) -> [Action] {
        guard isUnderWay, !lost.contains(peer) else { return [] }
        if hasSettled { return peer == members[0] ? endWithoutLeader() : [] }
        lost.insert(peer)
        return announce(at: now)
    }

    package mutating func tick(_ now: UInt64) -> [Action] {
        guard isUnderWay, now - min(changedAt, now) >= deadline else { return [] }
        if hasSettled { return members[0] == rank ? [] : endWithoutLeader() }
        lost.formUnion(members.filter { $0 != rank && words[$0] != lost })
        return announce(at: now)
    }

    /// This rank did not run for a while: nobody was silent because of that.
    package mutating func forgive(_ nanoseconds: UInt64) { changedAt += nanoseconds }

    /// A leader's word. False where it is not about the members that this rank knows of: then it has heard of one more
    /// that is lost since it spoke to that leader, and so will the others.
    package mutating func led(_ members: [Int], by peer: Int) -> Bool {
        guard isUnderWay, members == self.members, members.first == peer, members.count * 2 > worldSize else {
            return false
        }
        isOver = true
        return true
    }

    /// This rank has said where to meet.
    package mutating func hasLed() { isOver = true }

    private mutating func announce(at now: UInt64) -> [Action] {
        changedAt = now
        return [.say(lost: lost.sorted())] + settle()
    }

    private mutating func settle() -> [Action] {
        guard let fault, !hasSettled else { return [] }
        if lost.contains(rank) { return end(.expelled(fault)) }
        let members = members
        guard members.count * 2 > worldSize else { return end(.minority(present: members, of: worldSize, fault)) }
        guard members.allSatisfy({ $0 == rank || words[$0] == lost }) else { return [] }
        hasSettled = true
        return members[0] == rank ? [.lead(members)] : []
    }

    private mutating func endWithoutLeader() -> [Action] {
        fault.map { end(.leaderless(members[0], $0)) } ?? []
    }

    private mutating func end(_ retirement: Retirement) -> [Action] {
        isOver = true
        return [.end(retirement)]
    }
}
