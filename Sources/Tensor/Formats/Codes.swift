import CKernels

/// A matrix of numbers kept as their codes: four, eight or sixteen bits each, in rows that begin at whole floats of
/// memory. Six-bit formats take eight. Owns no memory.
public struct Codes: Sendable {
    public let format: NumberFormat
    public let rows: Int
    public let columns: Int
    private let memory: Matrix

    /// Bits that one number takes in memory.
    private static func storedBits(_ format: NumberFormat) -> Int {
        precondition(format.bits <= 16, "\(format) has more than 16 bits; it is a way to round, not to store")
        return format.bits <= 4 ? 4 : format.bits <= 8 ? 8 : 16
    }

    private static func rowFloats(_ format: NumberFormat, _ columns: Int) -> Int {
        (columns * storedBits(format) + 31) / 32
    }

    /// Numbers that go through a buffer together: 1,024 bytes of floats, which are taken from the stack.
    private static let part = 256

    /// Floats of memory that rows x columns codes take.
    public static func floats(_ format: NumberFormat, rows: Int, columns: Int) -> Int {
        rows * rowFloats(format, columns)
    }

    /// Uses the first `floats` of `memory`, whatever they hold.
    public init(_ format: NumberFormat, rows: Int, columns: Int, memory: Row) {
        self.format = format
        self.rows = rows
        self.columns = columns
        self.memory = Matrix(memory, rows: rows, columns: Self.rowFloats(format, columns))
    }

    /// Row `index` from values that lie on the format's grid (`Quantizer.quantize`). A NaN becomes the format's; where
    /// there is none, the largest number: who may meet one looks at the amax first.
    public func encode(_ x: Row, row index: Int) {
        precondition(x.count == columns, "encoding: shapes differ")
        unsafe withUnsafePointer(to: format.loops) { loops in
            for start in stride(from: 0, to: columns, by: Self.part) {
                unsafe encode(loops, x.slice(start, min(Self.part, columns - start)), index, start)
            }
        }
    }

    /// The values of row `index`, in the format's own units.
    public func decode(row index: Int, to out: Row) {
        precondition(out.count == columns, "decoding: shapes differ")
        unsafe withUnsafePointer(to: format.loops) { loops in
            for start in stride(from: 0, to: columns, by: Self.part) {
                unsafe decode(loops, out.slice(start, min(Self.part, columns - start)), index, start)
            }
        }
    }

    /// Rows from `first` on from rows of x, quantised as the part of the tensor that begins at (row, column).
    public func store(_ x: Matrix, _ quantizer: Quantizer, first: Int = 0, row: Int = 0, column: Int = 0) {
        precondition(quantizer.format == format && x.columns == columns, "storing codes: formats or shapes differ")
        quantizer.requireInside(x, row, column)
        var loops = unsafe quantizer.loops(folded: false)
        unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: Self.part) { values in
            guard let base = values.baseAddress else { return }
            for index in 0..<x.rows {
                for start in stride(from: 0, to: columns, by: Self.part) {
                    let from = x.row(index).slice(start, min(Self.part, columns - start))
                    unsafe skein_quantize_row(&loops, row + index, column + start, from.count, from.pointer, base)
                    unsafe encode(&loops.format, Row(base, count: from.count), first + index, start)
                }
            }
        }
    }

    /// What rows from `first` on stand for: `Quantizer.roundTrip` of what was stored with these scales.
    public func load(_ out: Matrix, _ scales: Scales, first: Int = 0, row: Int = 0, column: Int = 0) {
        precondition(out.columns == columns && row + out.rows <= scales.rows && column + columns <= scales.columns,
                     "loading codes: shapes differ")
        for index in 0..<out.rows {
            let line = out.row(index)
            decode(row: first + index, to: line)
            scales.bringBack(line, row: row + index, column: column)
        }
    }

    /// The codes as memory, for checkpoints.
    public var bytes: UnsafeMutableRawBufferPointer { unsafe memory.all.bytes }

    private func address(_ row: Int, _ column: Int) -> UnsafeMutableRawPointer {
        unsafe UnsafeMutableRawPointer(memory.row(row).pointer) + column * Self.storedBits(format) / 8
    }

    private func encode(_ loops: UnsafePointer<skein_format>, _ x: Row, _ row: Int, _ column: Int) {
        let out = unsafe address(row, column)
        guard Self.storedBits(format) == 4 else {
            unsafe skein_encode(loops, x.count, x.pointer, out)
            return
        }
        unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Self.part) { codes in
            unsafe skein_encode(loops, x.count, x.pointer, codes.baseAddress)
            unsafe skein_pack_nibbles(x.count, codes.baseAddress, out.assumingMemoryBound(to: UInt8.self))
        }
    }

    private func decode(_ loops: UnsafePointer<skein_format>, _ out: Row, _ row: Int, _ column: Int) {
        let from = unsafe address(row, column)
        guard Self.storedBits(format) == 4 else {
            unsafe skein_decode(loops, out.count, from, out.pointer)
            return
        }
        unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Self.part) { codes in
            unsafe skein_unpack_nibbles(out.count, from.assumingMemoryBound(to: UInt8.self), codes.baseAddress)
            unsafe skein_decode(loops, out.count, codes.baseAddress, out.pointer)
        }
    }
}
