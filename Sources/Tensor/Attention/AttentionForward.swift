import CKernels

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Queries of one task of the forward: a long document is shared by several workers.
let attentionChunk = 512

/// Causal softmax attention in tiles with an online softmax (FlashAttention, 2205.14135): for each block of 128
/// queries the scores of 64 keys at a time are turned into weights, added to the output, and forgotten. No
/// matrix of T x T ever exists; memory beyond the operands is `scratchFloats`.
///
/// out: [T, H * headDim], overwritten. logSum: [H, T], receives the logarithm, to base 2, of each softmax's
/// denominator (with the maximum), which is all the backward needs of the scores. qkv: see `AttentionShape`.
/// scratch: [workers, scratchFloats].
public func attention(_ out_TH: Matrix, logSum logSum_HT: Matrix, qkv qkv_TC: Matrix, shape: AttentionShape,
                      segments: Segments, scratch: Matrix, pool: Pool) {
    let chunksBefore = ChunkIndex(segments)
    let tasks = chunksBefore.total * shape.keyHeads
    pool.run(tasks, stage: "attention", flops: shape.productFlops(segments)) { task, worker in
        let (segment, first) = chunksBefore.find(task / shape.keyHeads)
        let tokens = segments.range(segment)
        let keys = min(first + attentionChunk, tokens.count)
        var memory = AttentionScratch(scratch.row(worker))
        let seen = qkv_TC.rows(tokens.lowerBound, keys), keyHead = task % shape.keyHeads
        let head = ForwardHead(shape: shape, keys: shape.key(seen, keyHead), values: shape.value(seen, keyHead),
                               memory: &memory)
        for query in 0..<shape.group {
            let index = keyHead * shape.group + query
            head.run(out: out_TH.rows(tokens.lowerBound, keys).columns(index * shape.headDim, shape.headDim),
                     logSum: logSum_HT.row(index).slice(tokens.lowerBound, keys),
                     queries: shape.query(qkv_TC.rows(tokens.lowerBound, keys), index), from: first)
        }
    }
}

/// Numbers the chunks of all segments, by walking the segments: there are few, and nothing is allocated.
private struct ChunkIndex: Sendable {
    let segments: Segments
    let total: Int

    init(_ segments: Segments) {
        self.segments = segments
        var total = 0
        for segment in 0..<segments.count {
            total += (segments.range(segment).count + attentionChunk - 1) / attentionChunk
        }
        self.total = total
    }

    /// The segment of chunk `number`, and the chunk's first query within it.
    func find(_ number: Int) -> (segment: Int, first: Int) {
        var rest = number
        for segment in 0..<segments.count {
            let chunks = (segments.range(segment).count + attentionChunk - 1) / attentionChunk
            if rest < chunks { return (segment, rest * attentionChunk) }
            rest -= chunks
        }
        preconditionFailure("chunk outside the segments")
    }
}

/// One key head over `keyCount` tokens: keys transposed and values packed once, for all its query heads.
struct ForwardHead {
    let shape: AttentionShape
    let keyCount: Int
    let keysTransposed: Matrix    // [blocks * headDim, 64]
    let values: Matrix            // [keyCount, headDim]
    let query: Matrix             // [128, headDim], scaled to score in units of ln 2
    let sum: Matrix               // [128, headDim]
    let score: Matrix             // [128, 64]
    let peak: Row                 // [128] what the scores are shifted by, near the running maximum
    let denominator: Matrix       // [128, 16] running sum, lane by lane
    /// Where products have bf16 operands: then there are no keys and values of its own.
    let tiles: RoundedTiles?

    /// keys, values: [keyCount, headDim], columns of wider rows.
    init(shape: AttentionShape, keys: Matrix, values: Matrix, memory: inout AttentionScratch) {
        let size = AttentionShape.queryBlock
        self.shape = shape
        keyCount = keys.rows
        tiles = shape.isRounded ? RoundedTiles(shape, keys: keys.rows, memory: &memory) : nil
        if let tiles {
            tiles.packColumns(keys: keys)
            tiles.packRows(values)
            (keysTransposed, self.values) = (memory.matrix(0, 0), memory.matrix(0, 0))
        } else {
            keysTransposed = packTransposed(keys, &memory)
            self.values = memory.matrix(keyCount, shape.headDim)
            scaleRows(self.values, values, by: 1)
        }
        query = memory.matrix(size, shape.headDim)
        sum = memory.matrix(size, shape.headDim)
        score = memory.matrix(size, AttentionShape.block)
        peak = memory.row(size)
        denominator = memory.matrix(size, 16)
    }

    func run(out: Matrix, logSum: Row, queries: Matrix, from first: Int) {
        let size = AttentionShape.queryBlock
        for start in Swift.stride(from: first, to: queries.rows, by: size) {
            let rows = min(size, queries.rows - start)
            scaleRows(query.rows(0, rows), queries.rows(start, rows), by: shape.binaryTemperature)
            tiles?.pack(queries: query.rows(0, rows))
            prefetch(queries, block: start + size)
            for key in 0..<(start / AttentionShape.block) { visit(block: key, rows: 0..<rows) }
            for own in AttentionShape.Parts(of: rows, by: AttentionShape.block) {
                let block = (start + own.lowerBound) / AttentionShape.block
                visitOwn(block: block, rows: own)
                if own.upperBound < rows { visit(block: block, rows: own.upperBound..<rows) }
            }
            let logSums = logSum.slice(start, rows)
            for row in 0..<rows {
                let total = denominator.row(row)[lanes: 0].total
                let factor = Lanes(repeating: 1 / total)
                let from = sum.row(row), to = out.row(start + row)
                for i in laneStarts(shape.headDim) { to[lanes: i] = from[lanes: i] * factor }
                logSums[row] = peak[row] + Float(log2(Double(total)))
            }
        }
    }

    /// Queries meet an earlier, hence full, block of keys: scores, weights, and their share of the output.
    func visit(block: Int, rows: Range<Int>) {
        makeScores(block: block, rows: rows, keys: AttentionShape.block)
        for row in rows { absorb(row, score.row(row), first: block == 0) }
        addValues(block: block, rows: rows, keys: AttentionShape.block)
    }

    /// Queries meet the keys of the same tokens, strip by strip.
    private func visitOwn(block: Int, rows: Range<Int>) {
        for strip in AttentionShape.Parts(of: rows.count, by: AttentionShape.strip) {
            let from = rows.lowerBound + strip.lowerBound, end = strip.lowerBound + AttentionShape.strip
            makeScores(block: block, rows: from..<(from + strip.count), keys: end)
            for row in strip {
                let scores = score.row(rows.lowerBound + row).slice(0, end)
                maskFuture(scores, after: row)
                absorb(rows.lowerBound + row, scores, first: block == 0)
            }
            addValues(block: block, rows: from..<(from + strip.count), keys: strip.upperBound)
        }
    }

    func makeScores(block: Int, rows: Range<Int>, keys: Int) {
        let scores = score.rows(rows.lowerBound, rows.count).columns(0, keys)
        if let tiles { return tiles.scores(scores, queries: rows, block: block) }
        let packed = keysTransposed.rows(block * shape.headDim, shape.headDim).columns(0, keys)
        tileGemm(scores, query.rows(rows.lowerBound, rows.count), packed, accumulate: false)
    }

    func addValues(block: Int, rows: Range<Int>, keys: Int) {
        let sum = sum.rows(rows.lowerBound, rows.count)
        let weights = score.rows(rows.lowerBound, rows.count).columns(0, keys)
        // The denominators have the weights as they were before they were rounded.
        if let tiles { return tiles.sum(sum, weights: weights, block: block, accumulate: block > 0) }
        tileGemm(sum, weights, values.rows(block * AttentionShape.block, keys), accumulate: block > 0)
    }

    /// Turns one row of scores into weights.
    ///
    /// A softmax may be shifted by any number that keeps 2^(score - shift) in range. The shift is the maximum of the
    /// row's first block; it is raised only where a score exceeds it by more than `slack`, so that most blocks do
    /// without a sum or a maximum across lanes, and without a branch that cannot be foreseen.
    @inline(__always) func absorb(_ row: Int, _ scores: Row, first: Bool) {
        var best = Lanes(repeating: -.infinity)
        for i in laneStarts(scores.count) { best = best.atLeast(scores[lanes: i]) }
        let denominators = denominator.row(row)
        if first {
            peak[row] = best.largest
            denominators[lanes: 0] = .zero
        } else if best.isAnyGreater(than: Lanes(repeating: peak[row] + slack)) {
            raise(row, to: best.largest)
        }
        let shift = peak[row]
        var total = denominators[lanes: 0]
        for i in laneStarts(scores.count) {
            let weight = (scores[lanes: i] - shift).powerOfTwo
            scores[lanes: i] = weight
            total += weight
        }
        denominators[lanes: 0] = total
    }

    /// What has been summed so far shrinks by 2^(old - new).
    @inline(never) private func raise(_ row: Int, to largest: Float) {
        let shrink = Lanes(repeating: peak[row] - largest).powerOfTwo[0]
        peak[row] = largest
        let denominators = denominator.row(row), sums = sum.row(row)
        denominators[lanes: 0] = denominators[lanes: 0] * shrink
        for i in laneStarts(shape.headDim) { sums[lanes: i] = sums[lanes: i] * shrink }
    }
}

/// Weights stay below 2^12: far from overflow, and sums of them lose nothing in a float.
private let slack: Float = 12

/// Keys (or values) of a segment, transposed block by block: [blocks * headDim, 64]. The last block's missing
/// tokens are zero; the causal mask hides them, since they lie after every query.
func packTransposed(_ x_TD: Matrix, _ memory: inout AttentionScratch) -> Matrix {
    let size = AttentionShape.block
    let blocks = (x_TD.rows + size - 1) / size
    let packed = memory.matrix(blocks * x_TD.columns, size)
    for block in 0..<blocks {
        let rows = min(size, x_TD.rows - block * size)
        transpose(packed.rows(block * x_TD.columns, x_TD.columns), x_TD.rows(block * size, rows))
    }
    return packed
}

/// Scores of keys after position `last` of the block become -infinity.
@inline(__always) func maskFuture(_ scores: Row, after last: Int) {
    for i in laneStarts(scores.count) {
        let limit = Lanes(repeating: Float(last - i + 1))
        scores[lanes: i] = skein_where_less(skein_positions(), limit, scores[lanes: i], Lanes(repeating: -.infinity))
    }
}
