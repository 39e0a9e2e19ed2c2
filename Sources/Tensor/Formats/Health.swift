import CKernels

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What quantising does to a tensor's numbers, counted in one pass. Parts add up in any order but for the last bits of
/// two Double sums.
public struct QuantizationHealth: Sendable, Equatable {
    /// Sums of squares of what went in, and of what was lost.
    public var signal = 0.0
    public var noise = 0.0
    /// Elements beyond the format's largest number, which became that.
    public var saturated = 0
    /// Elements that became zero and were not.
    public var flushed = 0
    /// Infinities and not-a-numbers; they are in none of the other sums.
    public var notFinite = 0
    public var elements = 0
    /// The largest finite magnitude.
    public var amax: Float = 0

    public init() {}

    /// Looks at `x`, the part of a tensor that begins at (row, column).
    public init(_ x: Matrix, row: Int = 0, column: Int = 0, _ quantizer: Quantizer) {
        quantizer.requireInside(x, row, column)
        var sums = skein_health()
        unsafe withUnsafePointer(to: quantizer.loops(folded: false)) { loops in
            for index in 0..<x.rows {
                unsafe skein_quantize_health(loops, row + index, column, x.columns, x.row(index).pointer, &sums)
            }
        }
        (signal, noise, amax) = (sums.signal, sums.noise, sums.largest)
        (saturated, flushed, notFinite) = (Int(sums.saturated), Int(sums.flushed), Int(sums.not_finite))
        elements = x.rows * x.columns
    }

    /// Signal over noise in decibels. Infinite where nothing was lost.
    public var sqnr: Double { 10 * log10(signal / noise) }

    public mutating func add(_ other: QuantizationHealth) {
        signal += other.signal
        noise += other.noise
        saturated += other.saturated
        flushed += other.flushed
        notFinite += other.notFinite
        elements += other.elements
        amax = max(amax, other.amax)
    }
}
