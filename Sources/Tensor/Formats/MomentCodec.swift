import CKernels

/// An optimizer's state in few bits: Adam's moments, and master weights, as rows of codes with a scale for each block.
///
/// After 2409.12517 (first moment in E4M3, second in E5M2, master weights in fp16 with a scale), but with a scale for
/// every 128 elements as in COAT (2410.19313), so that one large element costs the others no bits. A step decodes a
/// row, updates it in fp32, and encodes what comes out; codes and scales are the state, and all there is of it.
///
/// A second moment that is not zero never becomes zero: zero under the root, beside a first moment that is not, would
/// make the next update as large as m / eps. It becomes the format's smallest number at least.
public struct MomentCodec: Sendable, Hashable {
    public let format: NumberFormat
    /// Whether numbers that are not zero stay so.
    public let keepsFromZero: Bool
    /// Neighbours that share a scale.
    public static let blockSize = 128

    public init(_ format: NumberFormat, keepsFromZero: Bool) {
        self.format = format
        self.keepsFromZero = keepsFromZero
    }

    public static let firstMoment = MomentCodec(.e4m3, keepsFromZero: false)
    public static let secondMoment = MomentCodec(.e5m2, keepsFromZero: true)
    public static let masterWeight = MomentCodec(.fp16, keepsFromZero: false)

    /// Blocks of a row of `count` elements.
    public static func blocks(_ count: Int) -> Int { (count + blockSize - 1) / blockSize }

    /// Codes for one row of `count` elements. `memory`: `Codes.floats(format, rows: 1, columns: count)`.
    public func codes(_ count: Int, memory: Row) -> Codes {
        Codes(format, rows: 1, columns: count, memory: memory)
    }

    /// Encodes `x`; `scales` takes what each block's numbers were multiplied by, `blocks(x.count)` powers of two. False
    /// where something was infinite or not a number: such a state must not be kept. `x` is left as it will come back.
    public func encode(_ x: Row, to codes: Codes, scales: Row, _ rounding: Rounding = .nearest) -> Bool {
        precondition(codes.rows == 1 && codes.format == format && scales.count == Self.blocks(x.count),
                     "encoding a state: shapes differ")
        guard largestMagnitude(x).isFinite else { return false }
        let largest = format.largest
        for index in 0..<scales.count {
            let amax = largestMagnitude(block(x, index))
            scales[index] = ScaleRule.powerOfTwo.factor(amax: amax, largest: largest) ?? 1
        }
        quantize(x, scales, rounding)
        codes.encode(x, row: 0)
        unscale(x, scales)
        return true
    }

    /// The numbers that `encode` left.
    public func decode(_ codes: Codes, scales: Row, to out: Row) {
        precondition(codes.rows == 1 && codes.format == format && scales.count == Self.blocks(out.count),
                     "decoding a state: shapes differ")
        codes.decode(row: 0, to: out)
        unscale(out, scales)
    }

    private func block(_ x: Row, _ index: Int) -> Row {
        let start = index * Self.blockSize
        return x.slice(start, min(Self.blockSize, x.count - start))
    }

    private func quantize(_ x: Row, _ scales: Row, _ rounding: Rounding) {
        let smallest = Lanes(repeating: keepsFromZero ? format.smallest : 0)
        for index in 0..<scales.count where keepsFromZero {
            // Before it is scaled, what is below the smallest number is raised to it; zeros stay.
            let part = block(x, index), least = smallest * (1 / scales[index])
            for i in laneStarts(part.count) {
                let value = part[lanes: i]
                part[lanes: i] = skein_where_less(.zero, value, value.atLeast(least), value)
            }
        }
        var loops = unsafe skein_quantizer()
        unsafe loops.format = format.loops
        unsafe loops.block_rows = 1
        unsafe loops.block_columns = Self.blockSize
        unsafe loops.scales = UnsafePointer(scales.pointer)
        unsafe rounding.fill(&loops)
        unsafe skein_quantize_row(&loops, 0, 0, x.count, x.pointer, x.pointer)
    }

    private func unscale(_ x: Row, _ scales: Row) {
        for index in 0..<scales.count {
            let part = block(x, index), inverse = 1 / scales[index]
            for i in laneStarts(part.count) { part[lanes: i] = part[lanes: i] * inverse }
        }
    }
}
