/// Which heads each rank of a group computes when tokens are exchanged for heads (DeepSpeed-Ulysses, 2309.14509).
///
/// Where key/value heads divide by ranks and chunks, chunk c is the c-th part of all heads, of which each rank has as
/// many: so one part can be made, exchanged and multiplied while another is worked on (`isAligned`).
///
/// Else query heads are dealt out in order, as evenly as can be. A rank also gets the key/value heads that its queries
/// read, so that one of these may go to several ranks: each sees the whole of it, and what they find for its gradient
/// adds up.
public struct HeadShares: Sendable, Equatable {
    /// Query heads side by side, as many of them for each of some key heads side by side.
    public struct Run: Sendable, Equatable {
        public let queries: Range<Int>
        public let keys: Range<Int>

        /// Heads of its columns: queries, keys, values.
        public var columns: Int { queries.count + 2 * keys.count }

        /// Cut between two key/value heads, if it has two.
        var halves: [Run] {
            guard keys.count > 1 else { return [self] }
            let middle = keys.count / 2, each = queries.count / keys.count
            let key = keys.lowerBound + middle, query = queries.lowerBound + middle * each
            return [Run(queries: queries.lowerBound..<query, keys: keys.lowerBound..<key),
                    Run(queries: query..<queries.upperBound, keys: key..<keys.upperBound)]
        }
    }

    /// Of each rank, in ascending order; none for a rank that gets no head.
    public let runs: [[Run]]

    /// The same heads of each rank in the order in which they are exchanged and computed: those of one chunk go while
    /// another's are worked on. All ranks have as many chunks, two where some rank has two key/value heads; heads that
    /// share one stay together.
    public let chunks: [[[Run]]]

    /// Whether chunk c of all ranks together is the c-th of as many equal parts of all heads.
    public let isAligned: Bool

    public init(heads: Int, keyHeads: Int, degree: Int) {
        precondition(heads % keyHeads == 0 && degree > 0, "key heads divide heads")
        let group = heads / keyHeads
        if let count = Self.alignedChunks(keyHeads: keyHeads, degree: degree) {
            let each = keyHeads / (degree * count)
            let dealt = (0..<degree).map { rank in
                (0..<count).map { chunk in
                    let first = (chunk * degree + rank) * each
                    return [Run(queries: (first * group)..<((first + each) * group), keys: first..<(first + each))]
                }
            }
            (isAligned, chunks, runs) = (true, dealt, dealt.map { $0.flatMap { $0 } })
            return
        }
        isAligned = false
        runs = (0..<degree).map { rank in
            var runs: [Run] = []
            var next = heads * rank / degree
            let end = heads * (rank + 1) / degree
            while next < end {
                let key = next / group, last = min(end, (key + 1) * group)
                if let before = runs.last, before.queries.count == before.keys.count * (last - next) {
                    runs[runs.count - 1] = Run(queries: before.queries.lowerBound..<last,
                                               keys: before.keys.lowerBound..<(key + 1))
                } else {
                    runs.append(Run(queries: next..<last, keys: key..<(key + 1)))
                }
                next = last
            }
            return runs
        }
        let pieces = runs.map { $0.flatMap(\.halves) }
        let count = pieces.contains { $0.count > 1 } ? 2 : 1
        chunks = pieces.map { pieces in
            (0..<count).map { Array(pieces[(pieces.count * $0 / count)..<(pieces.count * ($0 + 1) / count)]) }
        }
    }

    /// Into how many equal parts of all heads a rank's are cut, few since messages get small; nil: they cannot be.
    private static func alignedChunks(keyHeads: Int, degree: Int) -> Int? {
        guard degree > 1 else { return nil }
        return [2, 3].first { keyHeads % (degree * $0) == 0 }
    }

    public var chunkCount: Int { chunks.first?.count ?? 1 }

    public var degree: Int { runs.count }

    /// Query heads of a rank.
    public func queries(of rank: Int) -> Int { runs[rank].reduce(0) { $0 + $1.queries.count } }
    /// Heads that a rank is sent, queries, keys and values together.
    public func columns(of rank: Int) -> Int { runs[rank].reduce(0) { $0 + $1.columns } }

    /// The same of one of its chunks.
    public func queries(of rank: Int, chunk: Int) -> Int { chunks[rank][chunk].reduce(0) { $0 + $1.queries.count } }
    public func columns(of rank: Int, chunk: Int) -> Int { chunks[rank][chunk].reduce(0) { $0 + $1.columns } }

    /// Heads that all ranks are sent.
    public var allColumns: Int { runs.indices.reduce(0) { $0 + columns(of: $1) } }
}
