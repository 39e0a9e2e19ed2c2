/// The backward of `attention` by recomputation: the weights are made again from the scores and logSum.
///
/// With P the weights, and delta_t = dOut_t . out_t for each head (what the softmax's own backward subtracts):
///
///     dV += P^T dOut     dP = dOut V^T     dS = P * (dP - delta)     dQ = dS K / sqrt(d)     dK += dS^T Q / sqrt(d)
///
/// dQKV: [T, C], overwritten, in qkv's layout; the heads of one group add up in dK and dV. The rest as in
/// `attention`; out and logSum are what the forward wrote. One task is one segment and one key head, so that
/// dK and dV are summed by one worker in one order.
public func attentionBackward(_ dQKV_TC: Matrix, dOut dOut_TH: Matrix, out out_TH: Matrix, logSum logSum_HT: Matrix,
                              qkv qkv_TC: Matrix, shape: AttentionShape, segments: Segments,
                              scratch: Matrix, pool: Pool) {
    // The scores' second making is not counted: achieved rates are of what a backward needs.
    pool.run(segments.count * shape.keyHeads, stage: "attention backward",
             flops: 2 * shape.productFlops(segments)) { task, worker in
        let tokens = segments.range(task / shape.keyHeads)
        let keyHead = task % shape.keyHeads
        func part(_ x: Matrix) -> Matrix { x.rows(tokens.lowerBound, tokens.count) }
        var memory = AttentionScratch(scratch.row(worker))
        let head = BackwardHead(shape: shape, keyHead: keyHead, qkv: part(qkv_TC), memory: &memory)
        for query in (keyHead * shape.group)..<((keyHead + 1) * shape.group) {
            let columns = query * shape.headDim
            head.run(isFirst: query == keyHead * shape.group,
                     dQuery: shape.query(part(dQKV_TC), query), dOut: part(dOut_TH).columns(columns, shape.headDim),
                     out: part(out_TH).columns(columns, shape.headDim),
                     logSum: logSum_HT.row(query).slice(tokens.lowerBound, tokens.count),
                     queries: shape.query(part(qkv_TC), query))
        }
        shape.key(part(dQKV_TC), keyHead).copy(head.dKeys)
        shape.value(part(dQKV_TC), keyHead).copy(head.dValues)
    }
}

private struct BackwardHead {
    let shape: AttentionShape
    let keysTransposed: Matrix     // [blocks * headDim, 64]
    let valuesTransposed: Matrix   // [blocks * headDim, 64]
    let keys: Matrix               // [n, headDim]
    let dKeys: Matrix              // [n, headDim]
    let dValues: Matrix            // [n, headDim]
    let query: Matrix              // [64, headDim], scaled
    let dOutBlock: Matrix          // [64, headDim]
    let dQueryBlock: Matrix        // [64, headDim]
    let weight: Matrix             // [64, 64]
    let dScore: Matrix             // [64, 64]
    let delta: Row                 // [64]

    init(shape: AttentionShape, keyHead: Int, qkv: Matrix, memory: inout AttentionScratch) {
        let size = AttentionShape.block
        self.shape = shape
        keysTransposed = packTransposed(shape.key(qkv, keyHead), &memory)
        valuesTransposed = packTransposed(shape.value(qkv, keyHead), &memory)
        keys = memory.matrix(qkv.rows, shape.headDim)
        keys.copy(shape.key(qkv, keyHead))
        dKeys = memory.matrix(qkv.rows, shape.headDim)
        dValues = memory.matrix(qkv.rows, shape.headDim)
        query = memory.matrix(size, shape.headDim)
        dOutBlock = memory.matrix(size, shape.headDim)
        dQueryBlock = memory.matrix(size, shape.headDim)
        weight = memory.matrix(size, size)
        dScore = memory.matrix(size, size)
        delta = memory.row(size)
    }

    /// One query head. The first one of a group begins the sums of dKeys and dValues.
    func run(isFirst: Bool, dQuery: Matrix, dOut: Matrix, out: Matrix, logSum: Row, queries: Matrix) {
        let size = AttentionShape.block
        let scale = 1 / Float(shape.headDim).squareRoot()
        for start in Swift.stride(from: 0, to: queries.rows, by: size) {
            let rows = min(size, queries.rows - start)
            loadScaled(query.rows(0, rows), queries.rows(start, rows))
            dOutBlock.rows(0, rows).copy(dOut.rows(start, rows))
            for row in 0..<rows { delta[row] = dot(dOutBlock.row(row), out.row(start + row)) }
            let logSums = logSum.slice(start, rows)
            for key in 0..<(start / size) { visit(block: key, rows: rows, logSum: logSums) }
            visitOwn(block: start / size, rows: rows, logSum: logSums, isFirst: isFirst)
            for row in 0..<rows {
                let from = dQueryBlock.row(row), to = dQuery.row(start + row)
                for i in laneStarts(shape.headDim) { to[lanes: i] = from[lanes: i] * scale }
            }
        }
    }

    /// All queries of a block meet an earlier, hence full, block of keys.
    private func visit(block: Int, rows: Int, logSum: Row) {
        let size = AttentionShape.block, first = block * size
        makeSlopes(block: block, rows: 0..<rows, keys: size, logSum: logSum, masked: false)
        let p = weight.rows(0, rows), dS = dScore.rows(0, rows)
        tileGemm(dValues.rows(first, size), p, transposed: true, dOutBlock.rows(0, rows), accumulate: true)
        tileGemm(dKeys.rows(first, size), dS, transposed: true, query.rows(0, rows), accumulate: true)
        tileGemm(dQueryBlock.rows(0, rows), dS, keys.rows(first, size), accumulate: block > 0)
    }

    /// A block of queries meets the keys of the same tokens: band by band, past the corner that lies in the future.
    /// Band j of the keys is seen by the queries from its own first on. These keys have met no query before.
    private func visitOwn(block: Int, rows: Int, logSum: Row, isFirst: Bool) {
        let first = block * AttentionShape.block
        for band in AttentionShape.bands(rows) {
            let count = band.rows.count
            makeSlopes(block: block, rows: band.rows, keys: band.keys, logSum: logSum, masked: true)
            let dS = dScore.rows(band.rows.lowerBound, count).columns(0, band.rows.upperBound)
            tileGemm(dQueryBlock.rows(band.rows.lowerBound, count), dS, keys.rows(first, band.rows.upperBound),
                     accumulate: block > 0)
        }
        for band in AttentionShape.bands(rows) {
            let from = band.rows.lowerBound, count = band.rows.count
            func seen(_ x: Matrix) -> Matrix { x.rows(from, rows - from).columns(from, count) }
            tileGemm(dValues.rows(first + from, count), seen(weight), transposed: true,
                     dOutBlock.rows(from, rows - from), accumulate: !isFirst)
            tileGemm(dKeys.rows(first + from, count), seen(dScore), transposed: true,
                     query.rows(from, rows - from), accumulate: !isFirst)
        }
    }

    /// weight = P and dScore = dS for `rows` of the block's queries and its first `width` keys.
    private func makeSlopes(block: Int, rows: Range<Int>, keys width: Int, logSum: Row, masked: Bool) {
        let head = shape.headDim
        func part(_ x: Matrix) -> Matrix { x.rows(rows.lowerBound, rows.count) }
        func packed(_ x: Matrix) -> Matrix { x.rows(block * head, head).columns(0, width) }
        tileGemm(part(weight).columns(0, width), part(query), packed(keysTransposed), accumulate: false)
        tileGemm(part(dScore).columns(0, width), part(dOutBlock), packed(valuesTransposed), accumulate: false)
        for row in rows {
            let weights = weight.row(row).slice(0, width), dScores = dScore.row(row).slice(0, width)
            if masked { maskFuture(weights, after: row) }
            let shift = logSum[row], pull = delta[row]
            for i in laneStarts(width) {
                let p = (weights[lanes: i] - shift).exponential
                weights[lanes: i] = p
                dScores[lanes: i] = p * (dScores[lanes: i] - pull)
            }
        }
    }
}
