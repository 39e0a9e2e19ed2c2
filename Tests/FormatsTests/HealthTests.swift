import Bench
import Tensor
import Testing
import TestSupport

@Suite struct HealthTests {
    /// Counts and sums one by one, for a tensor with all there is: what clips, what vanishes, what is no number.
    @Test(arguments: [Granularity.tensor, .row, .block(rows: 1, columns: 16)]) func countsAreThoseOfElements(
        _ grid: Granularity) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (rows, columns) = (5, 83)
        var values = spread(rows * columns, seed: 1, exponents: -14...10)
        values[100] = .infinity
        values[200] = .nan
        values[300] = 0
        let x = memory.matrix(values, rows, columns, gap: 2)
        let scales = Scales(grid, rows: rows, columns: columns, foldable: true,
                            memory: memory.row(Scales.floats(grid, rows: rows, columns: columns)))
        // Too large a scale for some: measured without the spikes.
        scales.measure(memory.matrix(values.map { $0.isFinite ? min(max($0, -99), 99) : 0 }, rows, columns),
                       .powerOfTwo, format: .e4m3)
        let quantizer = Quantizer(.e4m3, scales), out = memory.matrix(rows, columns)
        quantizer.quantize(out, x)
        var want = QuantizationHealth()
        want.elements = values.count
        for (index, value) in values.enumerated() {
            guard value.isFinite else {
                want.notFinite += 1
                continue
            }
            let factor = scales.factor(row: index / columns, column: index % columns)
            let rounded = out.row(index / columns)[index % columns]
            let lost = Double(value) - Double(rounded) / Double(factor)
            want.signal += Double(value) * Double(value)
            want.noise += lost * lost
            want.saturated += value.magnitude * factor > 448 ? 1 : 0
            want.flushed += rounded == 0 && value != 0 ? 1 : 0
            want.amax = max(want.amax, value.magnitude)
        }
        var got = QuantizationHealth(x.rows(0, 2), quantizer)
        got.add(QuantizationHealth(x.rows(2, 3).columns(0, 50), row: 2, quantizer))
        got.add(QuantizationHealth(x.rows(2, 3).columns(50, 33), row: 2, column: 50, quantizer))
        #expect(got.saturated == want.saturated && want.saturated > 0)
        #expect(got.flushed == want.flushed && want.flushed > 0)
        #expect(got.notFinite == 2 && got.elements == want.elements && got.amax == want.amax)
        #expect(abs(got.signal / want.signal - 1) < 1e-12 && abs(got.noise / want.noise - 1) < 1e-12)
        #expect(abs(got.sqnr - want.sqnr) < 1e-9)
    }

    /// E4M3 keeps normal numbers to about 31.5 dB: three bits of mantissa.
    @Test func normalNumbers() {
        let memory = FencedMemory()
        let x = memory.matrix(normals(100_000, seed: 3), 100, 1_000)
        let health = QuantizationHealth(x, quantizer(.e4m3, memory, rows: 100, columns: 1_000, scale: 64))
        #expect(health.sqnr > 31 && health.sqnr < 32)
        #expect(health.saturated == 0 && health.notFinite == 0)
    }
}
