import Base
import Tensor
import TestSupport

/// Every float format there is here, and every whole-number format.
let allFormats: [NumberFormat] = {
    var all: [NumberFormat] = []
    for convention in NumberFormat.Convention.allCases {
        for exponentBits in 1...8 {
            for mantissaBits in 0...10 {
                guard let format = try? NumberFormat(exponentBits: exponentBits, mantissaBits: mantissaBits,
                                                     convention: convention) else { continue }
                all.append(format)
            }
        }
    }
    return all + (2...11).compactMap { try? NumberFormat(integerBits: $0) }
}()

/// A tensor with a scale for all of it: 1, or another.
func quantizer(_ format: NumberFormat, _ memory: FencedMemory, rows: Int, columns: Int, scale: Float = 1,
               _ rounding: Rounding = .nearest) -> Quantizer {
    let scales = Scales(.tensor, rows: rows, columns: columns, foldable: true,
                        memory: memory.row(Scales.floats(.tensor, rows: rows, columns: columns)))
    scales.set(scale)
    return Quantizer(format, scales, rounding)
}

/// `x` rounded to `format`, and nothing else.
func rounded(_ x: [Float], _ format: NumberFormat) -> [Float] {
    let memory = FencedMemory()
    let matrix = memory.matrix(x, 1, x.count)
    quantizer(format, memory, rows: 1, columns: x.count).quantize(matrix, matrix)
    precondition(memory.isIntact, "written outside")
    return matrix.values
}

/// Numbers of many sizes: normal ones times powers of two.
func spread(_ count: Int, seed: UInt64, exponents: ClosedRange<Int>) -> [Float] {
    let rng = CounterRNG(seed: seed, stream: 77)
    return zip(normals(count, seed: Int(seed)), 0..<count).map { value, index in
        let exponent = exponents.lowerBound + rng.integer(below: exponents.count, at: UInt64(index))
        return Float(sign: .plus, exponent: exponent, significand: 1) * value
    }
}

/// The first place where bits differ, in a line; nil when none does. All not-a-numbers are one.
func bitMismatch(_ got: [Float], _ want: [Float], of inputs: [Float] = []) -> String? {
    guard got.count == want.count else { return "\(got.count) values for \(want.count)" }
    let wrong = got.indices.filter {
        got[$0].bitPattern != want[$0].bitPattern && !(got[$0].isNaN && want[$0].isNaN)
    }
    guard let first = wrong.first else { return nil }
    let input = inputs.isEmpty ? "" : ", of \(inputs[first])"
    return "\(wrong.count) of \(got.count) differ, the first at \(first): \(got[first]) for \(want[first])\(input)"
}
