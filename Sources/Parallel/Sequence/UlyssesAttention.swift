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
/// Nothing is exchanged at once. Where heads divide so (`HeadShares.isAligned`), one chunk's are made, and what comes
/// back of them is multiplied, while another chunk's are on their way; else rows are, part by part. One chunk's
/// attention is computed while the other's heads come and outputs go; and gradients of queries, keys and values come
/// under the output weight's gradient. What is hidden by little is the last chunk's outputs.
///
/// A layer keeps what came: queries, keys, values and outputs of its heads, so that the backward exchanges only
/// gradients.
final class UlyssesAttention: SharedAttention {
    /// Of tasks so many shapes are kept.
    private static let knownShapes = 16

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
    /// Exchanges begun and awaited so far, and how many were begun with those of each chunk of heads, and with those
    /// of each part and chunk of outputs: what is waited for.
    private var begun = 0
    private var awaited = 0
    private var headsBegun: [Int] = []
    private var outputsBegun: [Int] = []
    private(set) var stayedBytes = 0
    private var fault: CollectiveFault?
    private var task: UlyssesTask?
    private var known: [UlyssesTask] = []
    /// Where the task's documents begin, and its end.
    private var starts: [Int32] = []

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

    var headGroups: Int { task.map { $0.shares.isAligned ? $0.chunks : 1 } ?? 1 }

    func begin(_ split: SequenceSplit, in group: Group) {
        starts = split.starts
        if let task, task.fits(split, in: group) { return }
        let next = known.first { $0.fits(split, in: group) } ?? UlyssesTask(split, in: group, shape)
        known.removeAll { $0 === next }
        if known.count == Self.knownShapes { known.removeFirst() }
        known.append(next)
        task = next
        headsBegun.removeAll(keepingCapacity: true)
        headsBegun.append(contentsOf: repeatElement(0, count: next.chunks))
        outputsBegun.removeAll(keepingCapacity: true)
        outputsBegun.append(contentsOf: repeatElement(0, count: next.chunks * next.parts))
    }

    func check() throws(CollectiveFault) { if let fault { throw fault } }

    /// The chunks of a group of heads: all of them where heads do not divide.
    private func chunks(of group: Int, _ task: UlyssesTask) -> Range<Int> {
        task.shares.isAligned ? group..<(group + 1) : 0..<task.chunks
    }

    func made(_ part: Int, _ group: Int, qkv: Matrix, kept: Row) {
        guard fault == nil, let task else { return }
        let rows = task.rows(part, of: task.group.index), head = shape.headDim, near = near
        let chunks = chunks(of: group, task)
        forRows(rows.count, pool, stage: "pack heads") { start, count in
            for move in task.moves where chunks.contains(move.chunk) {
                task.near(near, task.heads, move.rank, move.chunk).rows(rows.lowerBound + start, count)
                    .columns(move.from * head, move.count * head)
                    .copy(qkv.rows(rows.lowerBound + start, count).columns(move.to * head, move.count * head))
            }
        }
        for chunk in chunks {
            exchange(part, chunk, task.heads, near: near, far: task.kept(kept, chunk).qkv, isBack: false, task)
        }
    }

    func forward(_ out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix, shape: AttentionShape, segments: Segments) {
        guard fault == nil, let task else { return }
        for chunk in 0..<task.chunks {
            let came = task.kept(kept, chunk)
            wait(headsBegun[chunk])
            eachRun(task, chunk, came) { run, part, segments in
                attention(part.out, logSum: part.logSum, qkv: part.qkv, shape: run, segments: segments,
                          scratch: scratch, pool: pool)
            }
            for part in 0..<task.parts {
                exchange(part, chunk, task.outputs, near: nearOut, far: came.out, isBack: true, task)
            }
        }
    }

    func arrived(_ part: Int, _ group: Int, out: Matrix) {
        guard fault == nil, let task else { return }
        let chunks = chunks(of: group, task)
        wait(outputsBegun[(chunks.upperBound - 1) * task.parts + part])
        moveOutputs(out, part, chunks, task, toBlocks: false)
    }

    func made(_ part: Int, dOut: Matrix) {
        guard fault == nil, let task else { return }
        moveOutputs(dOut, part, 0..<task.chunks, task, toBlocks: true)
        for chunk in 0..<task.chunks {
            exchange(part, chunk, task.outputs, near: nearOut, far: task.far(farOut, task.outputs, chunk),
                     isBack: false, task)
        }
    }

    func backward(_ dQKV: Matrix, dOut: Matrix, out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix,
                  shape: AttentionShape, segments: Segments) {
        guard fault == nil, let task else { return }
        for chunk in 0..<task.chunks {
            wait(outputsBegun[(chunk + 1) * task.parts - 1])
            let (slopes, dOut) = (task.far(far, task.heads, chunk), task.far(farOut, task.outputs, chunk))
            eachRun(task, chunk, task.kept(kept, chunk)) { run, part, segments in
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
        wait(begun)
        guard fault == nil else { return }
        let near = near, head = shape.headDim
        forRows(task.own, pool, stage: "unpack heads") { start, count in
            for move in task.moves {
                let to = dQKV.rows(start, count).columns(move.to * head, move.count * head)
                let from = task.near(near, task.heads, move.rank, move.chunk).rows(start, count)
                    .columns(move.from * head, move.count * head)
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
        Targets.lend(starts, count: starts.count) { starts in
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

    /// Between a part of own tokens' outputs (or their gradients) and the blocks of some chunks.
    private func moveOutputs(_ own: Matrix, _ part: Int, _ chunks: Range<Int>, _ task: UlyssesTask, toBlocks: Bool) {
        guard fault == nil else { return }
        let rows = task.rows(part, of: task.group.index), head = shape.headDim, nearOut = nearOut
        forRows(rows.count, pool, stage: "move outputs") { start, count in
            for rank in 0..<task.group.size {
                for chunk in chunks {
                    let block = task.near(nearOut, task.outputs, rank, chunk).rows(rows.lowerBound + start, count)
                    let row = own.rows(rows.lowerBound + start, count)
                    var column = 0
                    for run in task.shares.chunks[rank][chunk] {
                        let width = run.queries.count * head
                        let (there, here) = (block.columns(column, width),
                                             row.columns(run.queries.lowerBound * head, width))
                        toBlocks ? there.copy(here) : here.copy(there)
                        column += width
                    }
                }
            }
        }
    }

    private func exchange(_ part: Int, _ chunk: Int, _ kind: UlyssesTask.Messages, near: Row, far: Matrix,
                          isBack: Bool, _ task: UlyssesTask) {
        guard fault == nil else { return }
        task.exchange(part, chunk, kind, near: near, far: far, isBack: isBack, &tickets, communicator)
        begun += task.group.size - 1
        let own = task.group.index
        stayedBytes += task.rows(part, of: own).count * kind.widths[own][chunk] * MemoryLayout<Float>.stride
        // Parts come in order, so the last one's number stays.
        if kind.isOutputs { outputsBegun[chunk * task.parts + part] = begun } else { headsBegun[chunk] = begun }
    }

    /// Waits for the exchanges up to number `count`, in the order in which they were begun.
    private func wait(_ count: Int) {
        guard fault == nil else { return }
        do throws(CollectiveFault) {
            while awaited < count {
                try tickets.waitNext()
                awaited += 1
            }
        } catch {
            fault = error
        }
    }
}
