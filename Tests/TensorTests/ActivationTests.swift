import Tensor
import Testing
import TestSupport

@Suite struct ActivationTests {
    private func onTape(_ gate: [Double], _ up: [Double], _ width: Int) -> (Tape, Tape.Value, Tape.Value, Tape.Value) {
        let tape = Tape()
        let gate = tape.input(gate, rows: gate.count / width, columns: width)
        let up = tape.input(up, rows: up.count / width, columns: width)
        return (tape, gate, up, tape.swiGLU(gate: gate, up: up))
    }

    /// gate and up of every row, side by side as the fused product leaves them.
    private func fused<Element>(_ gate: [Element], _ up: [Element], _ width: Int) -> [Element] {
        var both: [Element] = []
        for start in stride(from: 0, to: gate.count, by: width) {
            both += gate[start..<(start + width)]
            both += up[start..<(start + width)]
        }
        return both
    }

    /// The backward may write over its own arguments; it is run both ways.
    @Test(arguments: oddLengths, [false, true]) func forwardAndBackward(width: Int, inPlace: Bool) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let rows = 3
        let gate = normals(rows * width, seed: 1, size: 3), up = normals(rows * width, seed: 2)
        let dH = normals(rows * width, seed: 3)
        let (tape, gateValue, upValue, outValue) = onTape(doubles(gate), doubles(up), width)
        let both = memory.matrix(fused(gate, up, width), rows, 2 * width, gap: 1)
        let out = memory.matrix(rows, width, gap: 2)
        swiGLU(out, gateUp: both)
        #expect(relativeError(out.values, tape[outValue]) < 1e-6)

        let dHMatrix = memory.matrix(dH, rows, width, gap: 4)
        let dBoth = inPlace ? both : memory.matrix(rows, 2 * width, gap: 3)
        let h = inPlace ? dHMatrix : memory.matrix(rows, width)
        swiGLUBackward(dBoth, recomputed: h, dH: dHMatrix, gateUp: both)
        #expect(h.values == out.values)
        tape.backward(outValue, seed: doubles(dH))
        #expect(relativeError(dBoth.values, fused(tape.gradient(gateValue), tape.gradient(upValue), width)) < 1e-6)

        guard width < 100 else { return }
        func loss(_ gate: [Double], _ up: [Double]) -> Double {
            let (tape, _, _, out) = onTape(gate, up, width)
            return weighted(tape[out], by: doubles(dH))
        }
        let slopeGate = gradient(of: { loss($0, doubles(up)) }, at: doubles(gate))
        let slopeUp = gradient(of: { loss(doubles(gate), $0) }, at: doubles(up))
        #expect(relativeError(dBoth.values, fused(slopeGate, slopeUp, width)) < 1e-6)
    }

    /// Far out on both sides nothing overflows: silu(x) is x or zero.
    @Test func largeGates() {
        let memory = FencedMemory()
        let gate: [Float] = [-1e30, -200, -89, 89, 200, 1e30], ones = [Float](repeating: 1, count: 6)
        let both = memory.matrix(gate + ones, 1, 12), out = memory.matrix(1, 6)
        swiGLU(out, gateUp: both)
        for (x, y) in zip(gate, out.values) { #expect(x > 0 ? y == x : abs(y) <= abs(x) * 1e-37) }
        let dBoth = memory.matrix(1, 12)
        swiGLUBackward(dBoth, recomputed: memory.matrix(1, 6), dH: memory.matrix(ones, 1, 6), gateUp: both)
        #expect(dBoth.values.allSatisfy { $0.isFinite })
        #expect(memory.isIntact)
    }
}
