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
    let keyCount: Int
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
    /// Where products have bf16 operands: then there are no keys and values of its own.
    let tiles: RoundedTiles?

    /// keys, values: [n, headDim], columns of wider rows.
    init(shape: AttentionShape, keys: Matrix, values: Matrix, memory: inout AttentionScratch) {
        let size = AttentionShape.queryBlock
        self.shape = shape
        keyCount = keys.rows
        tiles = shape.isRounded ? RoundedTiles(shape, keys: keys.rows, memory: &memory) : nil
        if let tiles {
            tiles.packColumns(keys: keys)
            tiles.packColumns(values: values)
            tiles.packRows(keys)
            (keysTransposed, valuesTransposed) = (memory.matrix(0, 0), memory.matrix(0, 0))
            self.keys = memory.matrix(0, 0)
        } else {
            keysTransposed = packTransposed(keys, &memory)
            valuesTransposed = packTransposed(values, &memory)
            self.keys = memory.matrix(keys.rows, shape.headDim)
            scaleRows(self.keys, keys, by: 1)
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
            packQueries(rows)
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
        addToKeys(first, columns: 0..<size, rows: rows, accumulate: true)
        addToQueries(rows, block: block, keys: size)
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
            addToQueries(from..<(from + strip.count), block: block, keys: strip.upperBound)
        }
        for strip in strips {
            addToKeys(first + strip.lowerBound, columns: strip,
                      rows: (rows.lowerBound + strip.lowerBound)..<rows.upperBound, accumulate: !isFirst)
        }
    }

    /// Queries and the output's gradient, `rows` of them, are where they are multiplied.
    func packQueries(_ rows: Int) {
        guard let tiles else { return }
        tiles.pack(queries: query.rows(0, rows))
        tiles.pack(dOut: dOutBlock.rows(0, rows))
        tiles.packRows(queries: query.rows(0, rows), dOut: dOutBlock.rows(0, rows))
    }

    /// dValues and dKeys from `key` on, `columns` of the block's weights, receive what `rows` give them.
    func addToKeys(_ key: Int, columns: Range<Int>, rows: Range<Int>, accumulate: Bool) {
        func own(_ x: Matrix) -> Matrix {
            x.rows(rows.lowerBound, rows.count).columns(columns.lowerBound, columns.count)
        }
        let dValues = dValues.rows(key, columns.count), dKeys = dKeys.rows(key, columns.count)
        if let tiles {
            tiles.addValues(dValues, weights: own(weight), from: rows.lowerBound, accumulate: accumulate)
            return tiles.addKeys(dKeys, dScores: own(dScore), from: rows.lowerBound, accumulate: accumulate)
        }
        tileGemm(dValues, own(weight), transposed: true, dOutBlock.rows(rows.lowerBound, rows.count),
                 accumulate: accumulate)
        tileGemm(dKeys, own(dScore), transposed: true, query.rows(rows.lowerBound, rows.count), accumulate: accumulate)
    }

    /// What the first `count` keys of a block give to the gradient of `rows`; the first block begins it.
    func addToQueries(_ rows: Range<Int>, block: Int, keys count: Int) {
        let dQuery = dQueryBlock.rows(rows.lowerBound, rows.count)
        let dS = dScore.rows(rows.lowerBound, rows.count).columns(0, count)
        if let tiles { return tiles.sum(dQuery, weights: dS, block: block, accumulate: block > 0) }
        tileGemm(dQuery, dS, keys.rows(block * AttentionShape.block, count), accumulate: block > 0)
    }

    /// weight = P and dScore = dS of `rows` and the block's first `width` keys. `own`: the query whose token is the
    /// block's first key, so that the future has to be masked.
    func makeSlopes(block: Int, rows: Range<Int>, keys width: Int, logSum: Row, own: Int? = nil) {
        let head = shape.headDim
        func part(_ x: Matrix) -> Matrix { x.rows(rows.lowerBound, rows.count) }
        func packed(_ x: Matrix) -> Matrix { x.rows(block * head, head).columns(0, width) }
        if let tiles {
            tiles.scores(part(weight).columns(0, width), queries: rows, block: block)
            tiles.slopes(part(dScore).columns(0, width), queries: rows, block: block)
        } else {
            tileGemm(part(weight).columns(0, width), part(query), packed(keysTransposed), accumulate: false)
            tileGemm(part(dScore).columns(0, width), part(dOutBlock), packed(valuesTransposed), accumulate: false)
        }
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
    }
}
