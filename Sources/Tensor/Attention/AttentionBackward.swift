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
        let own = part(qkv_TC)
        let head = BackwardHead(shape: shape, keys: shape.key(own, keyHead), values: shape.value(own, keyHead),
                                memory: &memory)
        for query in (keyHead * shape.group)..<((keyHead + 1) * shape.group) {
            let columns = query * shape.headDim
            head.run(isFirst: query == keyHead * shape.group,
                     dQuery: shape.query(part(dQKV_TC), query), dOut: part(dOut_TH).columns(columns, shape.headDim),
                     out: part(out_TH).columns(columns, shape.headDim),
                     logSum: logSum_HT.row(query).slice(tokens.lowerBound, tokens.count),
                     queries: shape.query(own, query))
        }
        // dKeys were summed over queries that were scaled by 1 / ln 2 too much.
        scaleRows(shape.key(part(dQKV_TC), keyHead), head.dKeys, by: Float(AttentionShape.ln2))
        scaleRows(shape.value(part(dQKV_TC), keyHead), head.dValues, by: 1)
    }
}

struct BackwardHead {
    let shape: AttentionShape
    let keysTransposed: Matrix     // [blocks * headDim, 64]
    let valuesTransposed: Matrix   // [blocks * headDim, 64]
    let keys: Matrix               // [n, headDim]
    let dKeys: Matrix              // [n, headDim]
    let dValues: Matrix            // [n, headDim]
    let query: Matrix              // [128, headDim], scaled to score in units of ln 2
    let dOutBlock: Matrix          // [128, headDim]
    let dQueryBlock: Matrix        // [128, headDim]
    let weight: Matrix             // [128, 64]
    let dScore: Matrix             // [128, 64]
    let delta: Row                 // [128]

    /// keys, values: [n, headDim], columns of wider rows.
    init(shape: AttentionShape, keys: Matrix, values: Matrix, memory: inout AttentionScratch) {
        let size = AttentionShape.queryBlock
        self.shape = shape
        keysTransposed = packTransposed(keys, &memory)
        valuesTransposed = packTransposed(values, &memory)
        self.keys = memory.matrix(keys.rows, shape.headDim)
        scaleRows(self.keys, keys, by: 1)
        if shape.isRounded {
            roundToBF16(keysTransposed)
            roundToBF16(valuesTransposed)
            roundToBF16(self.keys)
        }
        dKeys = memory.matrix(keys.rows, shape.headDim)
        dValues = memory.matrix(keys.rows, shape.headDim)
        query = memory.matrix(size, shape.headDim)
        dOutBlock = memory.matrix(size, shape.headDim)
        dQueryBlock = memory.matrix(size, shape.headDim)
        weight = memory.matrix(size, AttentionShape.block)
        dScore = memory.matrix(size, AttentionShape.block)
        delta = memory.row(size)
    }

    /// One query head. The first one of a group begins the sums of dKeys and dValues.
    func run(isFirst: Bool, dQuery: Matrix, dOut: Matrix, out: Matrix, logSum: Row, queries: Matrix) {
        let size = AttentionShape.queryBlock
        for start in Swift.stride(from: 0, to: queries.rows, by: size) {
            let rows = min(size, queries.rows - start), first = start / AttentionShape.block
            scaleRows(query.rows(0, rows), queries.rows(start, rows), by: shape.binaryTemperature)
            copyWithDots(dOutBlock.rows(0, rows), delta.slice(0, rows), dOut.rows(start, rows), out.rows(start, rows))
            if shape.isRounded {
                roundToBF16(query.rows(0, rows))
                roundToBF16(dOutBlock.rows(0, rows))
            }
            prefetch(queries, block: start + size)
            prefetch(dOut, block: start + size)
            prefetch(out, block: start + size)
            let logSums = logSum.slice(start, rows)
            for block in 0..<first { visit(block: block, rows: 0..<rows, logSum: logSums) }
            for own in AttentionShape.Parts(of: rows, by: AttentionShape.block) {
                let block = first + own.lowerBound / AttentionShape.block
                visitOwn(block: block, rows: own, logSum: logSums, isFirst: isFirst)
                if own.upperBound < rows { visit(block: block, rows: own.upperBound..<rows, logSum: logSums) }
            }
            scaleRows(dQuery.rows(start, rows), dQueryBlock.rows(0, rows), by: shape.temperature)
        }
    }

    /// Queries meet an earlier, hence full, block of keys.
    private func visit(block: Int, rows: Range<Int>, logSum: Row) {
        let size = AttentionShape.block, first = block * size
        makeSlopes(block: block, rows: rows, keys: size, logSum: logSum)
        func part(_ x: Matrix) -> Matrix { x.rows(rows.lowerBound, rows.count) }
        let dS = part(dScore)
        tileGemm(dValues.rows(first, size), part(weight), transposed: true, part(dOutBlock), accumulate: true)
        tileGemm(dKeys.rows(first, size), dS, transposed: true, part(query), accumulate: true)
        tileGemm(part(dQueryBlock), dS, keys.rows(first, size), accumulate: block > 0)
    }

    /// Queries meet the keys of the same tokens: strip by strip, past the corner that lies in the future. Strip j of
    /// the keys is seen by the queries from its own first on. These keys have met no query of this head before.
    private func visitOwn(block: Int, rows: Range<Int>, logSum: Row, isFirst: Bool) {
        let first = block * AttentionShape.block
        let strips = AttentionShape.Parts(of: rows.count, by: AttentionShape.strip)
        for strip in strips {
            let from = rows.lowerBound + strip.lowerBound
            makeSlopes(block: block, rows: from..<(from + strip.count), keys: strip.lowerBound + AttentionShape.strip,
                       logSum: logSum, own: rows.lowerBound)
            let dS = dScore.rows(from, strip.count).columns(0, strip.upperBound)
            tileGemm(dQueryBlock.rows(from, strip.count), dS, keys.rows(first, strip.upperBound), accumulate: block > 0)
        }
        for strip in strips {
            let from = rows.lowerBound + strip.lowerBound, key = first + strip.lowerBound
            func later(_ x: Matrix) -> Matrix { x.rows(from, rows.upperBound - from) }
            func seen(_ x: Matrix) -> Matrix { later(x).columns(strip.lowerBound, strip.count) }
            tileGemm(dValues.rows(key, strip.count), seen(weight), transposed: true, later(dOutBlock),
                     accumulate: !isFirst)
            tileGemm(dKeys.rows(key, strip.count), seen(dScore), transposed: true, later(query), accumulate: !isFirst)
        }
    }

    /// weight = P and dScore = dS of `rows` and the block's first `width` keys. `own`: the query whose token is the
    /// block's first key, so that the future has to be masked.
    func makeSlopes(block: Int, rows: Range<Int>, keys width: Int, logSum: Row, own: Int? = nil) {
        let head = shape.headDim
        func part(_ x: Matrix) -> Matrix { x.rows(rows.lowerBound, rows.count) }
        func packed(_ x: Matrix) -> Matrix { x.rows(block * head, head).columns(0, width) }
        tileGemm(part(weight).columns(0, width), part(query), packed(keysTransposed), accumulate: false)
        tileGemm(part(dScore).columns(0, width), part(dOutBlock), packed(valuesTransposed), accumulate: false)
        for row in rows {
            let weights = weight.row(row).slice(0, width), dScores = dScore.row(row).slice(0, width)
            if let own { maskFuture(weights, after: row - own) }
            let shift = logSum[row], pull = delta[row]
            for i in laneStarts(width) {
                let p = (weights[lanes: i] - shift).powerOfTwo
                weights[lanes: i] = p
                dScores[lanes: i] = p * (dScores[lanes: i] - pull)
            }
        }
        if shape.isRounded {
            roundToBF16(part(weight).columns(0, width))
            roundToBF16(part(dScore).columns(0, width))
        }
    }
}
