import Recipe
import Tensor

/// A weight's gradient, dW[out, in] += dY[T, out]^T x[T, in].
///
/// Tokens are its depth, and all of x is wanted by every row of dW; so tokens go by in parts, x's part is packed once
/// by all threads, and then each thread takes some rows of dW, for which it turns over its columns of dY.
struct WeightGradient: Sendable {
    let dW: Matrix
    let dY: Matrix
    let x: Matrix
    private let packedInput: Row
    private let matmul: Recipe.Matmul

    init(dW: Matrix, dY: Matrix, x: Matrix, packedInput: Row, matmul: Recipe.Matmul) {
        precondition(dY.rows == x.rows && dW.rows == dY.columns && dW.columns == x.columns, "dW: shapes differ")
        self.dW = dW
        self.dY = dY
        self.x = x
        self.packedInput = packedInput
        self.matmul = matmul
    }

    /// A multiple of sixteen tiles of at most 96 rows each, what a block of the kernel takes: threads of any power of
    /// two up to sixteen have the same share.
    static func tileRows(_ out: Int) -> Int {
        let tiles = (out + 16 * 96 - 1) / (16 * 96) * 16
        return (out + tiles - 1) / tiles
    }

    func run(pool: Pool, stage: StaticString) {
        let depth = ActivationSlots.packedTokens(width: dW.columns)
        for start in stride(from: 0, to: x.rows, by: depth) {
            add(tokens: start, min(depth, x.rows - start), pool, stage)
        }
    }

    private func add(tokens start: Int, _ count: Int, _ pool: Pool, _ stage: StaticString) {
        let input = WeightInput(x.rows(start, count), memory: packedInput, matmul: matmul)
        let dY = dY.rows(start, count), dW = dW, rows = Self.tileRows(dW.rows)
        input.pack(pool: pool)
        pool.run((dW.rows + rows - 1) / rows, stage: stage, flops: 2 * count * dW.rows * dW.columns) { tile, _ in
            let first = tile * rows, own = min(rows, dW.rows - first)
            input.add(to: dW.rows(first, own), dY: dY.columns(first, own))
        }
    }
}

/// The inputs that a weight's gradient is summed over, packed once for all rows of the weight.
struct WeightInput: Sendable {
    private let x: Matrix
    /// Nil where OpenBLAS multiplies.
    private let packed: PackedMatrix?

    init(_ x: Matrix, memory: Row, matmul: Recipe.Matmul) {
        self.x = x
        packed = matmul == .own ? PackedMatrix(memory, rows: x.rows, columns: x.columns) : nil
    }

    func pack(pool: Pool) {
        guard let packed else { return }
        let x = x
        pool.run(packed.packingTiles, stage: "pack inputs") { tile, _ in
            packed.pack(tile, from: x, transposed: false)
        }
    }

    /// dW[rows, in] += dY[T, rows]^T x, after packing, on any thread.
    func add(to dW: Matrix, dY: Matrix) {
        if let packed { return Gemm.transposedTimes(dW, dY, packed) }
        OpenBLAS.transposedTimes(dW, dY, x)
    }
}
