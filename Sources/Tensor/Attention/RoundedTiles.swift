import CKernels

/// Attention's products where their operands are bf16: on the same dot products, with the same promise of bits, as
/// those of linear layers (`DotGemm`). Operands are rounded while they are packed.
///
/// Keys and values are packed once for a head, queries and the gradient of the output once for a block of 128 queries,
/// weights and their gradient for each block of 64 keys that these meet. A product adds the sum of its own depth to
/// what was there.
struct RoundedTiles {
    private let path: DotPath
    private let headDim: Int
    /// Keys, or values, as columns: [blocks][headDim, 64].
    private let keyColumns: Row
    private let valueColumns: Row
    /// Keys, or values, as rows: [blocks][64, headDim].
    private let rows: Row
    /// [128, headDim] each.
    private let queries: Row
    private let dOut: Row
    private let queryRows: Row
    private let dOutRows: Row
    /// [128, 64], or [64, 128].
    private let weights: Row

    private static let block = AttentionShape.block
    private static let queryBlock = AttentionShape.queryBlock

    /// What a head of so many blocks of keys takes.
    static func floats(blocks: Int, headDim: Int) -> Int {
        let columns = DotRight.floats(depth: headDim, columns: block)
        let rows = DotRight.floats(depth: block, columns: headDim)
        return 2 * Arena.padded(blocks * columns) + Arena.padded(blocks * rows)
            + 2 * Arena.padded(DotLeft.floats(rows: queryBlock, depth: headDim))
            + 2 * Arena.padded(DotRight.floats(depth: queryBlock, columns: headDim)) + Arena.padded(weightFloats)
    }

    private static var weightFloats: Int {
        max(DotLeft.floats(rows: queryBlock, depth: block), DotLeft.floats(rows: block, depth: queryBlock))
    }

    init(_ shape: AttentionShape, keys count: Int, memory: inout AttentionScratch) {
        let blocks = (count + Self.block - 1) / Self.block, headDim = shape.headDim
        (path, self.headDim) = (shape.path, headDim)
        let columns = DotRight.floats(depth: headDim, columns: Self.block)
        keyColumns = memory.row(blocks * columns)
        valueColumns = memory.row(blocks * columns)
        rows = memory.row(blocks * DotRight.floats(depth: Self.block, columns: headDim))
        queries = memory.row(DotLeft.floats(rows: Self.queryBlock, depth: headDim))
        dOut = memory.row(DotLeft.floats(rows: Self.queryBlock, depth: headDim))
        queryRows = memory.row(DotRight.floats(depth: Self.queryBlock, columns: headDim))
        dOutRows = memory.row(DotRight.floats(depth: Self.queryBlock, columns: headDim))
        weights = memory.row(Self.weightFloats)
    }

    // MARK: Packing

    /// Keys, or values, [n, headDim]: as the columns that queries, or the output's gradient, are multiplied by.
    func packColumns(keys: Matrix) { packColumns(keys, keyColumns) }
    func packColumns(values: Matrix) { packColumns(values, valueColumns) }

    private func packColumns(_ x: Matrix, _ out: Row) {
        for part in AttentionShape.Parts(of: x.rows, by: Self.block) {
            packRight(x.rows(part.lowerBound, part.count), transposed: true, columnBlock(out, part.lowerBound),
                      depth: headDim)
        }
    }

    /// Values in the forward, keys in the backward: as the rows that weights, or their gradient, are multiplied by.
    func packRows(_ x: Matrix) {
        for part in AttentionShape.Parts(of: x.rows, by: Self.block) {
            packRight(x.rows(part.lowerBound, part.count), transposed: false, rowBlock(part.lowerBound),
                      depth: Self.block)
        }
    }

    /// A block of queries, or of the output's gradient: for their products with columns.
    func pack(queries x: Matrix) { packLeft(x, transposed: false, queries) }
    func pack(dOut x: Matrix) { packLeft(x, transposed: false, dOut) }

    /// The same blocks as rows that are summed over: for the gradients of keys and values.
    func packRows(queries x: Matrix, dOut y: Matrix) {
        packRight(x, transposed: false, queryRows, depth: Self.queryBlock)
        packRight(y, transposed: false, dOutRows, depth: Self.queryBlock)
    }

    private func columnBlock(_ of: Row, _ key: Int) -> Row {
        let floats = DotRight.floats(depth: headDim, columns: Self.block)
        return of.slice(key / Self.block * floats, floats)
    }

    private func rowBlock(_ key: Int) -> Row {
        let floats = DotRight.floats(depth: Self.block, columns: headDim)
        return rows.slice(key / Self.block * floats, floats)
    }

    private func packLeft(_ x: Matrix, transposed: Bool, _ out: Row) {
        let (rows, depth) = transposed ? (x.columns, x.rows) : (x.rows, x.columns)
        precondition(DotLeft.floats(rows: rows, depth: depth) <= out.count, "no memory for a tile")
        unsafe withUnsafePointer(to: skein_to_bf16) { rounding in
            unsafe skein_dot_pack_left(path.number, rows, depth, rounding, 0, 0, x.all.pointer, x.stride,
                                       transposed ? 1 : 0, out.pointer)
        }
    }

    /// `depth`: of the tile, of which x may have less.
    private func packRight(_ x: Matrix, transposed: Bool, _ out: Row, depth: Int) {
        let (own, columns) = transposed ? (x.columns, x.rows) : (x.rows, x.columns)
        precondition(own <= depth && DotRight.floats(depth: depth, columns: columns) <= out.count,
                     "no memory for a tile")
        unsafe withUnsafePointer(to: skein_to_bf16) { rounding in
            unsafe skein_dot_pack_right(path.number, columns, depth, 0, own, rounding, 0, 0, x.all.pointer, x.stride,
                                        transposed ? 1 : 0, out.pointer)
        }
    }

    // MARK: Products

    /// out [rows, keys] = queries keys^T, for the first keys of a block (missing ones are zeros).
    func scores(_ out: Matrix, queries rows: Range<Int>, block: Int) {
        times(out, left: left(queries, rows), depth: headDim, right: columnBlock(keyColumns, block * Self.block),
              of: headDim, accumulate: false)
    }

    /// out [rows, keys] = dOut values^T.
    func slopes(_ out: Matrix, queries rows: Range<Int>, block: Int) {
        times(out, left: left(dOut, rows), depth: headDim, right: columnBlock(valueColumns, block * Self.block),
              of: headDim, accumulate: false)
    }

    /// out [rows, headDim] = weights times the rows of as many keys of a block (+ out): values, or keys.
    func sum(_ out: Matrix, weights x: Matrix, block: Int, accumulate: Bool) {
        packLeft(x, transposed: false, weights)
        times(out, left: weights, depth: x.columns, right: rowBlock(block * Self.block), of: Self.block,
              accumulate: accumulate)
    }

    /// dValues [keys, headDim] = weights^T dOut (+ dValues), where the weights are those of queries from `first` on.
    func addValues(_ dValues: Matrix, weights x: Matrix, from first: Int, accumulate: Bool) {
        packLeft(x, transposed: true, weights)
        times(dValues, left: weights, depth: x.rows, right: dOutRows, of: Self.queryBlock, from: first,
              accumulate: accumulate)
    }

    /// dKeys [keys, headDim] = dScores^T queries (+ dKeys), likewise.
    func addKeys(_ dKeys: Matrix, dScores x: Matrix, from first: Int, accumulate: Bool) {
        packLeft(x, transposed: true, weights)
        times(dKeys, left: weights, depth: x.rows, right: queryRows, of: Self.queryBlock, from: first,
              accumulate: accumulate)
    }

    private func left(_ of: Row, _ rows: Range<Int>) -> Row {
        let stride = skein_dot_left_row(path.number, headDim)
        return of.slice(rows.lowerBound * stride, rows.count * stride)
    }

    private func times(_ out: Matrix, left: Row, depth: Int, right: Row, of rightDepth: Int, from first: Int = 0,
                       accumulate: Bool) {
        precondition(first % 2 == 0 && first + depth <= rightDepth, "part of a tile")
        unsafe skein_dot_part(path.number, out.rows, out.columns, depth, left.pointer, depth, right.pointer, rightDepth,
                              first, out.all.pointer, out.stride, accumulate ? 1 : 0)
    }
}
