import Wire

/// Who really holds things up? When one rank does not take part, its neighbour waits for it, the next rank
/// waits for the neighbour, and so on; blaming whoever is awaited would name an innocent. So a rank whose
/// patience has ended first asks all others what they are doing, and follows the answers to a rank that waits
/// for nobody, or gives none. Questions and answers do not travel with the data, which may be what is held up.
package final class StallInquiry {
    /// When the last question was asked.
    package private(set) var askedAt: UInt64?
    private var answers: [Int: LinkAnswer] = [:]

    package init() {}

    /// Everyone has been asked.
    package func begin(at now: UInt64) {
        askedAt = now
        answers.removeAll(keepingCapacity: true)
    }

    /// Something moved after all.
    package func withdraw() { askedAt = nil }

    package func answered(by peer: Int, _ answer: LinkAnswer) { answers[peer] = answer }

    /// For how many nanoseconds `peer` says that it has computed.
    package func computing(_ peer: Int) -> UInt64? {
        if case .computes(let nanoseconds) = answers[peer] { return nanoseconds }
        return nil
    }

    /// `rank`, whom it waits for, whom that one waits for, and so on: up to a rank that waits for nobody, or that is
    /// in the chain already.
    package func chain(from rank: Int, awaited: Int) -> [Int] {
        var chain = [rank, awaited]
        while case .waits(let next)? = answers[chain[chain.count - 1]] {
            let isCircle = chain.contains(next)
            chain.append(next)
            if isCircle { break }
        }
        return chain
    }
}
