import CKernels

/// Products of quantised operands, C[m, n] = A[m, k] B[k, n]: each is rounded to a small format while it is packed.
///
/// A number of such a format, times a power of two, is a bf16 number, so products are exact in fp32 and only sums are
/// rounded. An element's sum is one chain over the depth, from +0: pairs in ascending order, in each the odd element
/// first, denormals flushed. It depends on its row of A and its column of B alone, on every path and however work is
/// cut (`CKernels/include/SkeinDot.h` has the contract). Scales come in at the end: the sum times `factor` of both
/// operands, times the row's, times the column's; where the product is added to C, it is added last.
public enum DotGemm {
    /// C = A B (+ C). C overlaps neither operand. Where it is not added to, it is not read.
    public static func times(_ c: Matrix, _ a: DotLeft, _ b: DotRight, accumulate: Bool = false) {
        precondition(c.rows == a.rows && c.columns == b.columns && a.depth == b.depth, "dot products: shapes differ")
        precondition(a.path == b.path, "operands packed for different paths")
        guard c.rows > 0, c.columns > 0 else { return }
        let factor = a.scaling.factor * b.scaling.factor
        let rows = unsafe a.scaling.each.map { unsafe UnsafePointer($0.pointer) }
        let columns = unsafe b.scaling.each.map { unsafe UnsafePointer($0.pointer) }
        unsafe skein_dot_gemm(a.path.number, c.rows, c.columns, a.depth, a.memory.pointer, b.memory.pointer, factor,
                              rows, columns, c.all.pointer, c.stride, accumulate ? 1 : 0)
    }

    /// Whether a tensor with these scales may be an operand with its depth along its columns, or along its rows:
    /// scales that stay with the elements must be powers of two (or two-level).
    public static func allows(_ scales: Scales, depthAlongColumns: Bool) -> Bool {
        scales.isFoldable || !scales.stay(depthAlongColumns: depthAlongColumns)
    }
}

/// What a product is multiplied by for one operand's scales.
struct OperandScaling: Sendable {
    /// For the whole operand.
    let factor: Float
    /// For each row of the left operand, or column of the right one. Nil: ones.
    let each: Row?
    /// Whether elements keep their inverse scales instead.
    let isFolded: Bool

    /// `outer`: the operand's rows (left) or columns (right), as rows or columns of the tensor.
    init(_ quantizer: Quantizer, depthAlongColumns: Bool, outer: Range<Int>) {
        precondition(quantizer.format.fitsBF16, "\(quantizer.format) has more than bf16's seven bits of mantissa")
        let scales = quantizer.scales
        precondition(DotGemm.allows(scales, depthAlongColumns: depthAlongColumns),
                     "free scales along the depth of a product; take powers of two, or one for each row")
        isFolded = scales.stay(depthAlongColumns: depthAlongColumns)
        let isSame = scales.gridRows == 1 && scales.gridColumns == 1
        factor = isSame ? scales.inverse(row: 0, column: 0) * scales.tensorInverse : scales.tensorInverse
        each = isFolded || isSame ? nil : scales.inverses.all.slice(outer.lowerBound, outer.count)
    }
}

extension Scales {
    /// Whether elements of an operand keep their scales in a product: where those change along the depth, or where
    /// several rows (columns) of it share one that others do not have.
    func stay(depthAlongColumns: Bool) -> Bool {
        let alongDepth = depthAlongColumns ? gridColumns : gridRows
        let (across, width) = depthAlongColumns ? (gridRows, block.rows) : (gridColumns, block.columns)
        return alongDepth > 1 || across > 1 && width > 1
    }
}

/// The left operand of a product, quantised and packed: some rows of a tensor, or some columns of one that is turned
/// over. It serves any number of products. Owns no memory.
public struct DotLeft: Sendable {
    public let rows: Int
    public let depth: Int
    let path: DotPath
    let memory: Row
    let scaling: OperandScaling

    /// Memory that rows x depth takes on any path.
    public static func floats(rows: Int, depth: Int) -> Int { rows * skein_dot_left_row(0, depth) }

    /// A[rows, k] = x, or x^T where x is [k, rows]. `x` is the part of the tensor that begins at (row, column) of what
    /// the quantiser's scales and random numbers count. Uses the first `floats` of `memory`. `isPacked`: an operand of
    /// this shape lies there already.
    public init(_ x: Matrix, row: Int = 0, column: Int = 0, transposed: Bool, _ quantizer: Quantizer, memory: Row,
                path: DotPath = .best, isPacked: Bool = false) {
        rows = transposed ? x.columns : x.rows
        depth = transposed ? x.rows : x.columns
        self.path = path
        self.memory = memory.slice(0, Self.floats(rows: rows, depth: depth))
        quantizer.requireInside(x, row, column)
        let first = transposed ? column : row
        scaling = OperandScaling(quantizer, depthAlongColumns: !transposed, outer: first..<(first + rows))
        guard !isPacked else { return }
        unsafe withUnsafePointer(to: quantizer.loops(folded: scaling.isFolded)) { loops in
            unsafe skein_dot_pack_left(path.number, rows, depth, loops, row, column, x.all.pointer, x.stride,
                                       transposed ? 1 : 0, self.memory.pointer)
        }
    }
}

/// The right operand, B[k, n], quantised once and packed for all rows of A that pass by: a weight, once a step. Packing
/// is cut into tiles that threads share. Owns no memory.
public struct DotRight: Sendable {
    /// k
    public let depth: Int
    /// n
    public let columns: Int
    let path: DotPath
    let memory: Row
    let scaling: OperandScaling
    private let x: Matrix
    private let place: (row: Int, column: Int)
    private let isTransposed: Bool
    private let quantizer: Quantizer

    /// What one tile of packing covers, of columns and of the depth: whole strips and whole pairs.
    private static let tile = 64
    private static let tileDepth = 128

    /// Memory that depth x columns takes on any path.
    public static func floats(depth: Int, columns: Int) -> Int { skein_dot_right_floats(columns, depth) }
    /// What it takes of it on one.
    static func floats(depth: Int, columns: Int, on path: DotPath) -> Int {
        skein_dot_words(path.number, depth) * ((columns + tile - 1) / tile * tile)
    }

    /// B = x, or x^T where x is [n, k]; nothing is packed yet. The scales have their values by now. The rest as in
    /// `DotLeft`.
    public init(_ x: Matrix, row: Int = 0, column: Int = 0, transposed: Bool, _ quantizer: Quantizer, memory: Row,
                path: DotPath = .best) {
        depth = transposed ? x.columns : x.rows
        columns = transposed ? x.rows : x.columns
        self.path = path
        self.memory = memory.slice(0, Self.floats(depth: depth, columns: columns, on: path))
        quantizer.requireInside(x, row, column)
        let first = transposed ? row : column
        scaling = OperandScaling(quantizer, depthAlongColumns: transposed, outer: first..<(first + columns))
        (self.x, place, isTransposed, self.quantizer) = (x, (row, column), transposed, quantizer)
    }

    private var columnTiles: Int { (columns + Self.tile - 1) / Self.tile }
    /// Packing is so many tiles of work, in any order, on any threads.
    public var packingTiles: Int { columnTiles * ((depth + Self.tileDepth - 1) / Self.tileDepth) }

    /// The elements of the tensor that a tile packs.
    public func source(_ number: Int) -> Matrix {
        let (start, count, first, steps) = place(of: number)
        return isTransposed ? x.rows(start, count).columns(first, steps) : x.rows(first, steps).columns(start, count)
    }

    /// Its columns, and its part of the depth.
    private func place(of number: Int) -> (start: Int, count: Int, first: Int, steps: Int) {
        let start = number % columnTiles * Self.tile, first = number / columnTiles * Self.tileDepth
        return (start, min(Self.tile, columns - start), first, min(Self.tileDepth, depth - first))
    }

    /// Quantises and packs one tile.
    public func pack(_ number: Int) {
        let (start, count, first, steps) = place(of: number)
        let source = isTransposed ? x.rows(start, count) : x.columns(start, count)
        let from = start * skein_dot_words(path.number, depth)
        let out = memory.slice(from, memory.count - from)
        unsafe withUnsafePointer(to: quantizer.loops(folded: scaling.isFolded)) { loops in
            unsafe skein_dot_pack_right(path.number, count, depth, first, steps, loops,
                                        place.row + (isTransposed ? start : 0),
                                        place.column + (isTransposed ? 0 : start), source.all.pointer, x.stride,
                                        isTransposed ? 1 : 0, out.pointer)
        }
    }

    /// All of it on this thread.
    public func pack() { for number in 0..<packingTiles { pack(number) } }
}
