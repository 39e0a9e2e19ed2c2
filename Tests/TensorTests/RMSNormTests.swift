import Tensor
import Testing
import TestSupport

@Suite struct RMSNormTests {
    static let epsilon: Float = 1e-2
    static let shapes = [1, 5, 15, 16, 17, 33, 64, 257].flatMap { width in [1, 3].map { (rows: $0, width: width) } }

    private func onTape(_ x: [Double], _ gain: [Double], _ width: Int) -> (Tape, Tape.Value, Tape.Value, Tape.Value) {
        let tape = Tape()
        let x = tape.input(x, rows: x.count / width, columns: width)
        let gain = tape.input(gain, rows: 1, columns: width)
        return (tape, x, gain, tape.rmsNorm(x, gain: gain, epsilon: Double(Self.epsilon)))
    }

    @Test(arguments: shapes) func forwardAndBackward(rows: Int, width: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let x = normals(rows * width, seed: 1), gain = normals(width, seed: 2), dOut = normals(rows * width, seed: 3)
        let (tape, xValue, gainValue, outValue) = onTape(doubles(x), doubles(gain), width)

        let xMatrix = memory.matrix(x, rows, width, gap: 3), gainRow = memory.row(gain)
        let out = memory.matrix(rows, width, gap: 1), inverse = memory.row(rows)
        rmsNorm(out, inverse: inverse, x: xMatrix, gain: gainRow, epsilon: Self.epsilon)
        #expect(relativeError(out.values, tape[outValue]) < 2e-6)
        let again = memory.matrix(rows, width)
        rmsNormScale(again, x: xMatrix, inverse: inverse, gain: gainRow)
        #expect(again.values == out.values)

        // Both gradients are added to what is there.
        let dXBefore = normals(rows * width, seed: 4), dGainBefore = normals(width, seed: 5)
        let dX = memory.matrix(dXBefore, rows, width, gap: 2), dGain = memory.row(dGainBefore)
        rmsNormBackward(dX, dGain: dGain, dOut: memory.matrix(dOut, rows, width), x: xMatrix, inverse: inverse,
                        gain: gainRow)
        tape.backward(outValue, seed: doubles(dOut))
        #expect(relativeError(dX.values, zip(doubles(dXBefore), tape.gradient(xValue)).map(+)) < 2e-6)
        #expect(relativeError(dGain.array, zip(doubles(dGainBefore), tape.gradient(gainValue)).map(+)) < 2e-6)

        // And against differences, without the tape's backward. Differences for one width in three: they cost
        // a forward for each element.
        guard width < 64 else { return }
        func loss(_ x: [Double], _ gain: [Double]) -> Double {
            let (tape, _, _, out) = onTape(x, gain, width)
            return weighted(tape[out], by: doubles(dOut))
        }
        let slopeX = gradient(of: { loss($0, doubles(gain)) }, at: doubles(x))
        let slopeGain = gradient(of: { loss(doubles(x), $0) }, at: doubles(gain))
        #expect(relativeError(dX.values, zip(doubles(dXBefore), slopeX).map(+)) < 2e-6)
        #expect(relativeError(dGain.array, zip(doubles(dGainBefore), slopeGain).map(+)) < 2e-6)
    }

    /// A row of zeros has no direction: the epsilon keeps it finite, forwards and backwards.
    @Test func zeros() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let x = memory.matrix([Float](repeating: 0, count: 20), 1, 20), gain = memory.row(normals(20, seed: 1))
        let out = memory.matrix(1, 20), inverse = memory.row(1)
        rmsNorm(out, inverse: inverse, x: x, gain: gain, epsilon: 1e-5)
        #expect(out.values.allSatisfy { $0 == 0 })
        let dX = memory.matrix([Float](repeating: 0, count: 20), 1, 20)
        let dGain = memory.row([Float](repeating: 0, count: 20))
        rmsNormBackward(dX, dGain: dGain, dOut: memory.matrix(normals(20, seed: 2), 1, 20), x: x, inverse: inverse,
                        gain: gain)
        #expect(dX.values.allSatisfy { $0.isFinite })
        #expect(dGain.array.allSatisfy { $0 == 0 })
    }
}
