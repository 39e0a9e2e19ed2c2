import CKernels

/// A matrix of numbers kept as their codes: four, eight or sixteen bits each, in rows that begin at whole floats of
/// memory. Six-bit formats take eight. Owns no memory.
public struct Codes: Sendable {
    public let format: NumberFormat
    public let rows: Int
    public let columns: Int
    private let memory: Matrix

    /// Bits that one number takes in memory.
    static func storedBits(_ format: NumberFormat) -> Int {
        precondition(format.bits <= 16, "\(format) has more than 16 bits; it is a way to round, not to store")
        return format.bits <= 4 ? 4 : format.bits <= 8 ? 8 : 16
    }

    private static func rowFloats(_ format: NumberFormat, _ columns: Int) -> Int {
        (columns * storedBits(format) + 31) / 32
    }

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
        let out = unsafe memory.row(index).bytes.baseAddress
        guard columns > 0, let out = unsafe out else { return }
        unsafe withUnsafePointer(to: format.loops) { loops in
            guard Self.storedBits(format) == 4 else {
                unsafe skein_encode(loops, columns, x.pointer, out)
                return
            }
            unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: columns) { codes in
                unsafe skein_encode(loops, columns, x.pointer, codes.baseAddress)
                unsafe skein_pack_nibbles(columns, codes.baseAddress, out.assumingMemoryBound(to: UInt8.self))
            }
        }
    }

    /// The values of row `index`, in the format's own units.
    public func decode(row index: Int, to out: Row) {
        precondition(out.count == columns, "decoding: shapes differ")
        let from = unsafe memory.row(index).bytes.baseAddress
        guard columns > 0, let from = unsafe from else { return }
        unsafe withUnsafePointer(to: format.loops) { loops in
            guard Self.storedBits(format) == 4 else {
                unsafe skein_decode(loops, columns, from, out.pointer)
                return
            }
            unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: columns) { codes in
                unsafe skein_unpack_nibbles(columns, from.assumingMemoryBound(to: UInt8.self), codes.baseAddress)
                unsafe skein_decode(loops, columns, codes.baseAddress, out.pointer)
            }
        }
    }

    /// The codes as memory, for checkpoints.
    public var bytes: UnsafeMutableRawBufferPointer { unsafe memory.all.bytes }
}
