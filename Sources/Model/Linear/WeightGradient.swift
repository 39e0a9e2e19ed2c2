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
    private let layer: Linear

    init(dW: Matrix, dY: Matrix, x: Matrix, packedInput: Row, layer: Linear) {
        precondition(dY.rows == x.rows && dW.rows == dY.columns && dW.columns == x.columns, "dW: shapes differ")
        self.dW = dW
        self.dY = dY
        self.x = x
        self.packedInput = packedInput
        self.layer = layer
    }

    /// Two parts of it, one after the other, between which something else may be done: of the first and of the last
    /// tokens. They are cut where its tokens are anyway, so parts cost nothing; the second one may be empty. nil where
    /// tokens cannot be cut, because scales belong to all of them.
    var halves: (WeightGradient, WeightGradient)? {
        guard layer.quantised == nil, layer.matmul == .own else { return nil }
        let parts = (x.rows + depth - 1) / depth, middle = min(x.rows, (parts + 1) / 2 * depth)
        return (tokens(0, middle), tokens(middle, x.rows - middle))
    }

    private func tokens(_ start: Int, _ count: Int) -> WeightGradient {
        WeightGradient(dW: dW, dY: dY.rows(start, count), x: x.rows(start, count), packedInput: packedInput,
                       layer: layer)
    }

    /// Tokens that are taken at a time.
    private var depth: Int { ActivationSlots.packedTokens(width: dW.columns) }

    /// A multiple of sixteen tiles of at most 96 rows each, what a block of the kernel takes: threads of any power of
    /// two up to sixteen have the same share.
    static func tileRows(_ out: Int) -> Int {
        let tiles = (out + 16 * 96 - 1) / (16 * 96) * 16
        return (out + tiles - 1) / tiles
    }

    func run(pool: Pool, stage: StaticString) {
        if let quantised = layer.quantised { return run(quantised, pool, stage) }
        for start in stride(from: 0, to: x.rows, by: depth) {
            add(tokens: start, min(depth, x.rows - start), pool, stage)
        }
    }

    private func add(tokens start: Int, _ count: Int, _ pool: Pool, _ stage: StaticString) {
        let input = WeightInput(x.rows(start, count), memory: packedInput, matmul: layer.matmul)
        let dY = dY.rows(start, count), dW = dW, rows = Self.tileRows(dW.rows)
        input.pack(pool: pool)
        pool.run((dW.rows + rows - 1) / rows, stage: stage, flops: 2 * count * dW.rows * dW.columns) { tile, _ in
            let first = tile * rows, own = min(rows, dW.rows - first)
            input.add(to: dW.rows(first, own), dY: dY.columns(first, own))
        }
    }

    /// With both operands quantised. Tokens are the depth: they run down the rows of both tensors.
    private func run(_ quantised: QuantisedLinear, _ pool: Pool, _ stage: StaticString) {
        var memory = PackingMemory(packedInput)
        let ofOutput = quantised.operands.weightGradientOutput, ofInput = quantised.operands.weightGradientInput
        let outputScales = ofOutput.scales(rows: dY.rows, columns: dY.columns, depthAlongColumns: false, &memory)
        ofOutput.measure(dY, outputScales, pool: pool, scratch: quantised.workers)
        let inputScales = ofInput.scales(rows: x.rows, columns: x.columns, depthAlongColumns: false,
                                         by: layer.smoothing, &memory)
        if let smoothing = layer.smoothing {
            smoothing.set(inputScales, format: ofInput.format.number)
        } else {
            ofInput.measure(x, inputScales, pool: pool, scratch: quantised.workers)
        }
        quantised.look(dY, ofOutput.quantizer(outputScales), .weightGradientOutput, pool: pool)
        quantised.look(x, ofInput.quantizer(inputScales), .weightGradientInput, pool: pool)
        let (dW, dY, workers) = (dW, dY, quantised.workers), rows = Self.tileRows(dW.rows)
        let left = ofOutput.quantizer(outputScales), most = ActivationSlots.quantisedTokens(width: x.columns)
        let packing = memory.take(DotRight.floats(depth: min(most, x.rows), columns: x.columns))
        for start in stride(from: 0, to: x.rows, by: most) {
            let count = min(most, x.rows - start)
            let right = DotRight(x.rows(start, count), row: start, transposed: false, ofInput.quantizer(inputScales),
                                 memory: packing, path: quantised.path)
            pool.run(right.packingTiles, stage: "pack inputs") { tile, _ in right.pack(tile) }
            pool.run((dW.rows + rows - 1) / rows, stage: stage,
                     flops: 2 * count * dW.rows * dW.columns) { tile, worker in
                let first = tile * rows, own = min(rows, dW.rows - first)
                let packed = DotLeft(dY.rows(start, count).columns(first, own), row: start, column: first,
                                     transposed: true, left, memory: workers.row(worker), path: quantised.path)
                DotGemm.times(dW.rows(first, own), packed, right, accumulate: true)
            }
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
