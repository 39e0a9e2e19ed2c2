import Base
import Bench
import Tensor
import Testing
import TestSupport

@Suite struct QuantizerTests {
    /// Of each format: its numbers, the middles between neighbours, and the floats next to both; what lies beyond its
    /// range on both sides; and anything. The larger formats have too many numbers: every so-many-th, and both ends.
    @Test(arguments: allFormats) func nearestIsTheReference(_ format: NumberFormat) {
        let reference = FormatReference(format), numbers = reference.magnitudes
        let step = max(1, numbers.count / 2_000)
        let last = numbers.count - 1
        let chosen = Set(stride(from: 0, to: last, by: step)).union(max(0, last - 40)..<last).union(0..<min(40, last))
        var inputs: [Float] = [0, .infinity, .greatestFiniteMagnitude, .leastNonzeroMagnitude, .leastNormalMagnitude,
                               format.largest.nextUp, format.largest * 1.5]
        for index in chosen.sorted() {
            for point in [numbers[index], (numbers[index] + numbers[index + 1]) / 2, numbers[index + 1]] {
                let float = Float(point)
                inputs += [float.nextDown, float, float.nextUp].filter { $0 >= 0 }
            }
        }
        let exponents = max(-126, Int(format.smallest.exponent) - 3)...min(126, Int(format.largest.exponent) + 2)
        inputs += spread(2_000, seed: 5, exponents: exponents)
        inputs += inputs.map { -$0 } + [.nan, -.nan]
        #expect(bitMismatch(rounded(inputs, format), inputs.map(reference.rounded), of: inputs) == nil, "\(format)")
    }

    /// FP8 over all exponents and signs, densely; `skein bench quantize --exhaustive` takes every float.
    @Test(arguments: [NumberFormat.e4m3, .e4m3IEEE, .e5m2]) func everyFewThousandthFloat(_ format: NumberFormat) {
        let reference = FormatReference(format)
        let inputs = stride(from: UInt32(0), through: UInt32.max - 2_039, by: 2_039).map { Float(bitPattern: $0) }
        #expect(bitMismatch(rounded(inputs, format), inputs.map(reference.rounded), of: inputs) == nil)
    }

    /// The check that the bench makes finds what it should: the same reference for another format does not fit.
    @Test func theReferenceCanSayNo() {
        let inputs = spread(1_000, seed: 1, exponents: -4...4)
        let other = FormatReference(.e4m3IEEE), own = FormatReference(.e5m2)
        #expect(bitMismatch(rounded(inputs, .e5m2), inputs.map(other.rounded)) != nil)
        #expect(bitMismatch(rounded(inputs, .e5m2), inputs.map(own.rounded)) == nil)
    }

    @Test func oneNumberAtATime() {
        for x: Float in [0, 0.3, -17, 449, .infinity] {
            #expect(NumberFormat.e4m3.rounded(x) == FormatReference(.e4m3).rounded(x))
        }
        #expect(NumberFormat.e4m3.rounded(.nan).isNaN)
    }

    static let grids: [Granularity] = [
        .tensor, .row, .column, .block(rows: 1, columns: 16), .block(rows: 1, columns: 7),
        .block(rows: 4, columns: 33), .block(rows: 128, columns: 128),
    ]

    /// Each element by its own scale, whatever the grid; in place or not, odd widths, gaps between rows.
    @Test(arguments: grids) func everyElementHasItsScale(_ grid: Granularity) {
        for (rows, columns) in [(1, 1), (5, 17), (9, 70), (3, 200)] {
            let memory = FencedMemory()
            defer { #expect(memory.isIntact) }
            let values = spread(rows * columns, seed: 3, exponents: -9...9)
            let x = memory.matrix(values, rows, columns, gap: 3), out = memory.matrix(rows, columns, gap: 1)
            let scales = Scales(grid, rows: rows, columns: columns, foldable: true,
                                memory: memory.row(Scales.floats(grid, rows: rows, columns: columns)))
            scales.measure(x, .powerOfTwo, format: .e4m3)
            let quantizer = Quantizer(.e4m3, scales), reference = FormatReference(.e4m3)
            let want = values.indices.map { index in
                reference.rounded(values[index] * scales.factor(row: index / columns, column: index % columns))
            }
            quantizer.quantize(out, x)
            #expect(bitMismatch(out.values, want) == nil, "\(grid) \(rows) x \(columns)")
            quantizer.roundTrip(out, x)
            let back = values.indices.map { index in
                want[index] * scales.inverse(row: index / columns, column: index % columns)
            }
            #expect(bitMismatch(out.values, back) == nil, "\(grid) \(rows) x \(columns)")
            quantizer.quantize(x, x)
            #expect(bitMismatch(x.values, want) == nil, "\(grid) in place")
        }
    }

    /// A tensor quantised part by part, rows or columns, is the tensor quantised whole; with random numbers too.
    @Test(arguments: [false, true]) func partsAreTheWhole(_ isStochastic: Bool) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (rows, columns) = (11, 150), grid = Granularity.block(rows: 4, columns: 32)
        let x = memory.matrix(normals(rows * columns, seed: 8), rows, columns, gap: 2)
        let scales = Scales(grid, rows: rows, columns: columns, foldable: true,
                            memory: memory.row(Scales.floats(grid, rows: rows, columns: columns)))
        scales.measure(x, .powerOfTwo, format: .e5m2)
        let key = RoundingKey(seed: 1, step: 2, tensor: 3, operand: 4, firstRow: 1_000)
        let quantizer = Quantizer(.e5m2, scales, isStochastic ? .stochastic(key) : .nearest)
        let whole = memory.matrix(rows, columns)
        quantizer.quantize(whole, x)
        let parts = memory.matrix(rows, columns)
        for (row, height) in [(0, 3), (3, 1), (4, 7)] {
            for (column, width) in [(0, 5), (5, 64), (69, 80), (149, 1)] {
                quantizer.quantize(parts.rows(row, height).columns(column, width),
                                   x.rows(row, height).columns(column, width), row: row, column: column)
            }
        }
        #expect(bitMismatch(parts.values, whole.values) == nil)
        // As another rank would have it, which holds the last rows only, from a whole block on.
        let theirs = Scales(grid, rows: 7, columns: columns, foldable: true,
                            memory: memory.row(Scales.floats(grid, rows: 7, columns: columns)))
        theirs.measure(x.rows(4, 7), .powerOfTwo, format: .e5m2)
        let theirKey = RoundingKey(seed: 1, step: 2, tensor: 3, operand: 4, firstRow: 1_004)
        let again = memory.matrix(7, columns)
        Quantizer(.e5m2, theirs, isStochastic ? .stochastic(theirKey) : .nearest).quantize(again, x.rows(4, 7))
        #expect(bitMismatch(again.values, Array(whole.values[(4 * columns)...])) == nil)
    }

    @Test func aPartOutsideItsTensorTraps() async {
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory()
            let x = memory.matrix(2, 3)
            quantizer(.e4m3, memory, rows: 2, columns: 3).quantize(x, x, row: 1)
        }
    }
}
