import Recipe
import Tensor

/// A linear layer, y = x W^T, as a training step uses it: forward, gradient of the input, gradient of the weight.
///
/// The layers of a block say when and on which rows; how a product is made (whose kernels, what is packed, into how
/// many tiles it is cut) is said here and nowhere else. Each element of a product is one chain over the depth, so no
/// cut changes a bit (`Gemm`). Several named parameters that lie side by side are one weight: queries, keys, values.
///
/// Where its operands are quantised, a product's bits also depend on their scales and on nothing else (`DotGemm`); sums
/// of a weight's gradient are then made for at most 1,024 tokens at a time and added up.
struct Linear: Sendable {
    let weight: Matrix           // [out, in]
    let matmul: Recipe.Matmul
    /// Nil: fp32.
    var quantised: QuantisedLinear?
    /// What its input is smoothed by before it is quantised.
    var smoothing: Smoothing?

    /// y[T, out] = x[T, in] W^T. `pieces`: of a cuttable layer, into how many equal parts its inputs are cut.
    func forward(_ memory: inout PackingMemory, pieces: Int = 1) -> LinearProduct {
        guard pieces > 1 else { return product(isForward: true, &memory) }
        precondition(isCuttable, "scales, or another's sums, belong to all inputs")
        return LinearProduct(weight: weight, pieces: pieces, memory: &memory)
    }

    /// dX[T, in] = dY[T, out] W.
    func inputGradient(_ memory: inout PackingMemory) -> LinearProduct { product(isForward: false, &memory) }

    private func product(isForward: Bool, _ memory: inout PackingMemory) -> LinearProduct {
        guard let quantised else {
            return LinearProduct(weight: weight, turned: isForward, matmul: matmul, memory: &memory)
        }
        return LinearProduct(weight: weight, turned: isForward,
                             quantised: QuantisedProduct(quantised, weight: weight, isForward: isForward,
                                                         smoothing: smoothing, memory: &memory))
    }

    /// dW += dY^T x. dW: the gradient of `weight`. packedInput: scratch.
    func weightGradient(_ dW: Matrix, dY: Matrix, x: Matrix, packedInput: Row) -> WeightGradient {
        precondition(dW.rows == weight.rows && dW.columns == weight.columns, "a gradient of another weight")
        return WeightGradient(dW: dW, dY: dY, x: x, packedInput: packedInput, layer: self)
    }

    /// Whether its products can be made piece by piece, of some outputs or some inputs at a time, with the bits that
    /// they have at once.
    var isCuttable: Bool { quantised == nil && matmul == .own }

    /// The layer of some of its outputs, in fp32.
    func rows(_ start: Int, _ count: Int) -> Linear {
        Linear(weight: weight.rows(start, count), matmul: matmul)
    }

    /// Operations of its forward, or of either gradient, over `tokens` tokens.
    func flops(tokens: Int) -> Int { 2 * tokens * weight.rows * weight.columns }
}

/// Memory for the packed weights of one stage, given out from the front. `tokens` and `pool` are wanted where operands
/// are quantised: how many tokens the stage has, and who measures weights.
struct PackingMemory {
    let tokens: Int
    let pool: Pool?
    private let memory: Row
    private var used = 0

    init(_ memory: Row, tokens: Int = 0, pool: Pool? = nil) {
        self.memory = memory
        self.tokens = tokens
        self.pool = pool
    }

    mutating func take(rows: Int, columns: Int) -> PackedMatrix {
        PackedMatrix(take(PackedMatrix.floats(rows: rows, columns: columns)), rows: rows, columns: columns)
    }

    mutating func take(_ floats: Int) -> Row {
        defer { used += floats }
        return memory.slice(used, floats)
    }
}

/// One of a layer's two products with its weight on the right. The weight is packed once for all tokens; then any rows
/// of the left operand may be multiplied, on any thread.
struct LinearProduct: Sendable {
    private let weight: Matrix
    private let turned: Bool
    /// Nil where OpenBLAS multiplies, which packs by itself, and where operands are quantised.
    private let packed: PackedMatrix?
    private let quantised: QuantisedProduct?
    /// Where its depth is cut: into how many pieces, and where these lie packed one after the other.
    private var cut: (pieces: Int, memory: Row)?

    init(weight: Matrix, turned: Bool, quantised: QuantisedProduct) {
        self.weight = weight
        self.turned = turned
        packed = nil
        self.quantised = quantised
    }

    /// A forward's, whose depth is cut: it is multiplied by `piece`.
    init(weight: Matrix, pieces: Int, memory: inout PackingMemory) {
        precondition(weight.columns % pieces == 0, "pieces of a depth are equal")
        self.init(weight: weight, turned: true, packed: nil)
        cut = (pieces, memory.take(pieces * PackedMatrix.floats(rows: weight.columns / pieces, columns: weight.rows)))
    }

    private init(weight: Matrix, turned: Bool, packed: PackedMatrix?) {
        self.weight = weight
        self.turned = turned
        self.packed = packed
        quantised = nil
    }

    init(weight: Matrix, turned: Bool, matmul: Recipe.Matmul, memory: inout PackingMemory) {
        self.weight = weight
        self.turned = turned
        let (depth, width) = turned ? (weight.columns, weight.rows) : (weight.rows, weight.columns)
        packed = matmul == .own ? memory.take(rows: depth, columns: width) : nil
        quantised = nil
    }

    /// The product for some of its columns, which begin and end where `PackedMatrix.cuts`; of a cuttable layer.
    func columns(_ first: Int, _ count: Int) -> LinearProduct {
        guard let packed else { preconditionFailure("a product that is made at once") }
        return LinearProduct(weight: turned ? weight.rows(first, count) : weight.columns(first, count), turned: turned,
                             packed: packed.part(first, count))
    }

    /// The product over piece `number` of its depth: those of all pieces in ascending order, each added to the ones
    /// before, have the bits of one over the whole.
    func piece(_ number: Int) -> LinearProduct {
        guard let cut else { return self }
        let depth = weight.columns / cut.pieces, floats = cut.memory.count / cut.pieces
        return LinearProduct(weight: weight.columns(number * depth, depth), turned: true,
                             packed: PackedMatrix(cut.memory.slice(number * floats, floats), rows: depth,
                                                  columns: weight.rows))
    }

    var packingTiles: Int {
        if let cut { return cut.pieces * piece(0).packingTiles }
        return quantised?.packingTiles ?? packed?.packingTiles ?? 0
    }

    func pack(_ tile: Int, worker: Int = 0) {
        if cut != nil {
            let (number, own) = tile.quotientAndRemainder(dividingBy: piece(0).packingTiles)
            return piece(number).pack(own)
        }
        if let quantised { return quantised.pack(tile, worker: worker) }
        packed?.pack(tile, from: weight, transposed: turned)
    }

    /// All of it on this thread.
    func pack() { for tile in 0..<packingTiles { pack(tile) } }

    /// Whether the left operand must be there as a whole, and be measured, before any of it is multiplied.
    var needsWhole: Bool { quantised?.needsWhole ?? false }

    /// The left operand, all of it. `up`: the linear branch of SwiGLU, where it is its output.
    func measure(_ left: Matrix, up: Matrix? = nil, pool: Pool) {
        if needsWhole { quantised?.measure(left, up: up, pool: pool) }
    }

    /// out = left W^T, or left W, (+ out) for any number of rows, after packing. `start`: the first row's place among
    /// the stage's tokens; `worker` is this thread.
    func multiply(_ out: Matrix, _ left: Matrix, at start: Int = 0, worker: Int = 0, accumulate: Bool = false) {
        if let quantised {
            return quantised.multiply(out, left, at: start, worker: worker, accumulate: accumulate)
        }
        if let packed { return Gemm.times(out, left, packed, accumulate: accumulate) }
        if turned { return OpenBLAS.timesTransposed(out, left, weight, accumulate: accumulate) }
        OpenBLAS.times(out, left, weight, accumulate: accumulate)
    }
}

/// Packs the weights of a stage in one run of the pool.
func pack(_ first: LinearProduct, _ second: LinearProduct? = nil, _ third: LinearProduct? = nil, pool: Pool) {
    let one = first.packingTiles, two = one + (second?.packingTiles ?? 0)
    pool.run(two + (third?.packingTiles ?? 0), stage: "pack weights") { tile, worker in
        if tile < one { return first.pack(tile, worker: worker) }
        if tile < two { second?.pack(tile - one, worker: worker) } else { third?.pack(tile - two, worker: worker) }
    }
}
