import Base

/// Several sources with weights. Each has its rows in every bucket, and its own order and epochs of them; a bucket's
/// rows, numbered over the whole run, are shared out among the sources (`SourceShares`).
///
/// **Shares.** A source with weight w gives w of all tokens. It gives them from each bucket in proportion to what it
/// has there, so its buckets come to their ends together. Bucket b so gets the share B = sum of w f of all tokens,
/// where f is the share of a source's tokens that it has in b, and of the bucket's rows a source gets w f / B. The
/// curriculum sees buckets of as many rows as B is of all tokens.
///
/// **Changes.** Where a phase of weights begins, each bucket's count of rows is noted, and the sources' counts so far.
/// From there on rows are shared out by the new weights, and each source goes on where it was. All of it follows from
/// the seed, the weights, the curriculum and the tokens of a step, so a position needs no more than without weights.
package struct Mixture {
    package let weights: SourceWeights
    /// `tables[source][bucket]`.
    private let tables: [[RowTable]]
    /// `shares[phase][bucket]`; nil where no source with a weight has rows.
    private let shares: [[SourceShares?]]
    /// Rows of each bucket, as the curriculum sees them, in each phase.
    private let counts: [[Int]]
    /// Where the known phases begin: `starts[phase][bucket]` rows were taken, `cursors[phase][bucket][source]` of them
    /// from each source.
    private var starts: [[Int]]
    private var cursors: [[[Int]]]

    /// Throws `BadInput` for a source with a weight and no rows; `sources` are their names.
    package init(_ tables: [[RowTable]], _ weights: SourceWeights, sources: [String]) throws(BadInput) {
        self.tables = tables
        self.weights = weights
        let buckets = tables[0].indices
        var shares: [[SourceShares?]] = [], counts: [[Int]] = []
        let inputs = tables.map { $0.map { $0.count * $0.sequence } }, sums = inputs.map { $0.reduce(0, +) }
        for phase in weights.phases {
            for source in tables.indices where phase.weights[source] > 0 && sums[source] == 0 {
                throw BadInput("data.weights: \(sources[source]) has a weight but no documents to train on; "
                    + "set it to 0")
            }
            let all = tables.indices.filter { phase.weights[$0] > 0 }.reduce(0) { $0 + sums[$1] }
            // w f, for each bucket and source.
            let parts = buckets.map { bucket in
                tables.indices.map { source in
                    phase.weights[source] * Double(inputs[source][bucket]) / Double(max(sums[source], 1))
                }
            }
            shares.append(parts.map { $0.contains { $0 > 0 } ? SourceShares($0) : nil })
            counts.append(buckets.map { bucket in
                let rows = parts[bucket].reduce(0, +) * Double(all) / Double(tables[0][bucket].sequence)
                return rows > 0 ? max(1, Int(rows.rounded())) : 0
            })
        }
        self.shares = shares
        self.counts = counts
        starts = [buckets.map { _ in 0 }]
        cursors = [buckets.map { _ in tables.map { _ in 0 } }]
    }

    private var bucketCount: Int { tables[0].count }

    /// The next step's rows, with the position moved behind them.
    package mutating func next(_ position: inout DataPosition, tokens: Int, _ curriculum: Curriculum) -> StepRows {
        let phase = weights.phase(at: Int(position.step))
        if phase >= starts.count { findStarts(upTo: phase, position, tokens, curriculum) }
        return step(&position, phase, tokens, curriculum)
    }

    private func step(_ position: inout DataPosition, _ phase: Int, _ tokens: Int,
                      _ curriculum: Curriculum) -> StepRows {
        let counts = counts[phase], starts = starts[phase], tables = tables[0]
        return position.next(bucketCount, tokens: tokens, curriculum, count: { counts[$0] },
                             sequence: { tables[$0].sequence }, before: { starts[$0] })
    }

    /// Notes where phases begin that the run has reached. A position that has just come there says so itself;
    /// otherwise the steps before are gone through again, from the last begin that is known.
    private mutating func findStarts(upTo phase: Int, _ position: DataPosition, _ tokens: Int,
                                     _ curriculum: Curriculum) {
        while starts.count <= phase {
            let known = starts.count - 1, end = UInt64(weights.phases[known + 1].step)
            var replay = position
            if position.step != end {
                replay = DataPosition(fingerprint: position.fingerprint, seed: position.seed)
                replay.step = UInt64(weights.phases[known].step)
                for bucket in 0..<bucketCount { replay.rows[bucket] = UInt32(starts[known][bucket]) }
                while replay.step < end { _ = step(&replay, known, tokens, curriculum) }
            }
            var rows: [Int] = [], counts: [[Int]] = []
            for bucket in 0..<bucketCount {
                rows.append(Int(replay.rows[bucket]))
                let taken = rows[bucket] - starts[known][bucket]
                let given = shares[known][bucket]?.counts(taken, of: tables.count)
                counts.append(tables.indices.map { cursors[known][bucket][$0] + (given?[$0] ?? 0) })
            }
            starts.append(rows)
            cursors.append(counts)
        }
    }

    /// The source of row `number` of `bucket`, and which of its rows there it is, counted since the run began. For
    /// rows that `next` has given out.
    package func place(_ number: Int, bucket: Int) -> (source: Int, row: Int) {
        var phase = starts.count - 1
        while starts[phase][bucket] > number { phase -= 1 }
        // A phase that took no row of this bucket begins where the next one does, and the later one has the row.
        guard let shares = shares[phase][bucket] else { preconditionFailure("a row of an empty bucket") }
        let (source, row) = shares.place(of: number - starts[phase][bucket])
        return (source, cursors[phase][bucket][source] + row)
    }
}
