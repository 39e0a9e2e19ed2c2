import Collectives
import Model
import Recipe
import Tensor

/// Keys and values go to the ranks whose queries see them, one rank's after another's, while queries meet those that
/// came before (RingAttention, 2310.01889). Not hand to hand: in a mesh they come straight from whoever has them, so
/// that a rank is sent only what it sees, three quarters of all under a causal mask (`SequenceSplit.zigzag`).
///
/// Own keys first, by the kernel of a rank alone; then those of the rank before, and so on; what a query has seen so
/// far is merged with what it sees now. The backward has keys and values come once more, and sends what its queries
/// find for their gradients back to their owner, who adds it up in the order of ranks behind its own. Memory is a few
/// blocks of one rank's keys and values (`SequenceMemory.ringDepth`), whatever the length.
///
/// The first blocks leave as soon as keys are made, under the product that makes queries; in the backward at once. What
/// comes back is added up when its memory is needed for the next, or at the end, under weights' gradients.
final class RingAttention: SharedAttention {
    let keptFloats = 0
    private let shape: AttentionShape
    private let pool: Pool
    private let communicator: Communicator
    /// `depth` of each: some are under way while one is worked on.
    private let sent: [Row]
    private let came: [Row]
    private let slopes: [Row]
    private let slopesCame: [Row]
    private let depth = SequenceMemory.ringDepth
    private let scratch: Matrix
    private var keysUnderWay: TicketQueue
    private var slopesUnderWay: TicketQueue
    private var fault: CollectiveFault?
    private var rounds: [Round] = []

    init(_ shape: AttentionShape, _ buffers: [Row], scratch: Matrix, pool: Pool, communicator: Communicator) {
        self.shape = shape
        let size = SequenceMemory.ringDepth
        func rows(_ kind: Int) -> [Row] { Array(buffers[(kind * size)..<((kind + 1) * size)]) }
        (sent, came, slopes, slopesCame) = (rows(0), rows(1), rows(2), rows(3))
        self.scratch = scratch
        self.pool = pool
        self.communicator = communicator
        keysUnderWay = TicketQueue(communicator)
        slopesUnderWay = TicketQueue(communicator)
    }

    /// What a rank does with two others: it sends to the one so many places behind it, and gets from the one as many
    /// before.
    private struct Round {
        /// Own rows that are sent.
        let rows: [Range<Int>]
        let sentRows: Int
        /// Queries and the rows that came.
        let pairs: [AttentionPair]
        let cameRows: Int
        let keys: Exchange
        let slopes: Exchange
    }

    func begin(_ split: SequenceSplit, in group: Group) {
        let width = 2 * shape.keyHeads * shape.headDim, size = group.size, own = group.index
        rounds = (1..<size).map { distance in
            let label = UInt32(distance - 1)
            let reader = (own + distance) % size, source = (own + size - distance) % size
            let rows = split.visible(of: own, to: reader).map(\.keys)
            var next = 0
            let pairs = split.visible(of: source, to: own).map { pair in
                defer { next += pair.keys.count }
                return AttentionPair(queries: pair.queries, keys: next..<(next + pair.keys.count))
            }
            let sentRows = rows.reduce(0) { $0 + $1.count }
            return Round(rows: rows, sentRows: sentRows, pairs: pairs, cameRows: next,
                         keys: Exchange(sentRows * width, to: reader, next * width, from: source, label: label,
                                        in: group),
                         slopes: Exchange(next * width, to: source, sentRows * width, from: reader,
                                          label: UInt32(size - 1) + label, in: group))
        }
    }

    func check() throws(CollectiveFault) { if let fault { throw fault } }

    let wantsKeysFirst = true

    func keysMade(_ qkv: Matrix) { for number in 0..<min(depth, rounds.count) { sendKeys(number, qkv) } }

    func forward(_ out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix, shape: AttentionShape, segments: Segments) {
        if qkv.rows > 0 {
            attention(out, logSum: logSum, qkv: qkv, shape: shape, segments: segments, scratch: scratch, pool: pool)
        }
        for (number, round) in rounds.enumerated() {
            wait(&keysUnderWay)
            guard fault == nil else { return }
            attentionMerge(out, logSum: logSum, qkv: qkv, keyValues: keyValues(came[number % depth], round.cameRows),
                           pairs: round.pairs, shape: shape, scratch: scratch, pool: pool)
            sendKeys(number + depth, qkv)
        }
    }

    func backward(_ dQKV: Matrix, dOut: Matrix, out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix,
                  shape: AttentionShape, segments: Segments) {
        if qkv.rows > 0 {
            attentionBackward(dQKV, dOut: dOut, out: out, logSum: logSum, qkv: qkv, shape: shape, segments: segments,
                              scratch: scratch, pool: pool)
        }
        for (number, round) in rounds.enumerated() {
            wait(&keysUnderWay)
            guard fault == nil else { return }
            // Its memory is needed again.
            addSlopes(ofRound: number - depth, to: dQKV)
            attentionMergeBackward(dQKV, dKeyValues: keyValues(slopes[number % depth], round.cameRows), dOut: dOut,
                                   out: out, logSum: logSum, qkv: qkv,
                                   keyValues: keyValues(came[number % depth], round.cameRows), pairs: round.pairs,
                                   shape: shape, scratch: scratch, pool: pool)
            sendSlopes(number)
            sendKeys(number + depth, qkv)
        }
    }

    func finish(_ dQKV: Matrix) {
        for number in max(0, rounds.count - depth)..<rounds.count { addSlopes(ofRound: number, to: dQKV) }
    }

    private func keyValues(_ row: Row, _ rows: Int) -> Matrix {
        Matrix(row, rows: rows, columns: 2 * shape.keyHeads * shape.headDim)
    }

    /// Puts the keys and values of round `number` under way, if there is such a round.
    private func sendKeys(_ number: Int, _ qkv: Matrix) {
        guard fault == nil, number < rounds.count else { return }
        let round = rounds[number], target = keyValues(sent[number % depth], round.sentRows)
        let source = qkv.columns(shape.heads * shape.headDim, target.columns)
        var first = 0
        for rows in round.rows {
            let (from, to) = (source.rows(rows.lowerBound, rows.count), target.rows(first, rows.count))
            forRows(rows.count, pool, stage: "pack keys") { start, count in
                to.rows(start, count).copy(from.rows(start, count))
            }
            first += rows.count
        }
        keysUnderWay.append(round.keys.begin(sent[number % depth], into: came[number % depth], communicator))
    }

    /// What this rank's queries have found for the keys of round `number` goes back to their owner.
    private func sendSlopes(_ number: Int) {
        guard fault == nil else { return }
        slopesUnderWay.append(rounds[number].slopes.begin(slopes[number % depth], into: slopesCame[number % depth],
                                                          communicator))
    }

    /// Adds what has come back in round `number`.
    private func addSlopes(ofRound number: Int, to dQKV: Matrix) {
        guard fault == nil, rounds.indices.contains(number) else { return }
        wait(&slopesUnderWay)
        guard fault == nil else { return }
        let round = rounds[number], source = keyValues(slopesCame[number % depth], round.sentRows)
        let target = dQKV.columns(shape.heads * shape.headDim, source.columns)
        var first = 0
        for rows in round.rows {
            let (to, from) = (target.rows(rows.lowerBound, rows.count), source.rows(first, rows.count))
            forRows(rows.count, pool, stage: "add keys' gradients") { start, count in
                for row in start..<(start + count) { add(to.row(row), from.row(row)) }
            }
            first += rows.count
        }
    }

    private func wait(_ queue: inout TicketQueue) {
        guard fault == nil else { return }
        do throws(CollectiveFault) {
            try queue.waitNext()
        } catch {
            fault = error
        }
    }
}
