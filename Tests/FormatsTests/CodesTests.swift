import Base
import Bench
import Tensor
import Testing
import TestSupport

@Suite struct CodesTests {
    /// Every code of every format of at most 8 bits, and of fp16 and bf16: it means what the reference says, and its
    /// value has that code again. Not-a-numbers have one code, and -128 is no number of a symmetric INT8.
    @Test(arguments: allFormats.filter { $0.bits <= 8 } + [.fp16, .bf16]) func everyCode(_ format: NumberFormat) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let count = 1 << format.bits, half = count / 2
        let floats = Codes.floats(format, rows: 1, columns: count)
        let codes = Codes(format, rows: 1, columns: count, memory: memory.row(floats))
        let bytes = unsafe codes.bytes
        for code in 0..<count {
            switch format.bits {
            case ...4:
                let old = code % 2 == 0 ? 0 : unsafe bytes[code / 2]
                unsafe bytes[code / 2] = old | UInt8(code) << (code % 2 == 0 ? 0 : 4)
            case ...8: unsafe bytes[code] = UInt8(code)
            default: unsafe bytes.storeBytes(of: UInt16(code), toByteOffset: 2 * code, as: UInt16.self)
            }
        }
        let before = unsafe [UInt8](bytes)
        let values = memory.row(count)
        codes.decode(row: 0, to: values)
        let numbers = FormatReference(format).magnitudes
        for code in 0..<count {
            let magnitude = format.isInteger && code > half ? count - code : code % half
            guard magnitude < numbers.count, !(format.isInteger && code == half) else { continue }
            let want = Float(numbers[magnitude])
            #expect(values[code] == (code >= half ? -want : want), "\(format) \(code)")
        }
        codes.encode(values, row: 0)
        let after = unsafe [UInt8](codes.bytes)
        // A code of no number comes back as the one that all such have: its bytes are left out.
        let odd = (0..<count).filter { values[$0].isNaN || (format.isInteger && $0 == half) }
        let size = format.bits <= 4 ? 0.5 : format.bits <= 8 ? 1.0 : 2.0
        let apart = Set(odd.flatMap { [Int(Double($0) * size), Int(Double($0 + 1) * size - 0.5)] })
        for index in before.indices where !apart.contains(index) {
            #expect(after[index] == before[index], "\(format) byte \(index)")
        }
        #expect(apart.count < before.count)
    }

    /// Infinities and not-a-numbers go to the format's codes for them and come back, where it has them.
    @Test func whatIsNoNumber() {
        let memory = FencedMemory()
        func trip(_ format: NumberFormat) -> [Float] {
            let values = memory.row([.infinity, -.infinity, .nan, -0.0])
            let codes = Codes(format, rows: 1, columns: 4,
                              memory: memory.row(Codes.floats(format, rows: 1, columns: 4)))
            codes.encode(values, row: 0)
            codes.decode(row: 0, to: values)
            return values.array
        }
        #expect(bitMismatch(trip(.e5m2), [.infinity, -.infinity, .nan, -0.0]) == nil)
        #expect(bitMismatch(trip(.fp16), [.infinity, -.infinity, .nan, -0.0]) == nil)
        #expect(bitMismatch(trip(.e4m3), [448, -448, .nan, -0.0]) == nil)
        #expect(bitMismatch(trip(.e2m1), [6, -6, 6, -0.0]) == nil)
        #expect(bitMismatch(trip(.int8), [127, -127, 127, 0]) == nil)
        #expect(memory.isIntact)
    }

    /// Matrices of odd widths, quantised, encoded and decoded: the values of the quantiser, without its signs of zero.
    @Test(arguments: [NumberFormat.e4m3, .e5m2, .e3m2, .e2m1, .int8, .int4, .fp16]) func rows(_ format: NumberFormat) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        for columns in [1, 2, 15, 16, 33, 67] {
            let x = memory.matrix(spread(3 * columns, seed: 2, exponents: -5...5), 3, columns)
            quantizer(format, memory, rows: 3, columns: columns).quantize(x, x)
            let codes = Codes(format, rows: 3, columns: columns,
                              memory: memory.row(Codes.floats(format, rows: 3, columns: columns)))
            let out = memory.matrix(3, columns, gap: 2)
            for row in (0..<3).reversed() { codes.encode(x.row(row), row: row) }
            for row in 0..<3 { codes.decode(row: row, to: out.row(row)) }
            #expect(mismatch(out.values, x.values) == nil, "\(format) \(columns)")
        }
    }

    /// A tensor lives in codes: stored in parts with scales of any grid, and loaded in others, it is its round trip.
    @Test(arguments: QuantizerTests.grids) func aTensorInCodes(_ grid: Granularity) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (rows, columns) = (9, 90)
        for format in [NumberFormat.e4m3, .e2m1, .int8, .fp16] {
            let x = memory.matrix(spread(rows * columns, seed: 3, exponents: -9...9), rows, columns, gap: 3)
            let scales = Scales(grid, rows: rows, columns: columns, foldable: true,
                                memory: memory.row(Scales.floats(grid, rows: rows, columns: columns)))
            scales.measure(x, .powerOfTwo, format: format)
            let quantizer = Quantizer(format, scales), want = memory.matrix(rows, columns)
            quantizer.roundTrip(want, x)
            let out = memory.matrix(rows, columns, gap: 1)
            for (start, width) in [(0, 33), (33, 57)] {
                let codes = Codes(format, rows: rows, columns: width,
                                  memory: memory.row(Codes.floats(format, rows: rows, columns: width)))
                let part = x.columns(start, width), back = out.columns(start, width)
                codes.store(part.rows(0, 4), quantizer, column: start)
                codes.store(part.rows(4, 5), quantizer, first: 4, row: 4, column: start)
                codes.load(back.rows(2, 7), scales, first: 2, row: 2, column: start)
                codes.load(back.rows(0, 2), scales, column: start)
            }
            #expect(mismatch(out.values, want.values) == nil, "\(format) \(grid)")
        }
    }

    @Test func sizes() {
        #expect(Codes.floats(.e4m3, rows: 3, columns: 5) == 6)
        #expect(Codes.floats(.e2m1, rows: 3, columns: 9) == 6)
        #expect(Codes.floats(.e3m2, rows: 2, columns: 4) == 2)
        #expect(Codes.floats(.fp16, rows: 1, columns: 3) == 2)
    }
}
