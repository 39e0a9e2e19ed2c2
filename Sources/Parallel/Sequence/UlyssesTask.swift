import Collectives
import Model
import Recipe
import Tensor

/// What does not change between the layers of a task that a group of ranks shares by heads: who has which tokens and
/// which heads, and the messages between them.
///
/// Messages are of one part of the rows (`rowPart`) and one chunk of heads (`HeadShares.chunks`), to one rank each, so
/// that they land where they belong, and so that some are under way while others' heads and rows are worked on.
struct UlyssesTask {
    let group: Group
    let starts: [Int32]
    let tokens: Int
    let own: Int
    let shares: HeadShares
    let parts: Int
    let moves: [Move]
    /// Queries, keys and values, or outputs alone.
    let heads: Messages
    let outputs: Messages
    private let head: Int
    private let counts: [Int]
    /// Where each rank's tokens begin.
    private let firsts: [Int]

    var chunks: Int { shares.chunkCount }

    /// Heads side by side of one rank's block for a chunk, and where they are in qkv.
    struct Move {
        let rank: Int
        let chunk: Int
        let from: Int
        let to: Int
        let count: Int
        /// Whether a rank before has the same heads: then gradients add up.
        let isShared: Bool
    }

    /// One kind of exchange: how wide a rank's block is for each chunk, in floats, and where it begins among those of
    /// own tokens.
    struct Messages {
        let widths: [[Int]]
        let firsts: [[Int]]
    }

    init(_ split: SequenceSplit, in group: Group, _ shape: AttentionShape) {
        let size = group.size, ranks = 0..<size
        let shares = HeadShares(heads: shape.heads, keyHeads: shape.keyHeads, degree: size)
        let own = split.count(of: group.index), head = shape.headDim
        func messages(_ width: (Int, Int) -> Int) -> Messages {
            let widths = ranks.map { rank in (0..<shares.chunkCount).map { width(rank, $0) * head } }
            var next = 0
            let firsts = widths.map { $0.map { width in
                defer { next += own * width }
                return next
            } }
            return Messages(widths: widths, firsts: firsts)
        }
        (self.group, starts, tokens, self.own) = (group, split.starts, split.tokens, own)
        (self.shares, self.head, counts) = (shares, head, ranks.map { split.count(of: $0) })
        firsts = ranks.map { rank in (0..<rank).reduce(0) { $0 + split.count(of: $1) } }
        // Enough rows for a message to be worth it, and not more messages than peers make necessary.
        parts = max(1, min(tokens / size / 128, 14 / max(size - 1, 1), 4))
        moves = Self.moves(shares, shape)
        heads = messages { shares.columns(of: $0, chunk: $1) }
        outputs = messages { shares.queries(of: $0, chunk: $1) }
    }

    private static func moves(_ shares: HeadShares, _ shape: AttentionShape) -> [Move] {
        var moves: [Move] = [], nextKey = 0
        for rank in 0..<shares.degree {
            for (chunk, runs) in shares.chunks[rank].enumerated() {
                var from = 0
                func add(_ heads: Range<Int>, at first: Int, isShared: Bool) {
                    guard !heads.isEmpty else { return }
                    moves.append(Move(rank: rank, chunk: chunk, from: from, to: first + heads.lowerBound,
                                      count: heads.count, isShared: isShared))
                    from += heads.count
                }
                for run in runs {
                    add(run.queries, at: 0, isShared: false)
                    // Heads are dealt out in order, so the first key head alone can be another rank's as well.
                    let middle = max(run.keys.lowerBound, min(nextKey, run.keys.upperBound))
                    for first in [shape.heads, shape.heads + shape.keyHeads] {
                        add(run.keys.lowerBound..<middle, at: first, isShared: true)
                        add(middle..<run.keys.upperBound, at: first, isShared: false)
                    }
                    nextKey = run.keys.upperBound
                }
            }
        }
        return moves
    }

    /// Rows of a part among those of `rank`.
    func rows(_ part: Int, of rank: Int) -> Range<Int> { rowPart(part, of: parts, rows: counts[rank]) }

    /// Own tokens with a rank's heads, in the memory of such blocks.
    func near(_ memory: Row, _ kind: Messages, _ rank: Int, _ chunk: Int) -> Matrix {
        let width = kind.widths[rank][chunk]
        return Matrix(memory.slice(kind.firsts[rank][chunk], own * width), rows: own, columns: width)
    }

    /// All tokens with own heads of a chunk, in memory that has the chunks one after the other.
    func far(_ memory: Row, _ kind: Messages, _ chunk: Int) -> Matrix {
        let widths = kind.widths[group.index], first = tokens * widths[..<chunk].reduce(0, +)
        return Matrix(memory.slice(first, tokens * widths[chunk]), rows: tokens, columns: widths[chunk])
    }

    /// What a layer keeps: of each chunk what came, its outputs, and the logarithms of denominators.
    func kept(_ memory: Row) -> [(qkv: Matrix, out: Matrix, logSum: Matrix)] {
        var next = 0
        func take(_ rows: Int, _ columns: Int) -> Matrix {
            defer { next += Arena.padded(rows * columns) }
            return Matrix(memory.slice(next, rows * columns), rows: rows, columns: columns)
        }
        return (0..<chunks).map { chunk in
            (take(tokens, heads.widths[group.index][chunk]), take(tokens, outputs.widths[group.index][chunk]),
             take(shares.queries(of: group.index, chunk: chunk), tokens))
        }
    }

    /// Puts part `part` of chunk `chunk` under way: own tokens' heads to the ranks that compute these, or back to those
    /// that have the tokens (`isBack`). Own ones are copied. `near`: a memory of blocks; `far`: the chunk's matrix.
    func exchange(_ part: Int, _ chunk: Int, _ kind: Messages, near memory: Row, far: Matrix, isBack: Bool,
                  _ tickets: inout TicketQueue, _ communicator: Communicator) {
        let size = group.size, own = group.index
        func block(_ rank: Int) -> Row { slab(near(memory, kind, rank, chunk), rows(part, of: own)) }
        func place(_ rank: Int) -> Row {
            let rows = rows(part, of: rank)
            return slab(far, (firsts[rank] + rows.lowerBound)..<(firsts[rank] + rows.upperBound))
        }
        isBack ? block(own).copy(place(own)) : place(own).copy(block(own))
        for distance in stride(from: 1, to: size, by: 1) {
            let to = (own + distance) % size, from = (own + size - distance) % size
            let (source, target) = isBack ? (place(to), block(from)) : (block(to), place(from))
            let exchange = Exchange(source.count, to: to, target.count, from: from, size: size)
            tickets.append(exchange.begin(source, into: target, label: 0, in: group, communicator))
        }
    }

    private func slab(_ matrix: Matrix, _ rows: Range<Int>) -> Row {
        matrix.all.slice(rows.lowerBound * matrix.columns, rows.count * matrix.columns)
    }
}
