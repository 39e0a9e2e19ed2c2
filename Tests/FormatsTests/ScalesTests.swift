import Base
import Bench
import Tensor
import Testing
import TestSupport

@Suite struct ScaleRuleTests {
    /// A power of two, and the largest with which amax stays within the format; one more would not. Against Double
    /// arithmetic, at amaxes on both sides of every power of two, where logarithms of floats go wrong.
    @Test(arguments: [NumberFormat.e4m3, .e4m3IEEE, .e5m2, .e2m1, .int8]) func powersOfTwo(_ format: NumberFormat) {
        let largest = Double(format.largest)
        for exponent in -40...40 {
            let power = Float(sign: .plus, exponent: exponent, significand: 1)
            for amax in [power.nextDown, power, power.nextUp, power * 1.75, (power * 1.75).nextUp, power * 1.3] {
                guard let factor = ScaleRule.powerOfTwo.factor(amax: amax, format: format) else {
                    Issue.record("no scale for \(amax)")
                    continue
                }
                #expect(factor.significand == 1)
                #expect(Double(amax) * Double(factor) <= largest && Double(amax) * Double(factor) * 2 > largest)
                let down = ScaleRule.powerOfTwoClipping.factor(amax: amax, format: format) ?? 0
                // OCP's: amax lands in the binade of the largest number, be it beyond that number or not.
                #expect((amax * down).exponent == format.largest.exponent && down.significand == 1)
                let margin = ScaleRule.powerOfTwo.factor(amax: amax, format: format, margin: 2)
                #expect(margin == factor / 4)
                let free = ScaleRule.free.factor(amax: amax, format: format) ?? 0
                #expect(abs(Double(free) * Double(amax) / largest - 1) < 1e-7)
            }
        }
    }

    /// Nothing to go by: the caller keeps what it had. And no scale is so far out that two of them overflow together.
    @Test func guards() {
        for rule in [ScaleRule.powerOfTwo, .powerOfTwoClipping, .free] {
            for amax: Float in [0, -0.0, .infinity, .nan] { #expect(rule.factor(amax: amax, format: .e4m3) == nil) }
            for amax: Float in [.leastNonzeroMagnitude, 0x1p-126, 0x1p-70, 0x1p80, .greatestFiniteMagnitude] {
                let factor = rule.factor(amax: amax, format: .e4m3) ?? 0
                #expect(factor >= 0x1p-62 && factor <= 0x1p62, "\(rule) \(amax)")
            }
        }
    }
}

@Suite struct ScalesTests {
    static let grids: [Granularity] = [
        .tensor, .row, .column, .block(rows: 1, columns: 16), .block(rows: 3, columns: 5),
        .block(rows: 64, columns: 64),
    ]

    /// Each part has the scale of its own amax; zeros and infinities leave 1, and do not disturb their neighbours.
    @Test(arguments: grids) func everyBlockAsksForItsOwn(_ grid: Granularity) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (rows, columns) = (7, 83)
        var values = spread(rows * columns, seed: 4, exponents: -20...20)
        for column in 0..<16 { values[column] = 0 }
        values[3 * columns + 40] = .infinity
        values[5 * columns + 70] = .nan
        let x = memory.matrix(values, rows, columns, gap: 5)
        let scales = Scales(grid, rows: rows, columns: columns, foldable: false,
                            memory: memory.row(Scales.floats(grid, rows: rows, columns: columns)))
        for rule in [ScaleRule.powerOfTwo, .free] {
            measureInParts(scales, grid, x, rule)
            for row in 0..<rows {
                for column in 0..<columns {
                    let group = values.indices.filter { other in
                        switch grid {
                        case .tensor: true
                        case .row: other / columns == row
                        case .column: other % columns == column
                        case .block(let height, let width):
                            other / columns / height == row / height && other % columns / width == column / width
                        }
                    }.map { values[$0].magnitude }
                    let amax = group.allSatisfy(\.isFinite) ? group.reduce(0, max) : .infinity
                    let want = rule.factor(amax: amax, format: .e4m3) ?? 1
                    #expect(scales.factor(row: row, column: column) == want)
                    #expect(scales.inverse(row: row, column: column) == 1 / want)
                }
            }
        }
    }

    /// As threads would share it: rows of blocks, backwards, and of each the first two blocks apart.
    private func measureInParts(_ scales: Scales, _ grid: Granularity, _ x: Matrix, _ rule: ScaleRule) {
        let (rows, columns) = switch grid {
        case .tensor: (1, 1)
        case .row: (x.rows, 1)
        case .column: (1, x.columns)
        case .block(let height, let width): ((x.rows + height - 1) / height, (x.columns + width - 1) / width)
        }
        for gridRow in (0..<rows).reversed() {
            let cut = min(2, columns)
            for blocks in [cut..<columns, 0..<cut] {
                scales.measure(x, gridRow: gridRow, blocks: blocks, rule, format: .e4m3)
            }
        }
    }

    /// The largest magnitude, with infinities and not-a-numbers above all, wherever they stand.
    @Test func largest() {
        let memory = FencedMemory()
        for count in [0, 1, 15, 16, 17, 100] {
            let values = normals(count, seed: 2), row = memory.row(values)
            #expect(largestMagnitude(row) == values.reduce(0) { max($0, $1.magnitude) })
            for place in 0..<count {
                for odd in [Float.infinity, -.infinity, .nan, -.nan] {
                    row[place] = odd
                    #expect(odd.isNaN ? largestMagnitude(row).isNaN : largestMagnitude(row) == .infinity)
                }
                row[place] = values[place]
            }
        }
        let matrix = memory.matrix([1, -5, 2, 3], 2, 2, gap: 1)
        #expect(largestMagnitude(matrix) == 5)
    }

    /// The largest of the last steps, once a step; what is not finite, or zero, moves nothing.
    @Test func delayed() {
        var scale = DelayedScale(length: 3)
        func step(_ amaxes: [Float], margin: Int = 0) -> Float {
            for amax in amaxes { scale.record(amax) }
            scale.update(.powerOfTwo, format: .e4m3, margin: margin)
            return scale.factor
        }
        #expect(scale.factor == 1)
        #expect(step([]) == 1)                       // nothing seen: all zeros
        #expect(step([1, 7, 3]) == 64)               // 7 * 64 = 448
        #expect(step([1]) == 64)
        #expect(step([1]) == 64)                     // the 7 is the third step back
        #expect(step([1]) == 256)
        #expect(step([.infinity]) == 256 && scale.skipped == 1)
        #expect(step([2, .nan, 900]) == 256 && scale.skipped == 2)
        #expect(step([900]) == 0.25)
        #expect(step([1], margin: 2) == 0.0625)
        let again = DelayedScale(history: scale.history, next: scale.next, factor: scale.factor, skipped: scale.skipped)
        #expect(again == scale)
        #expect(DelayedScale(history: [1], next: 1, factor: 1, skipped: 0) == nil)
        #expect(DelayedScale(history: [.nan], next: 0, factor: 1, skipped: 0) == nil)
        #expect(DelayedScale(history: [1], next: 0, factor: 0, skipped: 0) == nil)
    }
}

@Suite struct BlockFormatTests {
    /// Microscaling by definition, in Double: a block's power of two, then the element format's reference.
    @Test(arguments: BlockFormat.all.filter { $0.scale != .twoLevels }) func microscaling(_ format: BlockFormat) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (rows, columns) = (4, 77), reference = FormatReference(format.element)
        let values = spread(rows * columns, seed: 6, exponents: -6...6)
        let out = roundTrip(format, values, rows, columns, memory)
        let isFloor = format.name.hasSuffix("-floor"), largest = Double(format.element.largest)
        for row in 0..<rows {
            for start in stride(from: 0, to: columns, by: format.blockSize) {
                let block = row * columns + start..<row * columns + min(start + format.blockSize, columns)
                let amax = Double(values[block].reduce(0) { max($0, $1.magnitude) })
                // The least power with which amax fits; or, by OCP's floor, with which it has the largest's binade.
                var power = 0x1p-60
                while amax / power > largest { power *= 2 }
                if isFloor {
                    power = 0x1p-60
                    while (amax / power).exponent > largest.exponent { power *= 2 }
                }
                for index in block {
                    let want = Double(reference.rounded(Float(Double(values[index]) / power))) * power
                    #expect(Double(out[index]) == want, "\(format) \(values[index])")
                }
            }
        }
    }

    /// NVFP4: an element is an E2M1 number times an E4M3 number times one factor of the tensor, and no farther from the
    /// value than half a step of the block; the block with the tensor's amax has E4M3's largest scale.
    @Test func twoLevels() throws {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (rows, columns) = (5, 50), format = try BlockFormat(named: "nvfp4")
        var values = spread(rows * columns, seed: 7, exponents: -4...4)
        for index in 16..<32 { values[index] = 0 }
        for index in 32..<48 { values[index] = 1e-7 }
        let x = memory.matrix(values, rows, columns)
        let scales = format.scales(rows: rows, columns: columns, memory: memory.row(
            Scales.floats(format.granularity, rows: rows, columns: columns)))
        format.measure(x, scales)
        let out = memory.matrix(rows, columns)
        Quantizer(format.element, scales).roundTrip(out, x)
        let scaleGrid = FormatReference(.e4m3), grid = FormatReference(.e2m1)
        var sawLargest = false
        for (index, value) in values.enumerated() {
            let (row, column) = (index / columns, index % columns)
            let stored = scales.inverse(row: row, column: column)
            #expect(scaleGrid.rounded(stored) == stored)
            sawLargest = sawLargest || stored == 448
            let unit = Double(stored) * Double(scales.tensorInverse), got = Double(out.row(row)[column])
            guard unit > 0 else {
                #expect(got == 0)
                continue
            }
            let element = grid.magnitudes.min { abs($0 - abs(got) / unit) < abs($1 - abs(got) / unit) } ?? 0
            #expect(abs(element * unit - abs(got)) <= 1e-6 * unit)
            // Steps are 0.5, 1 and 2 units; a scale rounded down by 1/16 at most lets 6.4 become 6.
            #expect(abs(got - Double(value)) <= (element < 2 ? 0.251 : element < 4 ? 0.501 : 1.001) * unit)
        }
        #expect(sawLargest)
        #expect(out.values[16..<48].allSatisfy { $0 == 0 })
    }

    private func roundTrip(_ format: BlockFormat, _ values: [Float], _ rows: Int, _ columns: Int,
                           _ memory: FencedMemory) -> [Float] {
        let x = memory.matrix(values, rows, columns, gap: 1)
        let scales = format.scales(rows: rows, columns: columns, memory: memory.row(
            Scales.floats(format.granularity, rows: rows, columns: columns)))
        format.measure(x, scales)
        Quantizer(format.element, scales).roundTrip(x, x)
        return x.values
    }

    @Test func names() throws {
        for format in BlockFormat.all { #expect(try BlockFormat(named: format.name.lowercased()) == format) }
        let fault = #expect(throws: BadInput.self) { try BlockFormat(named: "MXFP5") }
        #expect(fault?.description.contains("there are MXFP8, MXFP8-floor") == true)
        #expect(try BlockFormat(named: "MXFP4").bitsPerElement == 4.25)
    }
}
