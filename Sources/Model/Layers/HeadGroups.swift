import Recipe
import Tensor

/// How a layer makes queries, keys and values: in groups of heads, of which one is made and multiplied while the
/// strategy exchanges another (`AttentionStrategy.headGroups`); keys and values first, if it wants these sooner; or,
/// also where products cannot be cut, all at once.
struct HeadGroups: Sendable {
    /// Groups whose output is multiplied one after the other.
    let count: Int
    let isKeysFirst: Bool
    private let exchanged: Int
    private let shape: AttentionShape

    /// `isCuttable`: whether both products of the layer are.
    init(_ shape: AttentionShape, _ strategy: any AttentionStrategy, isCuttable: Bool) {
        let wanted = strategy.headGroups
        func cuts(_ parts: Int) -> Bool {
            isCuttable && shape.keyHeads % parts == 0
                && PackedMatrix.cuts(at: shape.keyHeads / parts * shape.headDim)
                && PackedMatrix.cuts(at: shape.heads / parts * shape.headDim)
        }
        count = cuts(wanted) ? wanted : 1
        isKeysFirst = count == 1 && strategy.wantsKeysFirst && cuts(1)
        (exchanged, self.shape) = (wanted, shape)
    }

    /// The strategy's groups that are there with group `group` of the layer.
    func exchanged(with group: Int) -> Range<Int> { count == 1 ? 0..<exchanged : group..<(group + 1) }

    /// Stages in which qkv is made, one after the other.
    var stages: Int { isKeysFirst ? 2 : count }

    /// Stretches of a stage's columns: queries, keys and values; or all in one.
    var strips: Int { count == 1 ? 1 : 3 }

    /// Where such a stretch lies, and how many of its first columns are rotated.
    func columns(_ strip: Int, of stage: Int) -> (first: Int, width: Int, turned: Int) {
        let (queries, keys) = (shape.heads * shape.headDim, shape.keyHeads * shape.headDim)
        if isKeysFirst { return stage == 0 ? (queries, 2 * keys, keys) : (0, queries, queries) }
        guard count > 1 else { return (0, shape.fusedColumns, queries + keys) }
        let width = (strip == 0 ? queries : keys) / count, first = strip == 0 ? 0 : queries + (strip - 1) * keys
        return (first + stage * width, width, strip == 2 ? 0 : width)
    }
}

/// Rotates queries and keys by their positions.
struct Turn: Sendable {
    let shape: AttentionShape
    let table: RotaryTable

    /// turned: [n, ...] queries and keys of the tokens from `start` on.
    func callAsFunction(_ turned: Matrix, _ batch: MicroBatch, from start: Int, inverse: Bool = false) {
        if let positions = batch.positions {
            rotary(turned, table: table, headDim: shape.headDim, positions: positions.slice(start, turned.rows),
                   inverse: inverse)
        } else {
            rotary(turned, table: table, headDim: shape.headDim, firstPosition: start, period: batch.sequence,
                   inverse: inverse)
        }
    }
}
