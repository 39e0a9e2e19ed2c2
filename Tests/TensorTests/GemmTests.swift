import Tensor
import Testing
import TestSupport

/// One step of an element's chain, rounded as this build rounds it.
private func link(_ sum: Float, _ a: Float, _ b: Float) -> Float {
    compiledArithmetic.hasSuffix("without FMA") ? sum + a * b : sum.addingProduct(a, b)
}

@Suite struct GemmTests {
    struct Shape: Sendable {
        let m, n, k: Int
    }

    static let shapes = [1, 3, 17, 64].flatMap { m in
        [1, 5, 33].flatMap { n in [1, 2, 16, 100].map { Shape(m: m, n: n, k: $0) } }
    } + [Shape(m: 130, n: 257, k: 65)]

    /// The three forms, with gaps between rows, overwriting not-a-numbers and adding to what is there.
    @Test(arguments: shapes) func threeForms(_ shape: Shape) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (m, n, k) = (shape.m, shape.n, shape.k)
        let a = normals(m * k, seed: 1), b = normals(k * n, seed: 2), before = normals(m * n, seed: 3)
        func turned(_ x: [Float], _ rows: Int, _ columns: Int) -> [Float] {
            transposed(doubles(x), rows, columns).map { Float($0) }
        }
        let straight = product(doubles(a), doubles(b), m, k, n)
        let added = zip(straight, doubles(before)).map(+)
        let aPlain = memory.matrix(a, m, k, gap: 3), aTurned = memory.matrix(turned(a, m, k), k, m, gap: 1)
        let bPlain = memory.matrix(b, k, n, gap: 2), bTurned = memory.matrix(turned(b, k, n), n, k, gap: 4)
        for accumulate in [false, true] {
            let want = accumulate ? added : straight
            let results = (0..<3).map { _ in
                accumulate ? memory.matrix(before, m, n, gap: 5) : memory.matrix(m, n, gap: 5)
            }
            Gemm.times(results[0], aPlain, bPlain, accumulate: accumulate)
            Gemm.timesTransposed(results[1], aPlain, bTurned, accumulate: accumulate)
            Gemm.transposedTimes(results[2], aTurned, bPlain, accumulate: accumulate)
            for result in results { #expect(relativeError(result.values, want) < 2e-6) }
        }
    }

    /// Products of nothing: no rows or columns writes nothing, no depth gives zeros.
    @Test func emptyShapes() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        Gemm.times(memory.matrix(0, 4), memory.matrix(0, 3), memory.matrix(normals(12, seed: 1), 3, 4))
        let c = memory.matrix(2, 3)
        Gemm.times(c, memory.matrix(2, 0), memory.matrix(0, 3))
        #expect(c.values == [0, 0, 0, 0, 0, 0])
        let kept = memory.matrix([1, 2, 3, 4, 5, 6], 2, 3)
        Gemm.times(kept, memory.matrix(2, 0), memory.matrix(0, 3), accumulate: true)
        #expect(kept.values == [1, 2, 3, 4, 5, 6])
    }

    /// The contract of an element: one chain over the depth from 0 or from C, bit for bit, in all three forms and
    /// across the edges of a strip (512 steps of depth; 64 columns, or 16 on narrower units) and of a block (256
    /// rows). What is overwritten holds not-a-numbers first.
    @Test(arguments: [Shape(m: 5, n: 3, k: 511), Shape(m: 7, n: 65, k: 512), Shape(m: 3, n: 129, k: 513),
                      Shape(m: 255, n: 15, k: 40), Shape(m: 256, n: 16, k: 41), Shape(m: 257, n: 17, k: 42),
                      Shape(m: 520, n: 70, k: 1_030), Shape(m: 1, n: 200, k: 600)])
    func anElementIsOneChain(_ shape: Shape) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (m, n, k) = (shape.m, shape.n, shape.k)
        let a = normals(m * k, seed: 1), b = normals(k * n, seed: 2), before = normals(m * n, seed: 3)
        func turned(_ x: [Float], _ rows: Int, _ columns: Int) -> [Float] {
            (0..<(rows * columns)).map { x[$0 % rows * columns + $0 / rows] }
        }
        for accumulate in [false, true] {
            var want = accumulate ? before : [Float](repeating: 0, count: m * n)
            for i in 0..<m {
                for p in 0..<k {
                    for j in 0..<n { want[i * n + j] = link(want[i * n + j], a[i * k + p], b[p * n + j]) }
                }
            }
            let results = (0..<3).map { _ in
                accumulate ? memory.matrix(before, m, n, gap: 5) : memory.matrix(m, n, gap: 5)
            }
            let left = memory.matrix(a, m, k, gap: 3), right = memory.matrix(b, k, n, gap: 2)
            Gemm.times(results[0], left, right, accumulate: accumulate)
            let leftTurned = memory.matrix(turned(a, m, k), k, m, gap: 1)
            Gemm.timesTransposed(results[1], left, memory.matrix(turned(b, k, n), n, k, gap: 4),
                                 accumulate: accumulate)
            Gemm.transposedTimes(results[2], leftTurned, right, accumulate: accumulate)
            for result in results { #expect(mismatch(result.values, want) == nil) }
        }
    }

    /// The largest frame on the stacks of the pool's workers.
    @Test func workersHaveRoom() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let pool = Pool(threads: 3)
        defer { pool.close() }
        let (m, n, k) = (300, 70, 520)
        let a = memory.matrix(normals(k * m, seed: 1), k, m), b = memory.matrix(normals(k * n, seed: 2), k, n)
        let want = memory.matrix(m, n)
        Gemm.transposedTimes(want, a, b, accumulate: false)
        let results = (0..<12).map { _ in memory.matrix(m, n) }
        pool.run(results.count) { tile, _ in Gemm.transposedTimes(results[tile], a, b, accumulate: false) }
        for result in results { #expect(mismatch(result.values, want.values) == nil) }
    }

    /// The yardstick computes the same product.
    @Test func openBLASAgrees() {
        let memory = FencedMemory()
        let (m, n, k) = (33, 70, 129)
        let a = normals(m * k, seed: 1), b = normals(n * k, seed: 2)
        let ours = memory.matrix(m, n, gap: 1), theirs = memory.matrix(m, n, gap: 2)
        Gemm.timesTransposed(ours, memory.matrix(a, m, k, gap: 3), memory.matrix(b, n, k, gap: 1))
        OpenBLAS.timesTransposed(theirs, memory.matrix(a, m, k, gap: 1), memory.matrix(b, n, k))
        #expect(relativeError(theirs.values, doubles(ours.values)) < 2e-6)
        #expect(!OpenBLAS.coreName.isEmpty)
    }

    @Test func shapesThatDoNotFitTrap() async {
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory()
            Gemm.times(memory.matrix(2, 2), memory.matrix(2, 3), memory.matrix(2, 2))
        }
    }
}

@Suite struct TileGemmTests {
    /// All shapes that meet another combination of register tiles: rows by 12, 8, 6, 4 and 1; columns by 64, 48,
    /// 32, 16 and single ones.
    static let rows = Array(1...14) + [24, 25, 63, 64]
    static let columns = [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 80, 113, 130]

    @Test(arguments: rows) func everyTile(m: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        for n in Self.columns {
            for k in [0, 1, 2, 7, 64] {
                let a = normals(m * k, seed: 1), b = normals(k * n, seed: 2), before = normals(m * n, seed: 3)
                let straight = product(doubles(a), doubles(b), m, k, n)
                let added = zip(straight, doubles(before)).map(+)
                let turned = transposed(doubles(a), m, k).map { Float($0) }
                let right = memory.matrix(b, k, n, gap: 2)
                for (accumulate, want) in [(false, straight), (true, added)] {
                    let c = accumulate ? memory.matrix(before, m, n, gap: 3) : memory.matrix(m, n, gap: 3)
                    tileGemm(c, memory.matrix(a, m, k, gap: 1), right, accumulate: accumulate)
                    #expect(relativeError(c.values, want) < 2e-6, "\(m) x \(n) x \(k)")
                    let d = accumulate ? memory.matrix(before, m, n) : memory.matrix(m, n)
                    tileGemm(d, memory.matrix(turned, k, m, gap: 1), transposed: true, right, accumulate: accumulate)
                    #expect(mismatch(d.values, c.values) == nil, "\(m) x \(n) x \(k) transposed")
                }
            }
        }
    }

    /// The contract of an element's sum: one chain over k, whatever the tile it fell into.
    @Test func anElementDoesNotDependOnTheTiling() {
        let memory = FencedMemory()
        let (m, n, k) = (13, 130, 50)
        let a = memory.matrix(normals(m * k, seed: 1), m, k), b = memory.matrix(normals(k * n, seed: 2), k, n)
        let whole = memory.matrix(m, n)
        tileGemm(whole, a, b, accumulate: false)
        for row in 0..<m {
            for column in 0..<n {
                var chain: Float = 0
                for p in 0..<k { chain = link(chain, a.row(row)[p], b.row(p)[column]) }
                #expect(whole.row(row)[column] == chain)
            }
        }
    }
}
