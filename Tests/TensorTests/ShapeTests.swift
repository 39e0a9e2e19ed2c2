import Tensor
import Testing
import TestSupport

/// Operands that do not fit trap before memory beside them is read or written, in release builds too.
@Suite struct ShapeTests {
    @Test func rmsNormTraps() async {
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory()
            rmsNorm(memory.matrix(3, 8), inverse: memory.row([1, 1]), x: memory.matrix(3, 8),
                    gain: memory.row([Float](repeating: 1, count: 8)), epsilon: 1)
        }
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory()
            rmsNormScale(memory.matrix(3, 8), x: memory.matrix(3, 8), inverse: memory.row([1, 1, 1]),
                         gain: memory.row([Float](repeating: 1, count: 7)))
        }
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory(), gain = memory.row([Float](repeating: 1, count: 8))
            rmsNormBackward(memory.matrix(3, 8), dGain: memory.row([Float](repeating: 0, count: 7)),
                            dOut: memory.matrix(3, 8), x: memory.matrix(3, 8), inverse: memory.row([1, 1, 1]),
                            gain: gain)
        }
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory(), gain = memory.row([Float](repeating: 1, count: 8))
            rmsNormBackward(memory.matrix(2, 8), dGain: gain, dOut: memory.matrix(3, 8), x: memory.matrix(3, 8),
                            inverse: memory.row([1, 1, 1]), gain: gain)
        }
    }

    @Test func swiGLUTraps() async {
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory(), both = memory.matrix(3, 16)
            swiGLUBackward(both, recomputed: memory.matrix(3, 8), dH: memory.matrix(3, 7), gateUp: both)
        }
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory(), both = memory.matrix(3, 16)
            swiGLUBackward(both, recomputed: memory.matrix(3, 8), dH: memory.matrix(2, 8), gateUp: both)
        }
    }

    @Test func packingTraps() async {
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory(), row = memory.row([Float](repeating: 0, count: 63 * 3))
            _ = PackedMatrix(row, rows: 3, columns: 5)
        }
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory(), row = memory.row([Float](repeating: 0, count: 64 * 3))
            PackedMatrix(row, rows: 3, columns: 5).pack(memory.matrix(3, 6), transposed: false)
        }
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory(), row = memory.row([Float](repeating: 0, count: 64 * 3))
            let out = memory.row([0, 0, 0, 0, 0])
            PackedMatrix(row, rows: 3, columns: 5).multiply(memory.row([1, 2]), into: out, tile: 0)
        }
    }
}
