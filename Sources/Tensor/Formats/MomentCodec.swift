import CKernels

/// An optimizer's state in few bits: Adam's moments, and master weights, as rows of codes with a scale for each block.
///
/// After 2409.12517 (first moment in E4M3, second in E5M2, master weights in fp16 with a scale), but with a scale for
/// every 128 elements as in COAT (2410.19313), so that one large element costs the others no bits. A step decodes a
/// row, updates it in fp32, and encodes what comes out; codes and scales are the state, and all there is of it.
///
/// A second moment that is not zero never becomes zero: zero under the root, beside a first moment that is not, would
/// make the next update as large as m / eps. It becomes the format's smallest number at least.
///
/// What changes by less than half a step of its format from one update to the next stands still if it is rounded to
/// nearest: a second moment decays by a twentieth, and E5M2's steps are a seventh to a fourth, so it would grow and
/// never fall. Such state is rounded stochastically, and right on average.
public struct MomentCodec: Sendable, Hashable {
    public let format: NumberFormat
    /// Whether numbers that are not zero stay so.
    public let keepsFromZero: Bool
    /// Whether its rounding is stochastic where `store` is given a key.
    public let isStochastic: Bool
    /// Whether the root of each number is kept, which halves the exponents that they span.
    public let isRoot: Bool
    /// Neighbours that share a scale.
    public static let blockSize = 128

    public init(_ format: NumberFormat, keepsFromZero: Bool, isStochastic: Bool = false, isRoot: Bool = false) {
        self.format = format
        self.keepsFromZero = keepsFromZero
        self.isStochastic = isStochastic
        self.isRoot = isRoot
    }

    public static let firstMoment = MomentCodec(.e4m3, keepsFromZero: false)
    public static let secondMoment = MomentCodec(.e5m2, keepsFromZero: true)
    public static let masterWeight = MomentCodec(.fp16, keepsFromZero: false)

    /// Blocks of a row of `count` elements.
    public static func blocks(_ count: Int) -> Int { (count + blockSize - 1) / blockSize }

    /// Floats of memory that a block's codes take.
    public var blockFloats: Int { Codes.floats(format, rows: 1, columns: Self.blockSize) }

    /// Codes for one row of `count` elements. `memory`: `Codes.floats(format, rows: 1, columns: count)`.
    public func codes(_ count: Int, memory: Row) -> Codes {
        Codes(format, rows: 1, columns: count, memory: memory)
    }

    /// Encodes `x`; `scales` takes what each block's numbers were multiplied by, `blocks(x.count)` powers of two. False
    /// where something was infinite or not a number: such a state must not be kept. `x` is left as it will come back.
    public func encode(_ x: Row, to codes: Codes, scales: Row, _ rounding: Rounding = .nearest) -> Bool {
        requireShapes(codes, scales, x.count)
        guard largestMagnitude(x).isFinite else { return false }
        write(x, codes, scales, rounding)
        bringBack(x, scales)
        return true
    }

    /// The numbers that `encode` left.
    public func decode(_ codes: Codes, scales: Row, to out: Row) {
        requireShapes(codes, scales, out.count)
        codes.decode(row: 0, to: out)
        bringBack(out, scales)
    }

    /// Encodes a state that is kept whatever it holds: a block with something infinite or not a number comes back as
    /// not-a-numbers, which the next loss shows. `codes`: memory of whole blocks, as `blockFloats` says. `x` is used
    /// up. `key`: of the vector's first block, for stochastic rounding; blocks are its rows.
    public func store(_ x: Row, to codes: Row, scales: Row, _ key: RoundingKey? = nil) {
        let codes = self.codes(x.count, memory: codes)
        requireShapes(codes, scales, x.count)
        write(x, codes, scales, isStochastic ? key.map { .stochastic($0) } ?? .nearest : .nearest)
    }

    /// The numbers that `store` left.
    public func load(_ codes: Row, scales: Row, to out: Row) {
        decode(self.codes(out.count, memory: codes), scales: scales, to: out)
    }

    private func requireShapes(_ codes: Codes, _ scales: Row, _ count: Int) {
        precondition(codes.rows == 1 && codes.columns == count && codes.format == format
            && scales.count == Self.blocks(count), "a state's codes: shapes differ")
    }

    private func block(_ x: Row, _ index: Int) -> Row {
        let start = index * Self.blockSize
        return x.slice(start, min(Self.blockSize, x.count - start))
    }

    private func write(_ x: Row, _ codes: Codes, _ scales: Row, _ rounding: Rounding) {
        if isRoot {
            for i in laneStarts(x.count) { x[lanes: i] = x[lanes: i].root }
        }
        let largest = format.largest
        for index in 0..<scales.count {
            let amax = largestMagnitude(block(x, index))
            scales[index] = amax.isFinite ? ScaleRule.powerOfTwo.factor(amax: amax, largest: largest) ?? 1 : .nan
        }
        quantize(x, scales, rounding)
        codes.encode(x, row: 0)
    }

    private func quantize(_ x: Row, _ scales: Row, _ rounding: Rounding) {
        let smallest = Lanes(repeating: keepsFromZero ? format.smallest : 0)
        var loops = unsafe skein_quantizer()
        unsafe loops.format = format.loops
        unsafe loops.block_rows = 1
        unsafe loops.block_columns = Self.blockSize
        unsafe rounding.fill(&loops)
        let firstRow = unsafe loops.first_row
        for index in 0..<scales.count {
            let part = block(x, index)
            if keepsFromZero {
                // Before it is scaled, what is below the smallest number is raised to it; zeros stay.
                let least = smallest * (1 / scales[index])
                for i in laneStarts(part.count) {
                    let value = part[lanes: i]
                    part[lanes: i] = skein_where_less(.zero, value, value.atLeast(least), value)
                }
            }
            unsafe loops.scales = UnsafePointer(scales.slice(index, 1).pointer)
            unsafe loops.first_row = firstRow + index
            unsafe skein_quantize_row(&loops, 0, 0, part.count, part.pointer, part.pointer)
        }
    }

    private func bringBack(_ x: Row, _ scales: Row) {
        for index in 0..<scales.count {
            let part = block(x, index), inverse = 1 / scales[index]
            for i in laneStarts(part.count) {
                let value = part[lanes: i] * inverse
                part[lanes: i] = isRoot ? value * value : value
            }
        }
    }
}
