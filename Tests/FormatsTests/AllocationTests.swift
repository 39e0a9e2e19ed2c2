import Base
import Tensor
import Testing
import TestSupport

@Suite struct FormatAllocationTests {
    /// A step asks the system for no memory: scales, quantising, packing, products, codes, health, moments. In a
    /// process of its own, since allocations are counted for all threads.
    @Test func noneIsMade() async {
        await #expect(processExitsWith: .success) {
            let memory = FencedMemory()
            let (m, n, k) = (70, 130, 1_500)
            let a = memory.matrix(normals(m * k, seed: 1), m, k), b = memory.matrix(normals(n * k, seed: 2), n, k)
            let c = memory.matrix(m, n), back = memory.matrix(m, k)
            let grid = Granularity.block(rows: 1, columns: 32)
            func scales(_ x: Matrix) -> Scales {
                Scales(grid, rows: x.rows, columns: x.columns, foldable: true,
                       memory: memory.row(Scales.floats(grid, rows: x.rows, columns: x.columns)))
            }
            let (one, two) = (scales(a), scales(b))
            let key = RoundingKey(seed: 1, step: 1, tensor: 1, operand: 1)
            let left = Quantizer(.e4m3, one, .stochastic(key)), right = Quantizer(.e2m1, two)
            let leftMemory = memory.row(DotLeft.floats(rows: m, depth: k))
            let rightMemory = memory.row(DotRight.floats(depth: k, columns: n))
            let bytes = Codes(.e4m3, rows: m, columns: k, memory: memory.row(Codes.floats(.e4m3, rows: m, columns: k)))
            let nibbles = Codes(.e2m1, rows: n, columns: k,
                                memory: memory.row(Codes.floats(.e2m1, rows: n, columns: k)))
            let moment = MomentCodec.secondMoment.codes(k, memory: memory.row(Codes.floats(.e5m2, rows: 1, columns: k)))
            let momentScales = memory.row(MomentCodec.blocks(k))
            var health = QuantizationHealth(), delayed = DelayedScale(length: 16), kept = true
            func step() {
                one.measure(a, .powerOfTwo, format: .e4m3)
                two.measureTwoLevels(b, format: .e2m1)
                let packed = DotRight(b, transposed: true, right, memory: rightMemory)
                packed.pack()
                DotGemm.times(c, DotLeft(a, transposed: false, left, memory: leftMemory), packed)
                left.roundTrip(back, a)
                bytes.store(a, left)
                bytes.load(back, one)
                nibbles.store(b, right)
                health.add(QuantizationHealth(a, left))
                kept = MomentCodec.secondMoment.encode(a.row(3), to: moment, scales: momentScales) && kept
                MomentCodec.secondMoment.decode(moment, scales: momentScales, to: back.row(0))
                delayed.record(largestMagnitude(a))
                delayed.update(.powerOfTwo, format: .e4m3)
            }
            step()
            let calls = countAllocations(step)
            precondition(kept && memory.isIntact && (calls ?? 0) == 0, "\(calls ?? 0) allocations")
        }
    }
}
