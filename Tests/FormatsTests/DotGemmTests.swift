import Base
import Tensor
import Testing
import TestSupport

/// A product's operands as they are stored, and how.
private struct Case: Sendable, CustomStringConvertible {
    let m, n, k: Int
    let turnsA, turnsB, accumulates: Bool
    var description: String {
        "\(m) x \(n) x \(k) \(turnsA ? "T" : "N")\(turnsB ? "T" : "N")\(accumulates ? " added" : "")"
    }

    /// Random shapes, 1 and primes among them, and the edges of tiles, strips, blocks and packing.
    static let all: [Case] = {
        let rng = CounterRNG(seed: 21, stream: 1)
        let sizes = [1, 2, 3, 5, 6, 7, 13, 16, 17, 31, 48, 61, 64, 65, 97, 101]
        let depths = [1, 2, 3, 8, 63, 64, 127, 128, 129, 257, 511, 512, 513, 1_031]
        return (0..<48).map { number in
            let draw = rng.block(at: UInt64(number))
            return Case(m: sizes[Int(draw.x) % sizes.count], n: sizes[Int(draw.y) % sizes.count],
                        k: depths[number % depths.count], turnsA: draw.z & 1 == 1, turnsB: draw.z & 2 == 2,
                        accumulates: draw.z & 4 == 4)
        } + [Case(m: 195, n: 130, k: 600, turnsA: true, turnsB: false, accumulates: true),
             Case(m: 3, n: 2, k: 0, turnsA: false, turnsB: true, accumulates: false),
             Case(m: 3, n: 2, k: 0, turnsA: false, turnsB: true, accumulates: true)]
    }()
}

/// Denormals are zero.
private func flushed(_ x: Float) -> Float { x.magnitude < .leastNormalMagnitude ? (x.sign == .minus ? -0.0 : 0) : x }

/// An element's sum as the contract has it, one number at a time: pairs in ascending order, the odd element first.
private func chain(_ k: Int, _ a: (Int) -> Float, _ b: (Int) -> Float) -> Float {
    var sum: Float = 0
    for p in stride(from: 0, to: k, by: 2) {
        for q in [p + 1, p] {
            let (x, y) = q < k ? (flushed(a(q)), flushed(b(q))) : (0, 0)
            sum = flushed(sum.addingProduct(x, y))
        }
    }
    return sum
}

@Suite struct DotGemmTests {
    static let paths: [DotPath] = DotPath.best == .avx512bf16 ? [.portable, .model, .avx512bf16] : [.portable, .model]

    /// One product on one path, from stored operands; `packing` is told in what order to pack.
    private func product(_ shape: Case, _ a: Matrix, _ b: Matrix, _ left: Quantizer, _ right: Quantizer,
                         before: [Float], _ path: DotPath, _ memory: FencedMemory) -> [Float] {
        let packed = DotRight(b, transposed: shape.turnsB, right, memory: memory.row(
            DotRight.floats(depth: shape.k, columns: shape.n)), path: path)
        for tile in (0..<packed.packingTiles).reversed() { packed.pack(tile) }
        let c = shape.accumulates ? memory.matrix(before, shape.m, shape.n, gap: 3)
            : memory.matrix(shape.m, shape.n, gap: 3)
        // In two parts, as tiles of rows are; the second in memory that the first has used.
        let scratch = memory.row(DotLeft.floats(rows: shape.m, depth: shape.k)), cut = shape.m * 2 / 3
        for (start, count) in [(0, cut), (cut, shape.m - cut)] where count > 0 {
            let part = shape.turnsA ? a.columns(start, count) : a.rows(start, count)
            let packedLeft = DotLeft(part, row: shape.turnsA ? 0 : start, column: shape.turnsA ? start : 0,
                                     transposed: shape.turnsA, left, memory: scratch, path: path)
            DotGemm.times(c.rows(start, count), packedLeft, packed, accumulate: shape.accumulates)
        }
        return c.values
    }

    /// The promise: every element is the chain of the contract, bit for bit, on every path, in every form, however its
    /// operands were cut. E4M3 by E5M2, so that products differ much in size.
    @Test(arguments: Case.all) fileprivate func everyElementIsTheChain(_ shape: Case) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (m, n, k) = (shape.m, shape.n, shape.k)
        let (aRows, bRows) = (shape.turnsA ? k : m, shape.turnsB ? n : k)
        let a = memory.matrix(spread(m * k, seed: 1, exponents: -6...6), aRows, m + k - aRows, gap: 2)
        let b = memory.matrix(spread(n * k, seed: 2, exponents: -9...9), bRows, n + k - bRows, gap: 1)
        let left = quantizer(.e4m3, memory, rows: a.rows, columns: a.columns, scale: 4)
        let right = quantizer(.e5m2, memory, rows: b.rows, columns: b.columns, scale: 0.5)
        let qa = memory.matrix(a.rows, a.columns), qb = memory.matrix(b.rows, b.columns)
        left.quantize(qa, a)
        right.quantize(qb, b)
        let before = normals(m * n, seed: 3)
        let want = (0..<(m * n)).map { index in
            let (i, j) = (index / n, index % n)
            let sum = chain(k, { shape.turnsA ? qa.row($0)[i] : qa.row(i)[$0] },
                            { shape.turnsB ? qb.row(j)[$0] : qb.row($0)[j] }) * 0.5
            return shape.accumulates ? before[index] + sum : sum
        }
        for path in Self.paths {
            let got = product(shape, a, b, left, right, before: before, path, memory)
            #expect(bitMismatch(got, want) == nil, "\(shape) \(path)")
        }
    }

    /// The instruction itself, where this CPU has it; what it has not, this says.
    @Test func whatThisCPUTakes() {
        print("products of quantised operands: \(DotPath.reason)")
        #expect(DotPath.reason.contains(DotPath.best == .portable ? "fp32 multiply-adds" : "AVX512_BF16"))
    }

    /// E4M3 by E4M3 against exact sums: Doubles add them without rounding up to a depth of 2^17 (36-bit products). The
    /// error of a chain of k roundings is within k half-ulps of the sum of magnitudes.
    @Test(arguments: [1, 2, 7, 64, 509, 1_024, 4_093], [(1, 1), (5, 19), (31, 2)])
    func errorsAreThoseOfSums(k: Int, _ size: (Int, Int)) {
        let memory = FencedMemory()
        let (m, n) = size
        let a = memory.matrix(normals(m * k, seed: 4), m, k), b = memory.matrix(normals(n * k, seed: 5), n, k)
        let left = quantizer(.e4m3, memory, rows: m, columns: k, scale: 64)
        let right = quantizer(.e4m3, memory, rows: n, columns: k, scale: 64)
        let shape = Case(m: m, n: n, k: k, turnsA: false, turnsB: true, accumulates: false)
        let got = product(shape, a, b, left, right, before: [], .portable, memory)
        left.quantize(a, a)
        right.quantize(b, b)
        for i in 0..<m {
            for j in 0..<n {
                var exact = 0.0, size = 0.0
                for p in 0..<k {
                    let product = Double(a.row(i)[p]) * Double(b.row(j)[p])
                    exact += product
                    size += abs(product)
                }
                let error = abs(Double(got[i * n + j]) * 4_096 - exact)
                #expect(error <= Double(k) * 0x1p-24 * size, "\(i), \(j) of \(k)")
            }
        }
    }

    /// Denormals count as zero while a product runs, in operands and in sums, and as themselves afterwards.
    @Test(arguments: paths) func denormalsAreFlushed(_ path: DotPath) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let shape = Case(m: 2, n: 17, k: 4, turnsA: false, turnsB: false, accumulates: false)
        // Rows: products about 2^-127; and an operand that is denormal itself, against large ones.
        let a: [Float] = [0x1p-63, 0x1p-64, -0x1p-63, 0x1p-62, 0x1p-130, 0x1p-127, 0x1p-126, 0x1.8p-126]
        let b = (0..<(4 * 17)).map { index in Float(index % 5 == 0 ? 0x1p-64 : index % 5 == 1 ? 1.5 : 0x1p-63) }
        let left = memory.matrix(a, 2, 4), right = memory.matrix(b, 4, 17)
        let one = quantizer(.bf16, memory, rows: 2, columns: 4), two = quantizer(.bf16, memory, rows: 4, columns: 17)
        let got = product(shape, left, right, one, two, before: [], path, memory)
        let want = (0..<34).map { index in chain(4, { a[index / 17 * 4 + $0] }, { b[$0 * 17 + index % 17] }) }
        #expect(bitMismatch(got, want) == nil)
        #expect(want.contains(0) && want.contains { $0 != 0 })
        let tiny = memory.row([0x1p-130])
        #expect(tiny[0] * 2 == 0x1p-129)
    }

    /// Sums about 2^-126 are rounded to 24 bits before it is asked whether they are denormal: 2^-126 less three
    /// quarters of 2^-150 is rounded to less than that, and flushed; less one half, to 2^-126 itself.
    @Test(arguments: paths) func tinySumsAreFoundAfterRounding(_ path: DotPath) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let shape = Case(m: 1, n: 4, k: 2, turnsA: false, turnsB: false, accumulates: false)
        let a = memory.matrix([0x1p-75, 0x1p-63], 1, 2)
        let b = memory.matrix([-0x1.8p-76, -0x1p-76, -0x1p-75, 0, 0x1p-63, 0x1p-63, 0x1p-63, 0x1p-63], 2, 4)
        let got = product(shape, a, b, quantizer(.bf16, memory, rows: 1, columns: 2),
                          quantizer(.bf16, memory, rows: 2, columns: 4), before: [], path, memory)
        #expect(got == [0, 0x1p-126, 0, 0x1p-126])
    }

    /// A not-a-number in an operand, of any bits, makes its row or column of C not a number, and nothing else.
    @Test(arguments: paths, [UInt32(0x7F80_0001), 0xFF80_0001, 0x7FC0_0000, 0x7FFF_FFFF])
    func notANumberStays(_ path: DotPath, _ bits: UInt32) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (m, n, k) = (7, 20, 33), shape = Case(m: 7, n: 20, k: 33, turnsA: false, turnsB: true, accumulates: false)
        let a = memory.matrix(normals(m * k, seed: 1), m, k), b = memory.matrix(normals(n * k, seed: 2), n, k)
        for format in [NumberFormat.e4m3, .e2m1, .bf16] {
            a.row(2)[k - 1] = Float(bitPattern: bits)
            b.row(11)[0] = Float(bitPattern: bits)
            let got = product(shape, a, b, quantizer(format, memory, rows: m, columns: k),
                              quantizer(format, memory, rows: n, columns: k), before: [], path, memory)
            #expect(got.indices.allSatisfy { got[$0].isNaN == ($0 / n == 2 || $0 % n == 11) }, "\(format)")
        }
    }

    static let grids: [(Granularity, Granularity)] = [
        (.row, .row), (.tensor, .row), (.row, .tensor), (.block(rows: 1, columns: 32), .block(rows: 1, columns: 32)),
        (.block(rows: 1, columns: 16), .block(rows: 64, columns: 64)), (.row, .block(rows: 128, columns: 128)),
        (.column, .tensor), (.block(rows: 3, columns: 1_000), .column),
    ]

    /// Scales of all kinds, C = A B^T: as close to the product of the round-tripped operands as summing allows.
    @Test(arguments: grids) func scalesComeBack(_ left: Granularity, _ right: Granularity) {
        for (turnsA, turnsB) in [(false, true), (true, false)] {
            let memory = FencedMemory()
            defer { #expect(memory.isIntact) }
            let (m, n, k) = (37, 71, 150)
            let a = memory.matrix(spread(m * k, seed: 1, exponents: -8...8), turnsA ? k : m, turnsA ? m : k, gap: 2)
            let b = memory.matrix(spread(n * k, seed: 2, exponents: -8...8), turnsB ? n : k, turnsB ? k : n)
            func quantizer(_ grid: Granularity, _ x: Matrix) -> Quantizer {
                let scales = Scales(grid, rows: x.rows, columns: x.columns, foldable: true, memory: memory.row(
                    Scales.floats(grid, rows: x.rows, columns: x.columns)))
                scales.measure(x, .powerOfTwo, format: .e4m3)
                return Quantizer(.e4m3, scales)
            }
            let (one, two) = (quantizer(left, a), quantizer(right, b))
            let shape = Case(m: m, n: n, k: k, turnsA: turnsA, turnsB: turnsB, accumulates: true)
            let before = normals(m * n, seed: 3)
            let results = Self.paths.map { product(shape, a, b, one, two, before: before, $0, memory) }
            one.roundTrip(a, a)
            two.roundTrip(b, b)
            func flat(_ x: Matrix, _ isTurned: Bool) -> [Double] {
                isTurned ? transposed(doubles(x.values), x.rows, x.columns) : doubles(x.values)
            }
            let exact = TestSupport.product(flat(a, turnsA), flat(b, turnsB), m, k, n)
            let want = zip(exact, before).map { $0 + Double($1) }
            #expect(relativeError(results[0], want) < 1e-6, "\(left) \(right)")
            for result in results.dropFirst() { #expect(bitMismatch(result, results[0]) == nil) }
        }
    }

    /// Free scales for rows and columns factor out; NVFP4's two levels go along the depth.
    @Test func freeScalesAndTwoLevels() throws {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (m, n, k) = (9, 33, 100), nvfp4 = try BlockFormat(named: "NVFP4")
        let a = memory.matrix(normals(m * k, seed: 1), m, k), b = memory.matrix(normals(n * k, seed: 2), n, k)
        let scales = Scales(.row, rows: m, columns: k, foldable: false,
                            memory: memory.row(Scales.floats(.row, rows: m, columns: k)))
        scales.measure(a, .free, format: .e4m3)
        let blocks = nvfp4.scales(rows: n, columns: k, memory: memory.row(
            Scales.floats(nvfp4.granularity, rows: n, columns: k)))
        nvfp4.measure(b, blocks)
        let (one, two) = (Quantizer(.e4m3, scales), Quantizer(.e2m1, blocks))
        let shape = Case(m: m, n: n, k: k, turnsA: false, turnsB: true, accumulates: false)
        let results = Self.paths.map { product(shape, a, b, one, two, before: [], $0, memory) }
        one.roundTrip(a, a)
        two.roundTrip(b, b)
        let want = TestSupport.product(doubles(a.values), transposed(doubles(b.values), n, k), m, k, n)
        #expect(relativeError(results[0], want) < 1e-6)
        for result in results.dropFirst() { #expect(bitMismatch(result, results[0]) == nil) }
        #expect(DotGemm.allows(scales, depthAlongColumns: true) && !DotGemm.allows(scales, depthAlongColumns: false))
        #expect(DotGemm.allows(blocks, depthAlongColumns: true) && DotGemm.allows(blocks, depthAlongColumns: false))
    }

    /// Stochastic rounding in a product: as in the quantiser, whatever part of the tensor an operand is, either way.
    @Test func randomNumbersAreTheTensors() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (tokens, width, n) = (130, 90, 20)
        let dY = memory.matrix(normals(tokens * width, seed: 1), tokens, width)
        let x = memory.matrix(normals(tokens * n, seed: 2), tokens, n)
        let key = RoundingKey(seed: 1, step: 5, tensor: 2, operand: 2, firstRow: 64)
        let random = quantizer(.e5m2, memory, rows: tokens, columns: width, .stochastic(key))
        let plain = quantizer(.e4m3, memory, rows: tokens, columns: n)
        let rounded = memory.matrix(tokens, width)
        random.quantize(rounded, dY)
        let already = quantizer(.e5m2, memory, rows: tokens, columns: width)
        let shape = Case(m: width, n: n, k: tokens, turnsA: true, turnsB: false, accumulates: false)
        for path in Self.paths {
            let got = product(shape, dY, x, random, plain, before: [], path, memory)
            let want = product(shape, rounded, x, already, plain, before: [], path, memory)
            #expect(bitMismatch(got, want) == nil)
        }
    }

    @Test func whatCannotBeIsRefused() async {
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory()
            let x = memory.matrix([1, 2, 3, 4], 2, 2)
            _ = DotLeft(x, transposed: false, quantizer(.fp16, memory, rows: 2, columns: 2), memory: memory.row(100))
        }
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory()
            let x = memory.matrix([1, 2, 3, 4, 5, 6], 3, 2), grid = Granularity.block(rows: 2, columns: 2)
            let scales = Scales(grid, rows: 3, columns: 2, foldable: false, memory: memory.row(100))
            _ = DotLeft(x, transposed: false, Quantizer(.e4m3, scales), memory: memory.row(200))
        }
        await #expect(processExitsWith: .failure) {
            let memory = FencedMemory()
            let x = memory.matrix([1, 2, 3, 4], 2, 2)
            let scales = Scales(.column, rows: 2, columns: 2, foldable: false, memory: memory.row(100))
            _ = DotLeft(x, transposed: false, Quantizer(.e4m3, scales), memory: memory.row(100))
        }
    }
}
