#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Queries, as rows of one rank, that see all of some keys, as rows of a block that another rank has sent. Between the
/// parts of a document that two ranks hold there is nothing else: one lies before the other.
public struct AttentionPair: Sendable, Equatable {
    public let queries: Range<Int>
    public let keys: Range<Int>

    public init(queries: Range<Int>, keys: Range<Int>) { (self.queries, self.keys) = (queries, keys) }
}

/// Attention of queries to keys that they all see, merged with what they have seen before: the softmax over both is a
/// mean of the two, weighted by their denominators. With l and m the two logarithms of denominators
///
///     out += sigmoid(m - l) (new - out)          l = log(e^l + e^m)
///
/// in a form in which no exponential can overflow. No query may be in two pairs.
///
/// out: [T, H * headDim] and logSum: [H, T], to base 2, as `attention` left them; both are overwritten. qkv: [T, C], of
/// which the queries are read. keyValues: [n, 2 K headDim], key heads, then value heads. scratch: [workers,
/// scratchFloats] for the largest range of keys.
public func attentionMerge(_ out_TH: Matrix, logSum logSum_HT: Matrix, qkv qkv_TC: Matrix, keyValues: Matrix,
                           pairs: [AttentionPair], shape: AttentionShape, scratch: Matrix, pool: Pool) {
    let chunks = pairs.reduce(0) { $0 + ($1.queries.count + attentionChunk - 1) / attentionChunk }
    pool.run(chunks * shape.keyHeads, stage: "attention", flops: shape.productFlops(pairs)) { task, worker in
        let (pair, queries) = find(chunk: task / shape.keyHeads, of: pairs)
        let keyHead = task % shape.keyHeads
        var memory = AttentionScratch(scratch.row(worker))
        let block = keyValues.rows(pair.keys.lowerBound, pair.keys.count)
        let head = ForwardHead(shape: shape, keys: shape.sentKey(block, keyHead),
                               values: shape.sentValue(block, keyHead), memory: &memory)
        for query in (keyHead * shape.group)..<((keyHead + 1) * shape.group) {
            let out = out_TH.rows(queries.lowerBound, queries.count).columns(query * shape.headDim, shape.headDim)
            head.merge(into: out, logSum: logSum_HT.row(query).slice(queries.lowerBound, queries.count),
                       queries: shape.query(qkv_TC.rows(queries.lowerBound, queries.count), query))
        }
    }
}

/// The backward of `attentionMerge`, as `attentionBackward` is that of `attention`: out, logSum and dOut are those of
/// all keys together.
///
/// dQKV: [T, C], whose queries' columns receive what these pairs add to them. dKeyValues: [n, 2 K headDim], of which
/// the pairs' keys are overwritten with what these queries add to them: for whoever sent them. Neither a query nor a
/// key may be in two pairs.
public func attentionMergeBackward(_ dQKV_TC: Matrix, dKeyValues: Matrix, dOut dOut_TH: Matrix, out out_TH: Matrix,
                                   logSum logSum_HT: Matrix, qkv qkv_TC: Matrix, keyValues: Matrix,
                                   pairs: [AttentionPair], shape: AttentionShape, scratch: Matrix, pool: Pool) {
    pool.run(pairs.count * shape.keyHeads, stage: "attention backward",
             flops: 2 * shape.productFlops(pairs)) { task, worker in
        let pair = pairs[task / shape.keyHeads], keyHead = task % shape.keyHeads
        func part(_ x: Matrix) -> Matrix { x.rows(pair.queries.lowerBound, pair.queries.count) }
        var memory = AttentionScratch(scratch.row(worker))
        let block = keyValues.rows(pair.keys.lowerBound, pair.keys.count)
        let head = BackwardHead(shape: shape, keys: shape.sentKey(block, keyHead),
                                values: shape.sentValue(block, keyHead), memory: &memory)
        for query in (keyHead * shape.group)..<((keyHead + 1) * shape.group) {
            let columns = query * shape.headDim
            head.runAll(isFirst: query == keyHead * shape.group, dQuery: shape.query(part(dQKV_TC), query),
                        dOut: part(dOut_TH).columns(columns, shape.headDim),
                        out: part(out_TH).columns(columns, shape.headDim),
                        logSum: logSum_HT.row(query).slice(pair.queries.lowerBound, pair.queries.count),
                        queries: shape.query(part(qkv_TC), query))
        }
        let slopes = dKeyValues.rows(pair.keys.lowerBound, pair.keys.count)
        scaleRows(shape.sentKey(slopes, keyHead), head.dKeys, by: Float(AttentionShape.ln2))
        scaleRows(shape.sentValue(slopes, keyHead), head.dValues, by: 1)
    }
}

/// The pair of chunk `number`, and the chunk's queries. There are few pairs.
private func find(chunk number: Int, of pairs: [AttentionPair]) -> (AttentionPair, Range<Int>) {
    var rest = number
    for pair in pairs {
        let chunks = (pair.queries.count + attentionChunk - 1) / attentionChunk
        if rest < chunks {
            let first = pair.queries.lowerBound + rest * attentionChunk
            return (pair, first..<min(pair.queries.upperBound, first + attentionChunk))
        }
        rest -= chunks
    }
    preconditionFailure("chunk outside the pairs")
}

extension AttentionShape {
    /// A head of keys, or of values, that were sent: [n, 2 K headDim].
    func sentKey(_ keyValues: Matrix, _ head: Int) -> Matrix { keyValues.columns(head * headDim, headDim) }
    func sentValue(_ keyValues: Matrix, _ head: Int) -> Matrix {
        keyValues.columns((keyHeads + head) * headDim, headDim)
    }

    /// Operations of two products over the pairs, as for segments.
    func productFlops(_ pairs: [AttentionPair]) -> Int {
        pairs.reduce(0) { $0 + 4 * $1.queries.count * $1.keys.count * heads * headDim }
    }
}

extension ForwardHead {
    /// Queries that see every key. out: [n, headDim] and logSum: [n] are merged with.
    func merge(into out: Matrix, logSum: Row, queries: Matrix) {
        let size = AttentionShape.queryBlock, block = AttentionShape.block
        let (whole, rest) = keyCount.quotientAndRemainder(dividingBy: block)
        for start in Swift.stride(from: 0, to: queries.rows, by: size) {
            let rows = min(size, queries.rows - start)
            scaleRows(query.rows(0, rows), queries.rows(start, rows), by: shape.binaryTemperature)
            tiles?.pack(queries: query.rows(0, rows))
            for key in 0..<whole { visit(block: key, rows: 0..<rows) }
            if rest > 0 { visitRest(block: whole, rows: rows, keys: rest) }
            for row in 0..<rows { merge(row, into: out.row(start + row), logSum: logSum, at: start + row) }
        }
    }

    /// The last block of keys, which is not full: in whole lanes, the missing ones masked.
    private func visitRest(block: Int, rows: Int, keys: Int) {
        let width = (keys + 15) / 16 * 16
        makeScores(block: block, rows: 0..<rows, keys: width)
        for row in 0..<rows {
            let scores = score.row(row).slice(0, width)
            maskFuture(scores, after: keys - 1)
            absorb(row, scores, first: block == 0)
        }
        addValues(block: block, rows: 0..<rows, keys: keys)
    }

    private func merge(_ row: Int, into out: Row, logSum: Row, at place: Int) {
        let total = denominator.row(row)[lanes: 0].total
        let before = Double(logSum[place]), new = Double(peak[row]) + log2(Double(total))
        let share = Float(1 / (1 + exp2(before - new))), factor = 1 / total
        let from = sum.row(row)
        for i in laneStarts(shape.headDim) {
            let old = out[lanes: i]
            out[lanes: i] = old.fma(from[lanes: i] * factor - old, share)
        }
        logSum[place] = Float(max(before, new) + log2(1 + exp2(-abs(before - new))))
    }
}

extension BackwardHead {
    /// One query head whose queries see every key. The first one of a group begins the sums of dKeys and dValues;
    /// dQuery is added to.
    func runAll(isFirst: Bool, dQuery: Matrix, dOut: Matrix, out: Matrix, logSum: Row, queries: Matrix) {
        let size = AttentionShape.queryBlock, width = AttentionShape.block
        for start in Swift.stride(from: 0, to: queries.rows, by: size) {
            let rows = min(size, queries.rows - start), isBegun = !isFirst || start > 0
            scaleRows(query.rows(0, rows), queries.rows(start, rows), by: shape.binaryTemperature)
            copyWithDots(dOutBlock.rows(0, rows), delta.slice(0, rows), dOut.rows(start, rows), out.rows(start, rows))
            packQueries(rows)
            let logSums = logSum.slice(start, rows)
            for seen in AttentionShape.Parts(of: keyCount, by: width) {
                makeSlopes(block: seen.lowerBound / width, rows: 0..<rows, keys: seen.count, logSum: logSums)
                addToKeys(seen.lowerBound, columns: 0..<seen.count, rows: 0..<rows, accumulate: isBegun)
                addToQueries(0..<rows, block: seen.lowerBound / width, keys: seen.count)
            }
            for row in 0..<rows { addScaled(dQuery.row(start + row), dQueryBlock.row(row), shape.temperature) }
        }
    }
}
