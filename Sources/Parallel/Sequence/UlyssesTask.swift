import Collectives
import Model
import Recipe
import Tensor

/// What does not change between the layers of a task that a group of ranks shares by heads, nor between tasks of which
/// each rank has as many tokens: who has which tokens and which heads, and the messages between them.
///
/// Messages are of one part of the rows (`rowPart`) and one chunk of heads (`HeadShares.chunks`), to one rank each, so
/// that they land where they belong, and so that some are under way while others' heads and rows are worked on.
final class UlyssesTask: Sendable {
    let group: Group
    let tokens: Int
    let own: Int
    let shares: HeadShares
    let parts: Int
    let moves: [Move]
    /// Queries, keys and values, or outputs alone.
    let heads: Messages
    let outputs: Messages
    private let shape: AttentionShape
    private let counts: [Int]
    /// Where each rank's tokens begin.
    private let firsts: [Int]
    /// Where a chunk begins in what a layer keeps.
    private let keptFirsts: [Int]

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
        let isOutputs: Bool
        let widths: [[Int]]
        let firsts: [[Int]]
        /// To the ranks that have the heads, and back, in the order of parts, chunks and distances of the two ranks.
        var there: [Exchange] = []
        var back: [Exchange] = []
    }

    init(_ split: SequenceSplit, in group: Group, _ shape: AttentionShape) {
        let size = group.size, ranks = 0..<size
        let shares = HeadShares(heads: shape.heads, keyHeads: shape.keyHeads, degree: size)
        let own = split.count(of: group.index), head = shape.headDim
        func messages(isOutputs: Bool, _ width: (Int, Int) -> Int) -> Messages {
            let widths = ranks.map { rank in (0..<shares.chunkCount).map { width(rank, $0) * head } }
            var next = 0
            let firsts = widths.map { $0.map { width in
                defer { next += own * width }
                return next
            } }
            return Messages(isOutputs: isOutputs, widths: widths, firsts: firsts)
        }
        (self.group, self.shape, tokens, self.own) = (group, shape, split.tokens, own)
        (self.shares, counts) = (shares, ranks.map { split.count(of: $0) })
        firsts = ranks.map { rank in (0..<rank).reduce(0) { $0 + split.count(of: $1) } }
        // Enough rows for a message to be worth it, and not more messages than peers make necessary.
        parts = max(1, min(tokens / size / 128, 14 / max(size - 1, 1), 4))
        moves = Self.moves(shares, shape)
        let cut = Cut(parts: parts, chunks: shares.chunkCount, counts: counts, group: group)
        let heads = cut.exchanges(of: messages(isOutputs: false) { shares.columns(of: $0, chunk: $1) })
        let outputs = cut.exchanges(of: messages(isOutputs: true) { shares.queries(of: $0, chunk: $1) })
        (self.heads, self.outputs) = (heads, outputs)
        var next = 0
        keptFirsts = (0..<shares.chunkCount).map { chunk in
            defer {
                let queries = shares.queries(of: group.index, chunk: chunk)
                for columns in [heads.widths[group.index][chunk], outputs.widths[group.index][chunk], queries] {
                    next += Arena.padded(split.tokens * columns)
                }
            }
            return next
        }
    }

    /// Whether a task cut like `split` is of this shape.
    func fits(_ split: SequenceSplit, in group: Group) -> Bool {
        self.group == group && self.group.id == group.id
            && counts.indices.allSatisfy { counts[$0] == split.count(of: $0) }
    }

    private static func moves(_ shares: HeadShares, _ shape: AttentionShape) -> [Move] {
        var moves: [Move] = [], seen: Set<Int> = []
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
                    // A run's first key head alone can be one that a rank or a run before has as well.
                    let middle = run.keys.lowerBound + (seen.contains(run.keys.lowerBound) ? 1 : 0)
                    for first in [shape.heads, shape.heads + shape.keyHeads] {
                        add(run.keys.lowerBound..<middle, at: first, isShared: true)
                        add(middle..<run.keys.upperBound, at: first, isShared: false)
                    }
                    seen.formUnion(run.keys)
                }
            }
        }
        return moves
    }

    /// How rows and heads are cut into messages.
    private struct Cut {
        let parts: Int
        let chunks: Int
        let counts: [Int]
        let group: Group

        func exchanges(of kind: Messages) -> Messages {
            let size = group.size, own = group.index
            func rows(_ part: Int, _ rank: Int) -> Int { rowPart(part, of: parts, rows: counts[rank]).count }
            func exchanges(_ floats: (_ part: Int, _ chunk: Int, _ rank: Int) -> (sent: Int, received: Int))
                -> [Exchange] {
                (0..<parts).flatMap { part in
                    (0..<chunks).flatMap { chunk in
                        stride(from: 1, to: size, by: 1).map { distance in
                            let to = (own + distance) % size, from = (own + size - distance) % size
                            return Exchange(floats(part, chunk, to).sent, to: to, floats(part, chunk, from).received,
                                            from: from, in: group)
                        }
                    }
                }
            }
            var kind = kind
            let widths = kind.widths
            kind.there = exchanges { part, chunk, rank in
                (rows(part, own) * widths[rank][chunk], rows(part, rank) * widths[own][chunk])
            }
            kind.back = exchanges { part, chunk, rank in
                (rows(part, rank) * widths[own][chunk], rows(part, own) * widths[rank][chunk])
            }
            return kind
        }
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

    /// What a layer keeps of a chunk: what came, its outputs, and the logarithms of denominators.
    func kept(_ memory: Row, _ chunk: Int) -> (qkv: Matrix, out: Matrix, logSum: Matrix) {
        var next = keptFirsts[chunk]
        func take(_ rows: Int, _ columns: Int) -> Matrix {
            defer { next += Arena.padded(rows * columns) }
            return Matrix(memory.slice(next, rows * columns), rows: rows, columns: columns)
        }
        return (take(tokens, heads.widths[group.index][chunk]), take(tokens, outputs.widths[group.index][chunk]),
                take(shares.queries(of: group.index, chunk: chunk), tokens))
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
        let first = (part * chunks + chunk) * (size - 1) - 1
        for distance in stride(from: 1, to: size, by: 1) {
            let to = (own + distance) % size, from = (own + size - distance) % size
            let exchange = isBack ? kind.back[first + distance] : kind.there[first + distance]
            let (source, target) = isBack ? (place(to), block(from)) : (block(to), place(from))
            tickets.append(exchange.begin(source, into: target, communicator))
        }
    }

    private func slab(_ matrix: Matrix, _ rows: Range<Int>) -> Row {
        matrix.all.slice(rows.lowerBound * matrix.columns, rows.count * matrix.columns)
    }
}
