import Recipe
import Tensor

/// Heads in equal groups side by side, of which a layer makes and multiplies one while the strategy exchanges another
/// (`AttentionStrategy.headGroups`); or all of them at once, where products cannot be cut so.
struct HeadGroups: Sendable {
    /// Groups that are made and multiplied one after the other.
    let count: Int
    private let exchanged: Int
    private let shape: AttentionShape

    /// `wanted`: by the strategy. `isCuttable`: whether both products of the layer are.
    init(_ shape: AttentionShape, _ wanted: Int, isCuttable: Bool) {
        let divides = shape.keyHeads % wanted == 0
            && PackedMatrix.cuts(at: shape.keyHeads / wanted * shape.headDim)
            && PackedMatrix.cuts(at: shape.heads / wanted * shape.headDim)
        count = isCuttable && divides ? wanted : 1
        (exchanged, self.shape) = (wanted, shape)
    }

    /// The strategy's groups that are there with group `group` of the layer.
    func exchanged(with group: Int) -> Range<Int> { count == 1 ? 0..<exchanged : group..<(group + 1) }

    /// Stretches of a group's columns in qkv: queries, keys and values; or all in one.
    var strips: Int { count == 1 ? 1 : 3 }

    /// Where such a stretch lies, and how many of its columns are rotated.
    func columns(_ strip: Int, of group: Int) -> (first: Int, width: Int, turned: Int) {
        guard count > 1 else { return (0, shape.fusedColumns, (shape.heads + shape.keyHeads) * shape.headDim) }
        let heads = strip == 0 ? shape.heads : shape.keyHeads, width = heads / count * shape.headDim
        let first = (strip == 0 ? 0 : shape.heads + (strip - 1) * shape.keyHeads) * shape.headDim
        return (first + group * width, width, strip == 2 ? 0 : width)
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
