import Base
import CKernels

/// How a number between two neighbours of a format finds its place.
public enum Rounding: Sendable, Equatable {
    /// To the nearer one; in the middle, to the one whose last bit is 0.
    case nearest
    /// To the upper one with the probability that the distance from the lower one has in the step: right on average.
    case stochastic(RoundingKey)
}

extension Rounding {
    /// Tells the C loops.
    func fill(_ loops: inout skein_quantizer) {
        guard case .stochastic(let key) = self else { return }
        let (seed, stream) = (key.generator.seed, key.generator.stream)
        unsafe loops.is_stochastic = 1
        unsafe loops.key = (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
        unsafe loops.stream = (UInt32(truncatingIfNeeded: stream), UInt32(truncatingIfNeeded: stream >> 32))
        unsafe loops.first_row = key.firstRow
    }
}

/// Which random numbers round a tensor: a function of the run's seed, the step, the tensor, the operand it is made for,
/// and an element's row and column. So they do not depend on how rows are cut over ranks, micro-batches or threads.
public struct RoundingKey: Sendable, Equatable {
    let generator: CounterRNG
    /// Where the tensor's first row lies among those of all ranks and micro-batches.
    public var firstRow: Int

    /// `tensor` and `operand` number what is rounded in a step: up to 2^24 and 2^8 of them.
    public init(seed: UInt64, step: Int, tensor: Int, operand: Int, firstRow: Int = 0) {
        precondition((0..<1 << 32).contains(step) && (0..<1 << 24).contains(tensor) && (0..<256).contains(operand),
                     "a rounding key out of range")
        // Apart from the streams that draw weights and the order of data under the same seed.
        generator = CounterRNG(seed: seed ^ 0x524F_554E_4449_4E47,
                               stream: UInt64(step) << 32 | UInt64(tensor) << 8 | UInt64(operand))
        self.firstRow = firstRow
    }

    /// The word that rounds element (row, column): the one that the C loops find for sixteen columns at once.
    package func word(row: Int, column: Int) -> UInt32 {
        let block = column / 64 * 16 + column % 16
        return generator.block(at: UInt64(firstRow + row) << 32 | UInt64(block))[column / 16 % 4]
    }
}

/// Rounds a tensor's elements to a format: Q(x * factor). The one quantiser of the house; products, codes and moments
/// use it. Numbers beyond the format's largest become that (OCP's saturating conversion), infinities too; NaN stays.
public struct Quantizer: Sendable {
    public let format: NumberFormat
    public let scales: Scales
    public var rounding: Rounding

    public init(_ format: NumberFormat, _ scales: Scales, _ rounding: Rounding = .nearest) {
        self.format = format
        self.scales = scales
        self.rounding = rounding
    }

    /// For the C loops. `folded`: elements get their inverse scale back.
    func loops(folded: Bool) -> skein_quantizer {
        var quantizer = unsafe skein_quantizer()
        unsafe quantizer.format = format.loops
        unsafe quantizer.scales = UnsafePointer(scales.factors.all.pointer)
        unsafe quantizer.folds = folded ? UnsafePointer(scales.inverses.all.pointer) : nil
        unsafe quantizer.block_rows = scales.block.rows
        unsafe quantizer.block_columns = scales.block.columns
        unsafe quantizer.scale_row = scales.gridColumns
        unsafe rounding.fill(&quantizer)
        return unsafe quantizer
    }

    /// out = Q(x * factor), in the format's own units. `x` is the part of the tensor that begins at (row, column);
    /// it may be `out`.
    public func quantize(_ out: Matrix, _ x: Matrix, row: Int = 0, column: Int = 0) {
        run(out, x, row, column, folded: false)
    }

    /// out = Q(x * factor) * inverse * tensorInverse: what the quantised tensor stands for.
    public func roundTrip(_ out: Matrix, _ x: Matrix, row: Int = 0, column: Int = 0) {
        run(out, x, row, column, folded: true)
        let factor = scales.tensorInverse
        guard factor != 1 else { return }
        for index in 0..<out.rows {
            let row = out.row(index)
            for i in laneStarts(row.count) { row[lanes: i] = row[lanes: i] * factor }
        }
    }

    private func run(_ out: Matrix, _ x: Matrix, _ row: Int, _ column: Int, folded: Bool) {
        precondition(out.rows == x.rows && out.columns == x.columns, "quantising: shapes differ")
        requireInside(x, row, column)
        unsafe withUnsafePointer(to: loops(folded: folded)) { loops in
            for index in 0..<x.rows {
                unsafe skein_quantize_row(loops, row + index, column, x.columns, x.row(index).pointer,
                                          out.row(index).pointer)
            }
        }
    }

    func requireInside(_ x: Matrix, _ row: Int, _ column: Int) {
        precondition(row >= 0 && column >= 0 && row + x.rows <= scales.rows && column + x.columns <= scales.columns,
                     "a part outside the tensor that has these scales")
    }
}

extension NumberFormat {
    /// The nearest number of the format, ties to even; beyond the largest, the largest.
    public func rounded(_ x: Float) -> Float {
        var value = x
        unsafe withUnsafeMutablePointer(to: &value) { unsafe round(Row($0, count: 1)) }
        return value
    }

    /// The same for each element of a row, in place.
    public func round(_ x: Row) {
        var one: Float = 1
        var quantizer = unsafe skein_quantizer()
        unsafe quantizer.format = loops
        unsafe quantizer.block_rows = 1
        unsafe quantizer.block_columns = max(x.count, 2)
        unsafe withUnsafePointer(to: &one) { one in
            unsafe quantizer.scales = one
            unsafe skein_quantize_row(&quantizer, 0, 0, x.count, x.pointer, x.pointer)
        }
    }
}
