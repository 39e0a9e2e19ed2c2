import CKernels

/// The right operand of a product, B[k, n], as the kernel reads it: strips of columns, each contiguous over the depth.
///
/// A product that is cut into tiles by the rows of A would pack the same B again for every tile; packed once, it
/// serves all of them, and tiles may be as small as caches and threads like. Owns no memory.
public struct PackedMatrix: Sendable {
    /// The depth k.
    public let rows: Int
    /// n; memory has room for whole tiles.
    public let columns: Int
    let memory: Row

    /// What one tile of packing covers: whole strips of every build, so that memory and work are functions of shapes.
    private static let tile = 64
    /// And so many rows, since a few columns may be very deep: a small layer's weights are tiles enough for sixteen
    /// threads then.
    private static let tileDepth = 64

    /// Floats that B[rows, columns] takes when packed.
    public static func floats(rows: Int, columns: Int) -> Int { rows * ((columns + tile - 1) / tile * tile) }

    /// Nothing is packed yet. Uses the first `floats` of `memory`.
    public init(_ memory: Row, rows: Int, columns: Int) {
        precondition(Self.tile % skein_strip_width() == 0, "a tile is whole strips")
        self.rows = rows
        self.columns = columns
        self.memory = memory.slice(0, Self.floats(rows: rows, columns: columns))
    }

    /// Whether columns from `first` on can be multiplied by themselves.
    public static func cuts(at first: Int) -> Bool { first % tile == 0 }

    /// Some of the columns, which lie where they were packed with all of them. They begin where `cuts` says.
    public func part(_ first: Int, _ count: Int) -> PackedMatrix {
        precondition(Self.cuts(at: first) && first + count <= columns, "packed columns are cut between tiles")
        return PackedMatrix(memory.slice(first * rows, Self.floats(rows: rows, columns: count)), rows: rows,
                            columns: count)
    }

    /// Tiles of columns that a vector is multiplied by.
    public var tiles: Int { (columns + Self.tile - 1) / Self.tile }
    /// Packing is so many tiles of work, in any order, on any threads.
    public var packingTiles: Int { tiles * ((rows + Self.tileDepth - 1) / Self.tileDepth) }

    /// Packs one tile of B = x, or of B = x^T where x is stored [n, k].
    public func pack(_ number: Int, from x: Matrix, transposed: Bool) {
        precondition((transposed ? x.columns : x.rows) == rows && (transposed ? x.rows : x.columns) == columns,
                     "packing: shapes differ")
        let own = columns(of: number % tiles), first = number / tiles * Self.tileDepth
        let source = transposed ? x.rows(own.lowerBound, own.count) : x.columns(own.lowerBound, own.count)
        let out = memory.slice(own.lowerBound * rows, Self.floats(rows: rows, columns: own.count))
        unsafe skein_pack(own.count, rows, first, min(Self.tileDepth, rows - first), source.all.pointer,
                          source.stride, transposed ? 1 : 0, out.pointer)
    }

    /// Packs all of it on this thread.
    public func pack(_ x: Matrix, transposed: Bool) {
        for number in 0..<packingTiles { pack(number, from: x, transposed: transposed) }
    }

    /// The columns of one tile.
    public func columns(of tile: Int) -> Range<Int> {
        (tile * Self.tile)..<min((tile + 1) * Self.tile, columns)
    }

    /// y = x B (+ y), one tile of its columns: x [k], y [n]. The bits of `Gemm.times` with one row.
    public func multiply(_ x: Row, into y: Row, tile: Int, accumulate: Bool = false) {
        precondition(x.count == rows && y.count == columns, "vector by matrix: shapes differ")
        let own = columns(of: tile)
        let packed = memory.slice(own.lowerBound * rows, memory.count - own.lowerBound * rows)
        let out = y.slice(own.lowerBound, own.count)
        unsafe skein_vector_packed(own.count, rows, x.pointer, packed.pointer, out.pointer, accumulate ? 1 : 0)
    }

    /// Y = X B (+ Y), one tile of its columns: X [m, k], Y [m, n]. The bits of `Gemm.times`. A single row goes the way
    /// above, which reads the weights faster.
    public func multiply(_ x: Matrix, into y: Matrix, tile: Int, accumulate: Bool = false) {
        precondition(x.columns == rows && y.columns == columns && x.rows == y.rows, "rows by matrix: shapes differ")
        if x.rows == 1 { return multiply(x.row(0), into: y.row(0), tile: tile, accumulate: accumulate) }
        let own = columns(of: tile), out = y.columns(own.lowerBound, own.count)
        let packed = memory.slice(own.lowerBound * rows, memory.count - own.lowerBound * rows)
        guard x.rows > 0 else { return }
        unsafe skein_gemm_packed(x.rows, own.count, rows, x.all.pointer, x.stride, 0, packed.pointer,
                                 out.all.pointer, out.stride, accumulate ? 1 : 0)
    }

    /// Copies column `index`, which is [k], out of the strips: a word's embedding where the head is packed.
    public func copy(column index: Int, to row: Row) {
        precondition(index >= 0 && index < columns && row.count == rows, "no such column")
        let strip = index / skein_strip_width() * skein_strip_width(), place = index - strip
        for p in 0..<rows { row[p] = memory[strip * rows + p * skein_strip_width() + place] }
    }
}
