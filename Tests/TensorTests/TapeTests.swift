import Testing
import TestSupport

/// The oracle itself against central differences of its own forward, one test for all operations.
@Suite struct TapeTests {
    /// An operation with the shapes of its arguments.
    struct Case: Sendable, CustomStringConvertible {
        let description: String
        let shapes: [(rows: Int, columns: Int)]
        let apply: @Sendable (Tape, [Tape.Value]) -> Tape.Value
    }

    static let cases: [Case] = [
        Case(description: "matmul", shapes: [(3, 4), (4, 5)]) { $0.matmul($1[0], $1[1]) },
        Case(description: "matmul A^T", shapes: [(4, 3), (4, 5)]) { $0.matmul($1[0], transposeA: true, $1[1]) },
        Case(description: "matmul B^T", shapes: [(3, 4), (5, 4)]) { $0.matmul($1[0], $1[1], transposeB: true) },
        Case(description: "matmul A^T B^T", shapes: [(4, 3), (5, 4)]) {
            $0.matmul($1[0], transposeA: true, $1[1], transposeB: true)
        },
        Case(description: "matmul of a value by itself", shapes: [(3, 3)]) { $0.matmul($1[0], $1[0]) },
        Case(description: "add", shapes: [(2, 3), (2, 3)]) { $0.add($1[0], $1[1]) },
        Case(description: "scale", shapes: [(2, 3)]) { $0.scale($1[0], by: -1.7) },
        Case(description: "gather", shapes: [(4, 3)]) { $0.gather($1[0], tokens: [2, 0, 2, 3]) },
        Case(description: "RMSNorm", shapes: [(3, 5), (1, 5)]) { $0.rmsNorm($1[0], gain: $1[1], epsilon: 1e-2) },
        Case(description: "rotary", shapes: [(5, 12)]) {
            $0.rotary($1[0], headDim: 6, theta: 100, first: 2, period: 4)
        },
        Case(description: "SwiGLU", shapes: [(2, 4), (2, 4)]) { $0.swiGLU(gate: $1[0], up: $1[1]) },
        Case(description: "cross-entropy", shapes: [(4, 5)]) { $0.crossEntropy($1[0], targets: [1, -1, 4, 0]) },
        Case(description: "attention", shapes: [(7, 8), (7, 4), (7, 4)]) {
            $0.attention(q: $1[0], k: $1[1], v: $1[2], heads: 4, keyHeads: 2, starts: [0, 3, 4, 7])
        },
    ]

    @Test(arguments: cases) func gradientsEqualDifferences(_ each: Case) {
        let inputs = each.shapes.enumerated().map { doubles(normals($1.rows * $1.columns, seed: $0)) }
        func run(_ inputs: [[Double]]) -> (Tape, [Tape.Value], Tape.Value) {
            let tape = Tape()
            let values = zip(inputs, each.shapes).map { tape.input($0, rows: $1.rows, columns: $1.columns) }
            return (tape, values, each.apply(tape, values))
        }
        let (tape, values, out) = run(inputs)
        let seed = doubles(normals(out.count, seed: 99))
        tape.backward(out, seed: seed)
        for argument in inputs.indices {
            let want = gradient(of: { moved in
                var all = inputs
                all[argument] = moved
                let (tape, _, out) = run(all)
                return weighted(tape[out], by: seed)
            }, at: inputs[argument])
            let error = relativeError(tape.gradient(values[argument]), want)
            #expect(error < 1e-8, "\(each), argument \(argument): \(error)")
        }
    }

    /// What the oracle computes forwards, where it can be said in one line.
    @Test func knownValues() {
        let tape = Tape()
        let x = tape.input([1, 2, 3, 4], rows: 2, columns: 2)
        #expect(tape[tape.matmul(x, x)] == [7, 10, 15, 22])
        #expect(tape[tape.matmul(x, transposeA: true, x)] == [10, 14, 14, 20])
        #expect(tape[tape.matmul(x, x, transposeB: true)] == [5, 11, 11, 25])
        let zero = tape.input([0, 0, 0, 0], rows: 2, columns: 2)
        #expect(relativeError(tape[tape.crossEntropy(zero, targets: [1, -1])], [0.693147180559945]) < 1e-14)
        // One segment each: every token sees itself alone. One segment: equal scores give means.
        #expect(tape[tape.attention(q: zero, k: zero, v: x, heads: 1, keyHeads: 1, starts: [0, 1, 2])] == [1, 2, 3, 4])
        #expect(tape[tape.attention(q: zero, k: zero, v: x, heads: 1, keyHeads: 1, starts: [0, 2])] == [1, 2, 2, 3])
    }
}
