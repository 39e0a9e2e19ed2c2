import Collectives
import Model
import Tensor

/// Keys and values go to the ranks whose queries see them, one rank's after another's, while queries meet those that
/// came before (RingAttention, 2310.01889). Not hand to hand: in a mesh they come straight from whoever has them, so
/// that a rank is sent only what it sees, three quarters of all under a causal mask (`SequenceSplit.zigzag`).
///
/// Own keys first, by the kernel of a rank alone; then those of the rank before, and so on; what a query has seen so
/// far is merged with what it sees now. The backward has keys and values come once more, and sends what its queries
/// find for their gradients back to their owner, who adds it up in the order in which it comes: the order of ranks
/// behind its own. Memory is a few blocks of one rank's keys and values, whatever the length.
final class RingAttention: SharedAttention {
    let keptFloats = 0
    private let shape: AttentionShape
    private let pool: Pool
    private let communicator: Communicator
    /// Two of each but the last: one is under way while the next is worked on.
    private let sent: [Row]
    private let came: [Row]
    private let slopes: [Row]
    private let slopesCame: Row
    private let scratch: Matrix
    private var keysUnderWay: TicketQueue
    private var slopesUnderWay: TicketQueue
    private var fault: CollectiveFault?
    private var rounds: [Round] = []

    init(_ shape: AttentionShape, _ buffers: [Row], scratch: Matrix, pool: Pool, communicator: Communicator) {
        self.shape = shape
        sent = Array(buffers[0..<2])
        came = Array(buffers[2..<4])
        slopes = Array(buffers[4..<6])
        slopesCame = buffers[6]
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

    func forward(_ out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix, shape: AttentionShape, segments: Segments) {
        sendKeys(0, qkv)
        if qkv.rows > 0 {
            attention(out, logSum: logSum, qkv: qkv, shape: shape, segments: segments, scratch: scratch, pool: pool)
        }
        for (number, round) in rounds.enumerated() {
            wait(&keysUnderWay)
            sendKeys(number + 1, qkv)
            guard fault == nil else { return }
            attentionMerge(out, logSum: logSum, qkv: qkv, keyValues: keyValues(came[number % 2], round.cameRows),
                           pairs: round.pairs, shape: shape, scratch: scratch, pool: pool)
        }
    }

    func backward(_ dQKV: Matrix, dOut: Matrix, out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix,
                  shape: AttentionShape, segments: Segments) {
        sendKeys(0, qkv)
        if qkv.rows > 0 {
            attentionBackward(dQKV, dOut: dOut, out: out, logSum: logSum, qkv: qkv, shape: shape, segments: segments,
                              scratch: scratch, pool: pool)
        }
        for (number, round) in rounds.enumerated() {
            wait(&keysUnderWay)
            sendKeys(number + 1, qkv)
            guard fault == nil else { return }
            attentionMergeBackward(dQKV, dKeyValues: keyValues(slopes[number % 2], round.cameRows), dOut: dOut,
                                   out: out, logSum: logSum, qkv: qkv,
                                   keyValues: keyValues(came[number % 2], round.cameRows), pairs: round.pairs,
                                   shape: shape, scratch: scratch, pool: pool)
            addSlopes(ofRound: number - 1, to: dQKV)
            sendSlopes(number)
        }
    }

    func finish(_ dQKV: Matrix) { addSlopes(ofRound: rounds.count - 1, to: dQKV) }

    private func keyValues(_ row: Row, _ rows: Int) -> Matrix {
        Matrix(row, rows: rows, columns: 2 * shape.keyHeads * shape.headDim)
    }

    /// Puts the keys and values of round `number` under way, if there is such a round.
    private func sendKeys(_ number: Int, _ qkv: Matrix) {
        guard fault == nil, number < rounds.count else { return }
        let round = rounds[number], target = keyValues(sent[number % 2], round.sentRows)
        let source = qkv.columns(shape.heads * shape.headDim, target.columns)
        var first = 0
        for rows in round.rows {
            let (from, to) = (source.rows(rows.lowerBound, rows.count), target.rows(first, rows.count))
            forRows(rows.count, pool, stage: "pack keys") { start, count in
                to.rows(start, count).copy(from.rows(start, count))
            }
            first += rows.count
        }
        keysUnderWay.append(round.keys.begin(sent[number % 2], into: came[number % 2], communicator))
    }

    /// What this rank's queries have found for the keys of round `number` goes back to their owner.
    private func sendSlopes(_ number: Int) {
        guard fault == nil else { return }
        slopesUnderWay.append(rounds[number].slopes.begin(slopes[number % 2], into: slopesCame, communicator))
    }

    /// Adds what has come back in round `number`.
    private func addSlopes(ofRound number: Int, to dQKV: Matrix) {
        guard fault == nil, rounds.indices.contains(number) else { return }
        wait(&slopesUnderWay)
        guard fault == nil else { return }
        let round = rounds[number], source = keyValues(slopesCame, round.sentRows)
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
