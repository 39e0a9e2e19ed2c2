import Base
import Bench
import Tensor
import Testing
import TestSupport

@Suite struct StochasticTests {
    private let key = RoundingKey(seed: 42, step: 7, tensor: 3, operand: 1, firstRow: 5)

    /// Rounding by definition: the neighbours below and above, and up if the element's own random number is below the
    /// distance from the lower one, in steps. 24 bits of it, or as many as a bf16-like format cuts off.
    private func reference(_ x: Float, _ reference: FormatReference, _ format: NumberFormat, word: UInt32) -> Float {
        let size = Double(x.magnitude), numbers = reference.magnitudes
        guard size < numbers[numbers.count - 1] else { return x.sign == .minus ? -format.largest : format.largest }
        var below = 0, above = numbers.count - 1
        while above - below > 1 {
            let middle = (below + above) / 2
            if numbers[middle] <= size { below = middle } else { above = middle }
        }
        let part = (size - numbers[below]) / (numbers[above] - numbers[below])
        let bits = format.exponentBits == 8 ? 23 - format.mantissaBits : 24
        let uniform = Double(word >> (32 - UInt32(bits))) / Double(1 << bits)
        let magnitude = Float(uniform < part ? numbers[above] : numbers[below])
        return x.sign == .minus ? -magnitude : magnitude
    }

    /// All formats, with the random words that the counter generator gives for (row, column).
    @Test(arguments: allFormats) func followsItsRandomNumbers(_ format: NumberFormat) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (rows, columns) = (3, 150)
        let exponents = max(-120, Int(format.smallest.exponent) - 3)...min(120, Int(format.largest.exponent) + 1)
        let values = spread(rows * columns, seed: 9, exponents: exponents)
        let x = memory.matrix(values, rows, columns, gap: 1), out = memory.matrix(rows, columns)
        quantizer(format, memory, rows: rows, columns: columns, .stochastic(key)).quantize(out, x)
        let definition = FormatReference(format)
        let want = values.indices.map { index in
            reference(values[index], definition, format,
                      word: key.word(row: index / columns, column: index % columns))
        }
        #expect(bitMismatch(out.values, want, of: values) == nil, "\(format)")
    }

    /// What is on the grid stays, zeros keep their sign, infinities become the largest, NaN stays.
    @Test(arguments: [NumberFormat.e4m3, .e5m2, .e2m1, .int8, .bf16]) func theGridStays(_ format: NumberFormat) {
        let memory = FencedMemory()
        let numbers = FormatReference(format).magnitudes.prefix(3_000).map { Float($0) }
        let values = numbers + numbers.map { -$0 } + [.infinity, -.infinity, .nan]
        let out = memory.matrix(1, values.count)
        quantizer(format, memory, rows: 1, columns: values.count, .stochastic(key))
            .quantize(out, memory.matrix(values, 1, values.count))
        let want = Array(values.dropLast(3)) + [format.largest, -format.largest, .nan]
        #expect(bitMismatch(out.values, want) == nil)
    }

    /// Right on average: the mean over 40,000 random numbers is within five of its standard deviations, for numbers at
    /// many places between neighbours, subnormal ones too; and nothing but the two neighbours occurs.
    @Test(arguments: [NumberFormat.e4m3, .e5m2, .e2m1, .int8]) func isUnbiased(_ format: NumberFormat) {
        let count = 40_000, reference = FormatReference(format)
        for (number, size) in [0.01, 0.3, 0.77, 1.02, 1.49, 3.9].enumerated() {
            for start in [Double(format.smallest), 1] {
                let x = Float(start * size), memory = FencedMemory()
                let rows = memory.matrix(count, 1)
                rows.fill(x)
                let key = RoundingKey(seed: 3, step: number, tensor: 0, operand: 0)
                quantizer(format, memory, rows: count, columns: 1, .stochastic(key)).quantize(rows, rows)
                let results = Set(rows.values), mean = rows.values.reduce(0.0) { $0 + Double($1) } / Double(count)
                #expect(results.count <= 2 && results.allSatisfy { reference.rounded($0) == $0 })
                let below = Double(results.min() ?? 0), above = Double(results.max() ?? 0), share = Double(x) - below
                let deviation = (share * (above - Double(x)) / Double(count)).squareRoot()
                #expect(abs(mean - Double(x)) <= 5 * max(deviation, 1e-12), "\(format) \(x): \(mean)")
            }
        }
    }

    /// Seed, step, tensor, operand, row and column all matter.
    @Test func keysDiffer() {
        let first = RoundingKey(seed: 1, step: 1, tensor: 1, operand: 1)
        let others = [RoundingKey(seed: 2, step: 1, tensor: 1, operand: 1),
                      RoundingKey(seed: 1, step: 2, tensor: 1, operand: 1),
                      RoundingKey(seed: 1, step: 1, tensor: 2, operand: 1),
                      RoundingKey(seed: 1, step: 1, tensor: 1, operand: 2),
                      RoundingKey(seed: 1, step: 1, tensor: 1, operand: 1, firstRow: 1)]
        func words(_ key: RoundingKey) -> [UInt32] { (0..<200).map { key.word(row: 0, column: $0) } }
        #expect(Set(words(first)).count == 200)
        for other in others { #expect(Set(words(first)).isDisjoint(with: words(other))) }
        #expect(others[4].word(row: 0, column: 9) == first.word(row: 1, column: 9))
    }
}
