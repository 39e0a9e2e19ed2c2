#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
import Tensor
import Testing
import TestSupport

@Suite struct OptimizerTests {
    /// AdamW as its paper writes it, in Double.
    private struct Reference {
        var w: [Double], m: [Double], v: [Double]
        let rate = 1e-2, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, clip = 0.5

        mutating func step(_ number: Int, _ gradient: [Double], decay: Double) {
            for i in w.indices {
                let g = gradient[i] * clip
                m[i] = beta1 * m[i] + (1 - beta1) * g
                v[i] = beta2 * v[i] + (1 - beta2) * g * g
                let mean = m[i] / (1 - pow(beta1, Double(number))), square = v[i] / (1 - pow(beta2, Double(number)))
                w[i] -= rate * (mean / (square.squareRoot() + epsilon) + decay * w[i])
            }
        }
    }

    @Test(arguments: oddLengths, [0, 0.1]) func severalSteps(count: Int, decay: Double) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let weights = normals(count, seed: 1), zeros = [Float](repeating: 0, count: count)
        let (w, m, v) = (memory.row(weights), memory.row(zeros), memory.row(zeros))
        var want = Reference(w: doubles(weights), m: doubles(zeros), v: doubles(zeros))
        for number in 1...6 {
            // The first element never has a gradient: 0 / (0 + epsilon) must be 0.
            var gradient = normals(count, seed: 10 + number, size: number == 3 ? 1e-3 : 1)
            gradient[0] = 0
            let g = memory.row(gradient)
            let roots = adamW(w, momentum: m, variance: v, gradient: g, AdamWStep(
                learningRate: Float(want.rate), beta1: want.beta1, beta2: want.beta2,
                epsilon: Float(want.epsilon), weightDecay: Float(decay),
                correction1: Float(1 - pow(want.beta1, Double(number))),
                correction2: Float(1 - pow(want.beta2, Double(number))), gradientScale: Float(want.clip)))
            want.step(number, doubles(gradient), decay: decay)
            // The roots of what was written, and not of padding beyond it.
            let exact = v.array.map { $0.squareRoot() }
            #expect(roots.max == exact.max())
            let sum = exact.reduce(0) { $0 + Double($1) }
            #expect(abs(roots.sum - sum) <= 1e-12 * sum)
            #expect(g.array == gradient)
        }
        #expect(relativeError(w.array, want.w) < 2e-6)
        #expect(relativeError(m.array, want.m) < 2e-6)
        #expect(relativeError(v.array, want.v) < 2e-6)
        if decay == 0 { #expect(w[0] == weights[0]) }
    }

    /// A flat vector updated in pieces is the vector updated at once: shards and threads may cut it anywhere.
    @Test func piecesEqualTheWhole() {
        let memory = FencedMemory()
        let count = 100
        let step = AdamWStep(learningRate: 0.1, beta1: 0.8, beta2: 0.9, epsilon: 1e-6, weightDecay: 0.01,
                             correction1: 0.2, correction2: 0.1, gradientScale: 1)
        func updated(cuts: [Int]) -> [Float] {
            let rows = (1...4).map { memory.row(normals(count, seed: $0).map { abs($0) }) }
            for (start, end) in zip([0] + cuts, cuts + [count]) {
                let parts = rows.map { $0.slice(start, end - start) }
                adamW(parts[0], momentum: parts[1], variance: parts[2], gradient: parts[3], step)
            }
            return rows.flatMap(\.array)
        }
        let whole = updated(cuts: [])
        for cut in 1..<count { #expect(mismatch(updated(cuts: [cut]), whole) == nil) }
        #expect(mismatch(updated(cuts: [1, 17, 33, 50]), whole) == nil)
        #expect(memory.isIntact)
    }

    /// The sum of squares against a plain Double sum, around every edge of its blocks of 4,096.
    @Test(arguments: [0, 1, 15, 17, 4_095, 4_096, 4_097, 8_192, 12_289, 40_961])
    func sumsOfSquares(count: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let values = normals(count, seed: 6)
        let exact = values.reduce(0.0) { $0 + Double($1) * Double($1) }
        #expect(abs(sumOfSquares(memory.row(values)) - exact) <= 1e-13 * exact)
    }

    /// Where whole numbers make every order exact, the result is exact.
    @Test func wholeNumbersAreExact() {
        let memory = FencedMemory()
        let values = (0..<20_000).map { Float($0 % 1_001 - 500) }
        let exact = values.reduce(0) { $0 + Int($1) * Int($1) }
        #expect(sumOfSquares(memory.row(values)) == Double(exact))
    }

    /// The tree is fixed: halves of 2^k blocks, summed apart (by threads or ranks), add to the same bits, and so
    /// does the same row at another address.
    @Test func theTreeDoesNotDependOnWhoSums() {
        let memory = FencedMemory()
        let block = 4_096
        for blocks in 2...9 {
            let row = memory.row(normals(blocks * block - 5, seed: blocks))
            var half = 1
            while half * 2 < blocks { half *= 2 }
            let parts = sumOfSquares(row.slice(0, half * block))
                + sumOfSquares(row.slice(half * block, row.count - half * block))
            #expect(parts == sumOfSquares(row))
            let moved = memory.row([0, 0, 0] + row.array)
            #expect(sumOfSquares(moved.slice(3, row.count)) == sumOfSquares(row))
        }
    }

    @Test func notANumberIsSeen() {
        let memory = FencedMemory()
        for at in [0, 15, 16, 4_095, 4_096, 4_999] {
            for value in [Float.nan, .infinity, -.infinity] {
                let row = memory.row([Float](repeating: 1, count: 5_000))
                row[at] = value
                #expect(!sumOfSquares(row).isFinite)
            }
        }
    }
}
