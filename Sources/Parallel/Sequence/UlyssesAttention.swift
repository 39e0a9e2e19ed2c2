import Collectives
import Model
import Recipe
import Tensor

/// Tokens are exchanged for heads and back (DeepSpeed-Ulysses, 2309.14509, section 3): between two all-to-alls each
/// rank has some heads of all tokens, and attends over them as a rank alone does; so the forward has the same bits.
///
/// Grouped queries: a key/value head goes to every rank that has queries of its group (`HeadShares`), and what these
/// find for its gradient is added up by whoever holds the token, in the order of ranks.
///
/// A layer keeps what came: queries, keys, values and outputs of its heads, so that the backward exchanges only
/// gradients.
final class UlyssesAttention: SharedAttention {
    let keptFloats: Int
    private let shape: AttentionShape
    private let pool: Pool
    private let communicator: Communicator
    /// Own tokens, with the heads of one rank after the other.
    private let near: Row
    /// All tokens, with own heads: gradients of qkv, and of the output.
    private let far: Row
    private let farOut: Row
    private let scratch: Matrix
    private var fault: CollectiveFault?
    private var task: Task?

    init(_ shape: AttentionShape, keptFloats: Int, _ buffers: [Row], scratch: Matrix, pool: Pool,
         communicator: Communicator) {
        self.shape = shape
        self.keptFloats = keptFloats
        (near, far, farOut) = (buffers[0], buffers[1], buffers[2])
        self.scratch = scratch
        self.pool = pool
        self.communicator = communicator
    }

    /// What does not change between the layers of a task.
    private struct Task {
        let group: Group
        let starts: [Int32]
        let tokens: Int
        let own: Int
        let shares: HeadShares
        let moves: [Move]
        /// Of qkv's heads and of the outputs', from own tokens to own heads.
        let heads: Exchange
        let outputs: Exchange
        /// The same the other way.
        let headsBack: Exchange
        let outputsBack: Exchange

        var runs: [HeadShares.Run] { shares.runs[group.index] }
        var columns: Int { shares.columns(of: group.index) }
        var queries: Int { shares.queries(of: group.index) }
    }

    /// Heads side by side of one rank's block of `near`, and where they are in qkv.
    private struct Move {
        let rank: Int
        let from: Int
        let to: Int
        let count: Int
        /// Whether a rank before has the same heads: then gradients add up.
        let isShared: Bool
    }

    func begin(_ split: SequenceSplit, in group: Group) {
        let head = shape.headDim, ranks = 0..<group.size
        let shares = HeadShares(heads: shape.heads, keyHeads: shape.keyHeads, degree: group.size)
        let own = split.count(of: group.index), counts = ranks.map { split.count(of: $0) }
        func exchange(_ width: (Int) -> Int) -> (there: Exchange, back: Exchange) {
            let near = ranks.map { own * width($0) * head }, far = counts.map { $0 * width(group.index) * head }
            return (Exchange(outgoing: near, incoming: far), Exchange(outgoing: far, incoming: near))
        }
        let (heads, outputs) = (exchange(shares.columns), exchange(shares.queries))
        task = Task(group: group, starts: split.starts, tokens: split.tokens, own: own, shares: shares,
                    moves: moves(shares), heads: heads.there, outputs: outputs.there, headsBack: heads.back,
                    outputsBack: outputs.back)
    }

    private func moves(_ shares: HeadShares) -> [Move] {
        var moves: [Move] = [], nextKey = 0
        for rank in 0..<shares.degree {
            var from = 0
            for run in shares.runs[rank] {
                moves.append(Move(rank: rank, from: from, to: run.queries.lowerBound, count: run.queries.count,
                                  isShared: false))
                from += run.queries.count
                // Heads are dealt out in order, so the first key head alone can be another rank's as well.
                let shared = run.keys.lowerBound..<max(run.keys.lowerBound, min(nextKey, run.keys.upperBound))
                for first in [shape.heads, shape.heads + shape.keyHeads] {
                    for (keys, isShared) in [(shared, true), (shared.upperBound..<run.keys.upperBound, false)]
                    where !keys.isEmpty {
                        moves.append(Move(rank: rank, from: from, to: first + keys.lowerBound, count: keys.count,
                                          isShared: isShared))
                        from += keys.count
                    }
                }
                nextKey = run.keys.upperBound
            }
        }
        return moves
    }

    func check() throws(CollectiveFault) { if let fault { throw fault } }

    /// What came of a layer, in what it keeps.
    private func views(_ kept: Row, _ task: Task) -> (qkv: Matrix, out: Matrix, logSum: Matrix) {
        let wide = task.columns * shape.headDim, narrow = task.queries * shape.headDim
        let first = Arena.padded(task.tokens * wide), second = first + Arena.padded(task.tokens * narrow)
        return (Matrix(kept.slice(0, task.tokens * wide), rows: task.tokens, columns: wide),
                Matrix(kept.slice(first, task.tokens * narrow), rows: task.tokens, columns: narrow),
                Matrix(kept.slice(second, task.queries * task.tokens), rows: task.queries, columns: task.tokens))
    }

    func forward(_ out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix, shape: AttentionShape, segments: Segments) {
        guard fault == nil, let task else { return }
        let far = views(kept, task), blocks = blocks(task) { task.shares.columns(of: $0) }
        forRows(task.own, pool, stage: "pack heads") { [shape] start, count in
            for move in task.moves {
                let from = qkv.rows(start, count).columns(move.to * shape.headDim, move.count * shape.headDim)
                blocks[move.rank].rows(start, count).columns(move.from * shape.headDim, move.count * shape.headDim)
                    .copy(from)
            }
        }
        exchange(task.heads, near, into: far.qkv.all, task)
        eachRun(task, far) { run, part, segments in
            attention(part.out, logSum: part.logSum, qkv: part.qkv, shape: run, segments: segments, scratch: scratch,
                      pool: pool)
        }
        exchange(task.outputsBack, far.out.all, into: near, task)
        moveOutputs(out, task, toBlocks: false)
    }

    func backward(_ dQKV: Matrix, dOut: Matrix, out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix,
                  shape: AttentionShape, segments: Segments) {
        guard fault == nil, let task else { return }
        let came = views(kept, task)
        moveOutputs(dOut, task, toBlocks: true)
        exchange(task.outputs, near, into: farOut, task)
        let slopes = (qkv: Matrix(far, rows: task.tokens, columns: came.qkv.columns),
                      out: Matrix(farOut, rows: task.tokens, columns: came.out.columns))
        eachRun(task, came) { run, part, segments in
            attentionBackward(slopes.qkv.columns(part.firstColumn, part.qkv.columns),
                              dOut: slopes.out.columns(part.firstOutput, part.out.columns), out: part.out,
                              logSum: part.logSum, qkv: part.qkv, shape: run, segments: segments, scratch: scratch,
                              pool: pool)
        }
        exchange(task.headsBack, far, into: near, task)
        let blocks = blocks(task) { task.shares.columns(of: $0) }
        forRows(task.own, pool, stage: "unpack heads") { [shape] start, count in
            for move in task.moves {
                let to = dQKV.rows(start, count).columns(move.to * shape.headDim, move.count * shape.headDim)
                let from = blocks[move.rank].rows(start, count)
                    .columns(move.from * shape.headDim, move.count * shape.headDim)
                guard move.isShared else {
                    to.copy(from)
                    continue
                }
                for row in 0..<count { add(to.row(row), from.row(row)) }
            }
        }
    }

    private struct Part {
        let qkv: Matrix
        let out: Matrix
        let logSum: Matrix
        /// Where its columns begin among the rank's.
        let firstColumn: Int
        let firstOutput: Int
    }

    private func eachRun(_ task: Task, _ far: (qkv: Matrix, out: Matrix, logSum: Matrix),
                         _ body: (AttentionShape, Part, Segments) -> Void) {
        guard fault == nil else { return }
        var column = 0, query = 0
        Targets.lend(task.starts, count: task.starts.count) { starts in
            for run in task.runs {
                let width = run.columns * shape.headDim, heads = run.queries.count
                let logSum = far.logSum.all.slice(query * task.tokens, heads * task.tokens)
                let part = Part(qkv: far.qkv.columns(column, width),
                                out: far.out.columns(query * shape.headDim, heads * shape.headDim),
                                logSum: Matrix(logSum, rows: heads, columns: task.tokens),
                                firstColumn: column, firstOutput: query * shape.headDim)
                body(AttentionShape(heads: heads, keyHeads: run.keys.count, headDim: shape.headDim,
                                    isRounded: shape.isRounded), part,
                     Segments(starts))
                column += width
                query += heads
            }
        }
    }

    /// Own tokens' heads of each rank, in `near`; `width`: heads of a rank.
    private func blocks(_ task: Task, _ width: (Int) -> Int) -> [Matrix] {
        var first = 0
        return (0..<task.group.size).map { rank in
            let columns = width(rank) * shape.headDim
            defer { first += task.own * columns }
            return Matrix(near.slice(first, task.own * columns), rows: task.own, columns: columns)
        }
    }

    /// Between own tokens' outputs (or their gradients) and the blocks of `near`; query heads follow the ranks.
    private func moveOutputs(_ own: Matrix, _ task: Task, toBlocks: Bool) {
        guard fault == nil else { return }
        let blocks = blocks(task) { task.shares.queries(of: $0) }
        forRows(task.own, pool, stage: "move outputs") { start, count in
            var column = 0
            for block in blocks {
                let part = own.rows(start, count).columns(column, block.columns)
                toBlocks ? block.rows(start, count).copy(part) : part.copy(block.rows(start, count))
                column += block.columns
            }
        }
    }

    private func exchange(_ exchange: Exchange, _ source: Row, into target: Row, _ task: Task) {
        guard fault == nil else { return }
        do throws(CollectiveFault) {
            try exchange.begin(source, into: target, label: 0, in: task.group, communicator).wait()
        } catch {
            fault = error
        }
    }
}
