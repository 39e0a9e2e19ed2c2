import Tensor
import Testing
import TestSupport

@Suite struct RotaryTests {
    static let theta = 500.0

    struct Case: Sendable {
        let heads, headDim, rows, first, period: Int
    }

    static let cases = [2, 6, 16, 32, 34, 64].flatMap { headDim in
        [1, 3].flatMap { heads in
            [Case(heads: heads, headDim: headDim, rows: 7, first: 0, period: 7),
             Case(heads: heads, headDim: headDim, rows: 9, first: 5, period: 4)]
        }
    }

    @Test(arguments: cases) func forwardAndBackward(_ each: Case) throws {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let columns = each.heads * each.headDim
        let x = normals(each.rows * columns, seed: 1), dOut = normals(each.rows * columns, seed: 2)
        func onTape(_ x: [Double]) -> (Tape, Tape.Value, Tape.Value) {
            let tape = Tape()
            let value = tape.input(x, rows: each.rows, columns: columns)
            return (tape, value, tape.rotary(value, headDim: each.headDim, theta: Self.theta, first: each.first,
                                             period: each.period))
        }
        let arena = try Arena(name: "angles",
                              capacity: RotaryTable.floats(positions: each.period, headDim: each.headDim))
        let table = RotaryTable(arena, positions: each.period, headDim: each.headDim, theta: Self.theta)
        let (tape, value, outValue) = onTape(doubles(x))
        let out = memory.matrix(x, each.rows, columns, gap: 5)
        rotary(out, table: table, headDim: each.headDim, firstPosition: each.first, period: each.period)
        #expect(relativeError(out.values, tape[outValue]) < 1e-6)
        // Turning back undoes it.
        rotary(out, table: table, headDim: each.headDim, firstPosition: each.first, period: each.period, inverse: true)
        #expect(relativeError(out.values, doubles(x)) < 1e-6)

        let dX = memory.matrix(dOut, each.rows, columns, gap: 1)
        rotary(dX, table: table, headDim: each.headDim, firstPosition: each.first, period: each.period, inverse: true)
        tape.backward(outValue, seed: doubles(dOut))
        #expect(relativeError(dX.values, tape.gradient(value)) < 1e-6)
        // The function is linear, so differences are exact for any step.
        let slopes = gradient(of: { x in
            let (tape, _, out) = onTape(x)
            return weighted(tape[out], by: doubles(dOut))
        }, at: doubles(x), step: 0.5)
        #expect(relativeError(dX.values, slopes) < 1e-6)
        withExtendedLifetime(arena) {}
    }

    /// What rotary positions are for: the product of two rotated vectors depends on their distance alone.
    @Test func productsDependOnDistance() throws {
        let memory = FencedMemory()
        let arena = try Arena(name: "angles", capacity: RotaryTable.floats(positions: 300, headDim: 16))
        let table = RotaryTable(arena, positions: 300, headDim: 16, theta: 10_000)
        let (a, b) = (normals(16, seed: 1), normals(16, seed: 2))
        func product(_ first: Int, _ second: Int) -> Float {
            let x = memory.matrix(a, 1, 16), y = memory.matrix(b, 1, 16)
            rotary(x, table: table, headDim: 16, firstPosition: first, period: 300)
            rotary(y, table: table, headDim: 16, firstPosition: second, period: 300)
            return dot(x.row(0), y.row(0))
        }
        for shift in [1, 10, 250] { #expect(abs(product(7, 30) - product(7 + shift, 30 + shift)) < 2e-5) }
        #expect(abs(product(7, 30) - product(7, 31)) > 1e-3)
        withExtendedLifetime(arena) {}
    }
}
