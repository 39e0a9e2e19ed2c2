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
/// Nothing is exchanged at once. Rows go part by part while the layer multiplies the next, and heads chunk by chunk
/// while the other chunk's attention is computed; outputs are multiplied part by part as they come; and gradients of
/// queries, keys and values come under the output weight's gradient. What cannot be hidden is the last part of one
/// chunk, each way.
///
/// A layer keeps what came: queries, keys, values and outputs of its heads, so that the backward exchanges only
/// gradients.
final class UlyssesAttention: SharedAttention {
    let keptFloats: Int
    private let shape: AttentionShape
    private let pool: Pool
    private let communicator: Communicator
    /// Own tokens, with the heads of one rank after the other: qkv, and outputs.
    private let near: Row
    private let nearOut: Row
    /// All tokens, with own heads: gradients of qkv, and of the output.
    private let far: Row
    private let farOut: Row
    private let scratch: Matrix
    private var tickets: TicketQueue
    private var fault: CollectiveFault?
    private var task: UlyssesTask?

    init(_ shape: AttentionShape, keptFloats: Int, _ buffers: [Row], scratch: Matrix, pool: Pool,
         communicator: Communicator) {
        self.shape = shape
        self.keptFloats = keptFloats
        (near, nearOut, far, farOut) = (buffers[0], buffers[1], buffers[2], buffers[3])
        self.scratch = scratch
        self.pool = pool
        self.communicator = communicator
        tickets = TicketQueue(communicator)
    }

    var parts: Int { task?.parts ?? 1 }

    func begin(_ split: SequenceSplit, in group: Group) { task = UlyssesTask(split, in: group, shape) }

    func check() throws(CollectiveFault) { if let fault { throw fault } }

    func made(_ part: Int, qkv: Matrix, kept: Row) {
        guard fault == nil, let task else { return }
        let rows = task.rows(part, of: task.group.index), head = shape.headDim
        let blocks = blocks(task, near, task.heads)
        forRows(rows.count, pool, stage: "pack heads") { start, count in
            for move in task.moves {
                blocks[move.rank][move.chunk].rows(rows.lowerBound + start, count)
                    .columns(move.from * head, move.count * head)
                    .copy(qkv.rows(rows.lowerBound + start, count).columns(move.to * head, move.count * head))
            }
        }
        for (chunk, came) in task.kept(kept).enumerated() {
            exchange(part, chunk, task.heads, near: near, far: came.qkv, isBack: false, task)
        }
    }

    func forward(_ out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix, shape: AttentionShape, segments: Segments) {
        guard fault == nil, let task else { return }
        for (chunk, came) in task.kept(kept).enumerated() {
            // Behind this chunk's last part only the other chunks' last ones are under way.
            wait(task, leaving: (task.chunks - 1 - chunk) + chunk * task.parts)
            eachRun(task, chunk, came) { run, part, segments in
                attention(part.out, logSum: part.logSum, qkv: part.qkv, shape: run, segments: segments,
                          scratch: scratch, pool: pool)
            }
            for part in 0..<task.parts {
                exchange(part, chunk, task.outputs, near: nearOut, far: came.out, isBack: true, task)
            }
        }
    }

    func arrived(_ part: Int, out: Matrix) {
        guard fault == nil, let task else { return }
        wait(task, leaving: task.parts - 1 - part)
        moveOutputs(out, part, task, toBlocks: false)
    }

    func made(_ part: Int, dOut: Matrix) {
        guard fault == nil, let task else { return }
        moveOutputs(dOut, part, task, toBlocks: true)
        for chunk in 0..<task.chunks {
            exchange(part, chunk, task.outputs, near: nearOut, far: task.far(farOut, task.outputs, chunk),
                     isBack: false, task)
        }
    }

    func backward(_ dQKV: Matrix, dOut: Matrix, out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix,
                  shape: AttentionShape, segments: Segments) {
        guard fault == nil, let task else { return }
        for (chunk, came) in task.kept(kept).enumerated() {
            wait(task, leaving: (task.chunks - 1 - chunk) + chunk * task.parts)
            let (slopes, dOut) = (task.far(far, task.heads, chunk), task.far(farOut, task.outputs, chunk))
            eachRun(task, chunk, came) { run, part, segments in
                attentionBackward(slopes.columns(part.firstColumn, part.qkv.columns),
                                  dOut: dOut.columns(part.firstOutput, part.out.columns), out: part.out,
                                  logSum: part.logSum, qkv: part.qkv, shape: run, segments: segments,
                                  scratch: scratch, pool: pool)
            }
            for part in 0..<task.parts {
                exchange(part, chunk, task.heads, near: near, far: slopes, isBack: true, task)
            }
        }
    }

    func finish(_ dQKV: Matrix) {
        guard fault == nil, let task else { return }
        wait(task, leaving: 0)
        let blocks = blocks(task, near, task.heads), head = shape.headDim
        forRows(task.own, pool, stage: "unpack heads") { start, count in
            for move in task.moves {
                let to = dQKV.rows(start, count).columns(move.to * head, move.count * head)
                let from = blocks[move.rank][move.chunk].rows(start, count).columns(move.from * head, move.count * head)
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
        /// Where its columns begin among the chunk's.
        let firstColumn: Int
        let firstOutput: Int
    }

    private func eachRun(_ task: UlyssesTask, _ chunk: Int, _ far: (qkv: Matrix, out: Matrix, logSum: Matrix),
                         _ body: (AttentionShape, Part, Segments) -> Void) {
        guard fault == nil else { return }
        var column = 0, query = 0
        Targets.lend(task.starts, count: task.starts.count) { starts in
            for run in task.shares.chunks[task.group.index][chunk] {
                let width = run.columns * shape.headDim, heads = run.queries.count
                let logSum = far.logSum.all.slice(query * task.tokens, heads * task.tokens)
                let part = Part(qkv: far.qkv.columns(column, width),
                                out: far.out.columns(query * shape.headDim, heads * shape.headDim),
                                logSum: Matrix(logSum, rows: heads, columns: task.tokens),
                                firstColumn: column, firstOutput: query * shape.headDim)
                body(AttentionShape(heads: heads, keyHeads: run.keys.count, headDim: shape.headDim,
                                    isRounded: shape.isRounded), part, Segments(starts))
                column += width
                query += heads
            }
        }
    }

    /// Own tokens' heads of each rank and chunk.
    private func blocks(_ task: UlyssesTask, _ memory: Row, _ kind: UlyssesTask.Messages) -> [[Matrix]] {
        (0..<task.group.size).map { rank in
            (0..<task.chunks).map { task.near(memory, kind, rank, $0) }
        }
    }

    /// Between a part of own tokens' outputs (or their gradients) and the blocks; query heads follow ranks and chunks.
    private func moveOutputs(_ own: Matrix, _ part: Int, _ task: UlyssesTask, toBlocks: Bool) {
        guard fault == nil else { return }
        let blocks = blocks(task, nearOut, task.outputs), rows = task.rows(part, of: task.group.index)
        forRows(rows.count, pool, stage: "move outputs") { start, count in
            var column = 0
            for block in blocks.joined() {
                let there = block.rows(rows.lowerBound + start, count)
                let here = own.rows(rows.lowerBound + start, count).columns(column, block.columns)
                toBlocks ? there.copy(here) : here.copy(there)
                column += block.columns
            }
        }
    }

    private func exchange(_ part: Int, _ chunk: Int, _ kind: UlyssesTask.Messages, near: Row, far: Matrix,
                          isBack: Bool, _ task: UlyssesTask) {
        guard fault == nil else { return }
        task.exchange(part, chunk, kind, near: near, far: far, isBack: isBack, &tickets, communicator)
    }

    /// Waits for the oldest exchanges, but for the last `count` of a part and a chunk.
    private func wait(_ task: UlyssesTask, leaving count: Int) {
        guard fault == nil else { return }
        do throws(CollectiveFault) {
            while tickets.count > count * (task.group.size - 1) { try tickets.waitNext() }
        } catch {
            fault = error
        }
    }
}
