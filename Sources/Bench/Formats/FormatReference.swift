import Tensor

/// A number format by definition, to hold the quantiser against: all of its magnitudes, written down in Double from
/// what a code means, and the nearest of them by comparing distances, which are exact. Nothing here looks at the bits
/// of a float or shares a line with the quantiser.
public struct FormatReference: Sendable {
    /// All magnitudes, ascending, from zero on; the position of one is its code without the sign.
    public let magnitudes: [Double]
    let format: NumberFormat

    public init(_ format: NumberFormat) {
        self.format = format
        magnitudes = format.exponentBits == 0
            ? (0..<(1 << format.mantissaBits)).map(Double.init)
            : Self.magnitudes(format.exponentBits, format.mantissaBits, format.convention)
    }

    private static func magnitudes(_ exponentBits: Int, _ mantissaBits: Int,
                                   _ convention: NumberFormat.Convention) -> [Double] {
        let mantissas = 1 << mantissaBits, exponents = 1 << exponentBits, bias = (exponents - 2) / 2
        func power(_ n: Int) -> Double {
            (0..<abs(n)).reduce(1.0) { product, _ in n < 0 ? product / 2 : product * 2 }
        }
        var all: [Double] = []
        for exponent in 0..<(convention == .ieee ? exponents - 1 : exponents) {
            for mantissa in 0..<mantissas {
                let fraction = Double(mantissa) / Double(mantissas)
                all.append(exponent == 0 ? fraction * power(1 - bias) : (1 + fraction) * power(exponent - bias))
            }
        }
        if convention == .ocp { all.removeLast() }
        return all
    }

    /// The position of the magnitude nearest to `x`, which is not negative: of two as near, the even one; without a
    /// mantissa none is even but zero, and it is the larger one. What is beyond the last is the last.
    public func nearest(_ x: Double) -> Int {
        guard x < magnitudes[magnitudes.count - 1] else { return magnitudes.count - 1 }
        var below = 0, above = magnitudes.count - 1
        while above - below > 1 {
            let middle = (below + above) / 2
            if magnitudes[middle] <= x { below = middle } else { above = middle }
        }
        let down = x - magnitudes[below], up = magnitudes[above] - x
        let isEven = format.mantissaBits == 0 ? below == 0 : below % 2 == 0
        if down == up { return isEven ? below : above }
        return down < up ? below : above
    }

    /// The nearest number of the format, with the sign of `x`; NaN of NaN.
    public func rounded(_ x: Float) -> Float {
        if x.isNaN { return x }
        let magnitude = Float(magnitudes[nearest(Double(x.magnitude))])
        return x.sign == .minus ? -magnitude : magnitude
    }

    /// Neighbouring floats, from zero to infinity, that round to the same magnitude: their bits, and its.
    func runs() -> [(bits: ClosedRange<UInt32>, rounded: UInt32)] {
        var runs: [(bits: ClosedRange<UInt32>, rounded: UInt32)] = []
        var first: UInt32 = 0
        let infinity = Float.infinity.bitPattern
        while first <= infinity {
            let code = nearest(Double(Float(bitPattern: first)))
            // The last float that still has this code, since codes rise with what is rounded.
            var last = first, beyond = infinity + 1
            while beyond - last > 1 {
                let middle = last + (beyond - last) / 2
                if nearest(Double(Float(bitPattern: middle))) == code { last = middle } else { beyond = middle }
            }
            runs.append((first...last, Float(magnitudes[code]).bitPattern))
            first = last + 1
        }
        return runs
    }
}

/// Rounds floats to `format` on all threads, and counts the results that are not the reference's; a NaN has to stay
/// one. `upperHalves` of floats' bits, each with all 2^16 lower halves: 0..<2^16 is every float.
public func mismatches(_ format: NumberFormat, against reference: FormatReference, upperHalves: Range<Int>,
                       pool: Pool) throws -> Int {
    let runs = reference.runs(), chunk = 1 << 13
    let arena = try Arena(name: "exhaustive check", capacity: pool.threads * Arena.padded(chunk) + 64)
    let memory = (0..<pool.threads).map { _ in arena.take(chunk) }
    let scales = Scales(.tensor, rows: 1, columns: chunk, foldable: true,
                        memory: arena.take(Scales.floats(.tensor, rows: 1, columns: chunk)))
    let quantizer = Quantizer(format, scales)
    let wrong = Doubles(count: upperHalves.count)
    pool.run(upperHalves.count, stage: "every float") { number, worker in
        let tile = upperHalves.lowerBound + number
        let row = memory[worker], matrix = Matrix(row, rows: 1, columns: chunk)
        var count = 0
        for start in stride(from: tile << 16, to: (tile + 1) << 16, by: chunk) {
            for index in 0..<chunk { row[index] = Float(bitPattern: UInt32(start + index)) }
            quantizer.quantize(matrix, matrix)
            count += mismatches(row, from: UInt32(start), runs)
        }
        wrong[number] = Double(count)
    }
    return (0..<wrong.count).reduce(0) { $0 + Int(wrong[$1]) }
}

/// `row` holds what became of the floats whose bits begin at `start`, all of one sign.
private func mismatches(_ row: Row, from start: UInt32, _ runs: [(bits: ClosedRange<UInt32>, rounded: UInt32)]) -> Int {
    let sign = start & 0x8000_0000, end = (start & 0x7FFF_FFFF) + UInt32(row.count)
    var magnitude = start & 0x7FFF_FFFF, count = 0
    // The first run that reaches here.
    var low = 0, high = runs.count
    while low < high {
        let middle = (low + high) / 2
        if runs[middle].bits.upperBound < magnitude { low = middle + 1 } else { high = middle }
    }
    for run in runs[low...] where magnitude < end && run.bits.lowerBound <= magnitude {
        let last = min(run.bits.upperBound, end - 1), want = run.rounded | sign
        let part = row.slice(Int(magnitude - (start & 0x7FFF_FFFF)), Int(last - magnitude) + 1)
        for index in 0..<part.count where part[index].bitPattern != want { count += 1 }
        magnitude = last + 1
    }
    for index in Int(magnitude - (start & 0x7FFF_FFFF))..<row.count where !row[index].isNaN { count += 1 }
    return count
}
