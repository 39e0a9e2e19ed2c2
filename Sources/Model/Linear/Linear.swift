import Recipe
import Tensor

/// A linear layer, y = x W^T, as a training step uses it: forward, gradient of the input, gradient of the weight.
///
/// The layers of a block say when and on which rows; how a product is made (whose kernels, what is packed, into how
/// many tiles it is cut) is said here and nowhere else. Each element of a product is one chain over the depth, so no
/// cut changes a bit (`Gemm`). Several named parameters that lie side by side are one weight: queries, keys, values.
struct Linear: Sendable {
    let weight: Matrix           // [out, in]
    let matmul: Recipe.Matmul

    /// y[T, out] = x[T, in] W^T.
    func forward(_ memory: inout PackingMemory) -> LinearProduct {
        LinearProduct(weight: weight, turned: true, matmul: matmul, memory: &memory)
    }

    /// dX[T, in] = dY[T, out] W.
    func inputGradient(_ memory: inout PackingMemory) -> LinearProduct {
        LinearProduct(weight: weight, turned: false, matmul: matmul, memory: &memory)
    }

    /// dW += dY^T x. dW: the gradient of `weight`. packedInput: scratch.
    func weightGradient(_ dW: Matrix, dY: Matrix, x: Matrix, packedInput: Row) -> WeightGradient {
        precondition(dW.rows == weight.rows && dW.columns == weight.columns, "a gradient of another weight")
        return WeightGradient(dW: dW, dY: dY, x: x, packedInput: packedInput, matmul: matmul)
    }

    /// The layer of some of its outputs.
    func rows(_ start: Int, _ count: Int) -> Linear {
        Linear(weight: weight.rows(start, count), matmul: matmul)
    }

    /// Operations of its forward, or of either gradient, over `tokens` tokens.
    func flops(tokens: Int) -> Int { 2 * tokens * weight.rows * weight.columns }
}

/// Memory for the packed weights of one stage, given out from the front.
struct PackingMemory {
    private let memory: Row
    private var used = 0

    init(_ memory: Row) { self.memory = memory }

    mutating func take(rows: Int, columns: Int) -> PackedMatrix {
        let floats = PackedMatrix.floats(rows: rows, columns: columns)
        defer { used += floats }
        return PackedMatrix(memory.slice(used, floats), rows: rows, columns: columns)
    }
}

/// One of a layer's two products with its weight on the right. The weight is packed once for all tokens; then any rows
/// of the left operand may be multiplied, on any thread.
struct LinearProduct: Sendable {
    private let weight: Matrix
    private let turned: Bool
    /// Nil where OpenBLAS multiplies, which packs by itself.
    private let packed: PackedMatrix?

    init(weight: Matrix, turned: Bool, matmul: Recipe.Matmul, memory: inout PackingMemory) {
        self.weight = weight
        self.turned = turned
        let (depth, width) = turned ? (weight.columns, weight.rows) : (weight.rows, weight.columns)
        packed = matmul == .own ? memory.take(rows: depth, columns: width) : nil
    }

    var packingTiles: Int { packed?.packingTiles ?? 0 }

    func pack(_ tile: Int) { packed?.pack(tile, from: weight, transposed: turned) }

    /// All of it on this thread.
    func pack() { for tile in 0..<packingTiles { pack(tile) } }

    /// out = left W^T, or left W, (+ out) for any number of rows, after packing.
    func multiply(_ out: Matrix, _ left: Matrix, accumulate: Bool = false) {
        if let packed { return Gemm.times(out, left, packed, accumulate: accumulate) }
        if turned { return OpenBLAS.timesTransposed(out, left, weight, accumulate: accumulate) }
        OpenBLAS.times(out, left, weight, accumulate: accumulate)
    }
}

/// Packs the weights of a stage in one run of the pool.
func pack(_ first: LinearProduct, _ second: LinearProduct? = nil, _ third: LinearProduct? = nil, pool: Pool) {
    let one = first.packingTiles, two = one + (second?.packingTiles ?? 0)
    pool.run(two + (third?.packingTiles ?? 0), stage: "pack weights") { tile, _ in
        if tile < one { return first.pack(tile) }
        if tile < two { second?.pack(tile - one) } else { third?.pack(tile - two) }
    }
}
