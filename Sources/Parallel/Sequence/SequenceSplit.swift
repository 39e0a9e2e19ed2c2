import Tensor

/// Which tokens of a task each rank of a group holds, document by document: every token is one rank's.
public struct SequenceSplit: Sendable, Equatable {
    /// Tokens side by side of one document.
    public struct Piece: Sendable, Equatable {
        /// Of the task.
        public let tokens: Range<Int>
        public let segment: Int
        /// Where they are among their rank's tokens.
        public let firstRow: Int

        public var rows: Range<Int> { firstRow..<(firstRow + tokens.count) }
    }

    /// Of each rank of the group, in ascending order of tokens; so a rank's tokens of a document are side by side.
    public let pieces: [[Piece]]
    /// Where documents begin in the task, and its end.
    public let starts: [Int32]

    public var degree: Int { pieces.count }
    public var tokens: Int { Int(starts[starts.count - 1]) }

    public func count(of rank: Int) -> Int { pieces[rank].last?.rows.upperBound ?? 0 }

    /// The task's tokens side by side, as many for each rank: for attention by heads, which sees all tokens.
    public static func contiguous(starts: [Int32], degree: Int) -> SequenceSplit {
        let total = Int(starts[starts.count - 1])
        let bounds = (0...degree).map { total * $0 / degree }
        var cut = Cut(degree, documents: starts.count - 1)
        for segment in 0..<(starts.count - 1) {
            let document = Int(starts[segment])..<Int(starts[segment + 1])
            for rank in 0..<degree { cut.add(document.clamped(to: bounds[rank]..<bounds[rank + 1]), segment, rank) }
        }
        return SequenceSplit(pieces: cut.pieces, starts: starts)
    }

    /// Each document in twice as many chunks as there are ranks, of which rank r takes the r-th from the front and the
    /// r-th from the back: under a causal mask the ranks have as much to do (zigzag). Where a document's length does
    /// not divide, the longer chunks begin where those of the document before have ended, so that over all documents
    /// ranks differ by two tokens at most, whatever the lengths.
    public static func zigzag(starts: [Int32], degree: Int) -> SequenceSplit {
        let chunks = 2 * degree
        var cut = Cut(degree, documents: starts.count - 1), offset = 0
        for segment in 0..<(starts.count - 1) {
            var first = Int(starts[segment])
            let (share, rest) = (Int(starts[segment + 1]) - first).quotientAndRemainder(dividingBy: chunks)
            for chunk in 0..<chunks {
                let isLonger = (chunk - offset + chunks) % chunks < rest
                let next = first + share + (isLonger ? 1 : 0)
                cut.add(first..<next, segment, min(chunk, chunks - 1 - chunk))
                first = next
            }
            offset = (offset + rest) % chunks
        }
        return SequenceSplit(pieces: cut.pieces, starts: starts)
    }

    private struct Cut {
        var pieces: [[Piece]]

        /// A rank has two pieces of a document at most.
        init(_ degree: Int, documents: Int) {
            pieces = Array(repeating: [], count: degree)
            for rank in 0..<degree { pieces[rank].reserveCapacity(2 * documents) }
        }

        /// Pieces that meet become one.
        mutating func add(_ tokens: Range<Int>, _ segment: Int, _ rank: Int) {
            guard !tokens.isEmpty else { return }
            if let last = pieces[rank].last, last.segment == segment, last.tokens.upperBound == tokens.lowerBound {
                pieces[rank][pieces[rank].count - 1] = Piece(tokens: last.tokens.lowerBound..<tokens.upperBound,
                                                             segment: segment, firstRow: last.firstRow)
            } else {
                pieces[rank].append(Piece(tokens: tokens, segment: segment,
                                          firstRow: pieces[rank].last?.rows.upperBound ?? 0))
            }
        }
    }

    /// Where the documents begin among a rank's tokens, and their end: within a document its tokens are in order, so
    /// the causal mask is one of rows.
    public func localStarts(of rank: Int) -> [Int32] {
        var starts: [Int32] = [], segment = -1
        starts.reserveCapacity(pieces[rank].count + 1)
        for piece in pieces[rank] where piece.segment != segment {
            starts.append(Int32(piece.firstRow))
            segment = piece.segment
        }
        starts.append(Int32(count(of: rank)))
        return starts
    }

    /// Which rows of `source` the rows of `reader` see, document by document. Of two ranks' pieces of a document one
    /// lies before the other, so a query sees whole pieces: those before its own, which are the first ones. In both
    /// splits there is one pair a document at most.
    public func visible(of source: Int, to reader: Int) -> [AttentionPair] {
        let keys = pieces[source]
        var pairs: [AttentionPair] = [], first = 0
        for query in pieces[reader] {
            while first < keys.count, keys[first].segment < query.segment { first += 1 }
            var end = first
            while end < keys.count, keys[end].segment == query.segment,
                  keys[end].tokens.upperBound <= query.tokens.lowerBound { end += 1 }
            guard end > first else { continue }
            let seen = keys[first].firstRow..<keys[end - 1].rows.upperBound
            if let last = pairs.last, last.keys == seen {
                pairs[pairs.count - 1] = AttentionPair(queries: last.queries.lowerBound..<query.rows.upperBound,
                                                       keys: seen)
            } else {
                pairs.append(AttentionPair(queries: query.rows, keys: seen))
            }
        }
        return pairs
    }
}
