import Base

// A STEP IS ALL OR NOTHING
// ========================
// When a rank fails, the others go back to the end of a step that every rank has come to, and take the next one again.
// What they need for that they have copied before (`KeptState`): never is the state that a step was changing when the
// fault came taken for anything, since it may be torn.
//
// What is kept. After the update of step n, and before anything of step n + 1, rank r copies *its share* of weights and
// optimizer state into one of two slots, in turn: of a vector that it holds a piece of, that piece; of a vector that
// every rank holds, an even part. Together the ranks' shares are the whole state. What all ranks hold alike and small
// (delayed scales, magnitudes of gradients, how far the run is) each copies whole. Then rank r sends its share to rank
// r + 1, the last one to rank 0, into that one's slot of the same number; what its neighbour holds as well it copies
// from there. It moves under the next forward and backward. With `launch.redundancy` = 0 nothing is copied.
//
// The rule. No rank takes part in the agreement of step n + 1 (the exchange of norms before every update) before its
// copy of step n has arrived: the one that it sends, and the one that it is sent.
//
// The argument. Nobody leaves an agreement before all have entered it. So:
// 1. If any rank has come out of the agreement of step n + 1, then every rank has its share of step n, and a
//    neighbour's copy of it. Slots of step n are not written again before step n + 2.
// 2. If none has, then nobody has begun the update of step n + 1. Then nobody has written a slot of step n + 1, which
//    is where step n - 1 lies; and by 1., for one step less, all shares and copies of step n - 1 are there.
// So at every moment one of the last two ends of a step is whole in the ranks' slots, twice. A rank's death takes one
// slot of its own and one copy of its neighbour's: what it held is at rank r + 1, what it kept for rank r - 1 is there
// itself. A death at whatever message, update, gather or save is therefore covered, and at most one finished step is
// taken again; by stages of ZeRO it differs only what is sent:
//    0     nothing: a neighbour holds all of it, and copies from its own memory
//    1, 2  the moments; the weights lie with the neighbour
//    3     parameters and moments
// Two deaths at once are covered unless they are neighbours. What is lost all the same is read from the latest
// checkpoint, by the processes that are left, and it is said how many steps that costs.
//
// After a recovery the ranks of the new life copy and send the state that they go on from before they forget the slots
// of the old life (`KeptState.generation` tells the two apart); so a death during a recovery finds the old ones.

/// What a rank can bring to a recovery from the slots of one life of the job.
package struct Testimony: Equatable, Sendable {
    /// The life in which the slots were filled.
    package var generation: Int
    /// How many ranks it had, and which of them this process was.
    package var ranks: Int
    package var rank: Int
    /// Steps whose own share, and whose neighbour's, lies whole in a slot. A step is counted by its number, from 1; 0
    /// is the state before the first.
    package var own: [Int]
    package var copies: [Int]

    package init(generation: Int, ranks: Int, rank: Int, own: [Int], copies: [Int]) {
        (self.generation, self.ranks, self.rank, self.own, self.copies) = (generation, ranks, rank, own, copies)
    }
}

/// Where each share of a state is taken from.
package struct Restoration: Equatable, Sendable {
    package struct Source: Equatable, Sendable {
        /// A rank of the life that begins.
        package var rank: Int
        /// It holds the share for its neighbour.
        package var isCopy: Bool

        package init(rank: Int, isCopy: Bool) { (self.rank, self.isCopy) = (rank, isCopy) }
    }

    package var generation: Int
    package var step: Int
    /// Of each share of the life that has ended.
    package var sources: [Source]

    /// The latest step whose shares are all there. `testimonies`: of each rank of the life that begins. Nil: some share
    /// of every step is lost.
    package static func choose(_ testimonies: [[Testimony]]) -> Restoration? {
        let all = testimonies.enumerated().flatMap { rank, own in own.map { (rank: rank, word: $0) } }
        for generation in Set(all.map(\.word.generation)).sorted(by: >) {
            let words = all.filter { $0.word.generation == generation }
            for step in Set(words.flatMap { $0.word.own + $0.word.copies }).sorted(by: >) {
                let ranks = words[0].word.ranks
                func source(_ share: Int) -> Source? {
                    if let own = words.first(where: { $0.word.rank == share && $0.word.own.contains(step) }) {
                        return Source(rank: own.rank, isCopy: false)
                    }
                    return words.first { $0.word.rank == (share + 1) % ranks && $0.word.copies.contains(step) }
                        .map { Source(rank: $0.rank, isCopy: true) }
                }
                let sources = (0..<ranks).compactMap(source)
                if sources.count == ranks {
                    return Restoration(generation: generation, step: step, sources: sources)
                }
            }
        }
        return nil
    }
}

extension Restoration {
    /// So many of the `members` of a life of `ranks` ranks that every rank's share is with one of them: its own, or the
    /// copy that rank r + 1 holds of rank r's. The lowest that will do. Nil: so few cannot hold all of it.
    package static func holders(_ count: Int, among members: [Int], of ranks: Int) -> [Int]? {
        guard let lost = (0..<ranks).first(where: { !members.contains($0) }) else {
            return count == ranks ? members : nil
        }
        var chosen: Set<Int> = []
        // Behind a lost rank somebody must hold its share; from there on, of two neighbours one has to stay.
        for offset in 0..<ranks {
            let share = (lost + offset) % ranks, neighbour = (share + 1) % ranks
            if chosen.contains(share) || chosen.contains(neighbour) { continue }
            guard let holder = [neighbour, share].first(where: members.contains) else { return nil }
            chosen.insert(holder)
        }
        guard chosen.count <= count else { return nil }
        for member in members where chosen.count < count { chosen.insert(member) }
        return chosen.sorted()
    }
}

extension Testimony {
    /// Numbers of 8 bytes: a list after the other.
    package static func encode(_ testimonies: [Testimony]) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(UInt64(testimonies.count))
        for one in testimonies {
            let numbers = [one.generation, one.ranks, one.rank, one.own.count] + one.own + [one.copies.count]
            for number in numbers + one.copies { writer.append(UInt64(number)) }
        }
        return writer.bytes
    }

    package static func decode(_ bytes: [UInt8]) -> [Testimony] {
        var reader = ByteReader(bytes)
        func number() -> Int { reader.read(UInt64.self).map { Int($0) } ?? 0 }
        return (0..<number()).map { _ in
            let (generation, ranks, rank) = (number(), number(), number())
            let own = (0..<number()).map { _ in number() }
            return Testimony(generation: generation, ranks: ranks, rank: rank, own: own,
                             copies: (0..<number()).map { _ in number() })
        }
    }
}
