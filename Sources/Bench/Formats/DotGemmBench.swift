import Base
import Tensor

/// Products of operands in E4M3 on bf16 dot products, C[m, n] = A[m, k] B[n, k]^T on each thread, as training makes
/// them: B quantised and packed once, A in tiles of 64 rows that are quantised, packed and multiplied. Beside them our
/// fp32 products of the same shape, timed in turn (`sgemm_ratio`: their time over ours), and the share of the time that
/// quantising and packing take, of both operands and of A alone. `ceiling_gflops` is what the unit does on registers
/// alone in the same rounds, `of_ceiling` the product's share of it with A's packing, `multiply_of_ceiling` without.
public func benchDotGemm(m: Int, n: Int, k: Int, threads: Int, rounds: Int) throws -> BenchLine {
    let pool = Pool(threads: threads)
    defer { pool.close() }
    let work = try DotWork(m: m, n: n, k: k, threads: threads)
    func each(_ body: @escaping @Sendable (Int) -> Void) -> () -> Void {
        { pool.run(threads) { thread, _ in body(thread) } }
    }
    let whole = each { work.product($0, packsRight: true, packsLeft: true, multiplies: true) }
    let packing = each { work.product($0, packsRight: true, packsLeft: true, multiplies: false) }
    let leftAlone = each { work.product($0, packsRight: false, packsLeft: true, multiplies: false) }
    let sgemm = each { work.single($0) }
    let multiplying = each { work.product($0, packsRight: false, packsLeft: false, multiplies: true) }
    let tiled = each { work.product($0, packsRight: false, packsLeft: true, multiplies: true) }
    let own = 2 * Double(m) * Double(n) * Double(k)
    let ceiling = each { _ in _ = DotPath.best.runCeiling(flops: own) }
    let seconds = medianSeconds(rounds: rounds) { _ in whole() }
    let ratios = medianRatios(rounds: rounds, to: whole, [sgemm, packing, leftAlone, ceiling, multiplying, tiled])
    let flops = own * Double(threads)
    var line = BenchLine(bench: "gemm", threads: threads, seconds: seconds)
    line.add("kind", "bf16dot")
    line.add("m", m)
    line.add("n", n)
    line.add("k", k)
    line.add("path", DotPath.best == .avx512bf16 ? "avx512_bf16" : "portable")
    line.add("gflops", flops / seconds / 1e9)
    line.add("sgemm_gflops", flops / (seconds * ratios[0]) / 1e9)
    line.add("sgemm_ratio", ratios[0])
    line.add("packing_share", ratios[1])
    line.add("left_share", ratios[2])
    line.add("ceiling_gflops", flops / (seconds * ratios[3]) / 1e9)
    line.add("multiply_of_ceiling", ratios[3] / ratios[4])
    line.add("of_ceiling", ratios[3] / ratios[5])
    line.note = DotPath.reason
    return line
}

/// Operands and memory of the products.
private struct DotWork: Sendable {
    let left: Matrix
    let right: Matrix
    let out: Matrix
    let m: Int
    private let leftQuantizer: Quantizer
    private let rightQuantizer: Quantizer
    private let leftMemory: [Row]
    private let rightMemory: [Row]
    private let arena: Arena

    /// Rows of A that are packed at a time.
    private static let tileRows = 64

    init(m: Int, n: Int, k: Int, threads: Int) throws {
        self.m = m
        let leftFloats = DotLeft.floats(rows: min(m, Self.tileRows), depth: k)
        let rightFloats = DotRight.floats(depth: k, columns: n)
        let scaleFloats = Scales.floats(.tensor, rows: 1, columns: 1)
        arena = try Arena(name: "bench gemm", capacity: Arena.padded(n * k) + Arena.padded(threads * m * k)
            + Arena.padded(threads * m * n) + threads * Arena.padded(leftFloats)
            + threads * Arena.padded(rightFloats) + 2 * scaleFloats + 64)
        right = arena.take(rows: n, columns: k)
        left = arena.take(rows: m * threads, columns: k)
        out = arena.take(rows: m * threads, columns: n)
        let memory = arena
        leftMemory = (0..<threads).map { _ in memory.take(leftFloats) }
        rightMemory = (0..<threads).map { _ in memory.take(rightFloats) }
        func quantizer(_ x: Matrix, stream: UInt64) -> Quantizer {
            let rng = CounterRNG(seed: 1, stream: stream)
            for index in 0..<x.all.count { x.all[index] = Float(rng.uniform(at: UInt64(index))) - 0.5 }
            let scales = Scales(.tensor, rows: x.rows, columns: x.columns, foldable: true,
                                memory: memory.take(scaleFloats))
            scales.set(ScaleRule.powerOfTwo.factor(amax: 0.5, format: .e4m3))
            return Quantizer(.e4m3, scales)
        }
        leftQuantizer = quantizer(left, stream: 0)
        rightQuantizer = quantizer(right, stream: 1)
    }

    func product(_ thread: Int, packsRight: Bool, packsLeft: Bool, multiplies: Bool) {
        let b = DotRight(right, transposed: true, rightQuantizer, memory: rightMemory[thread])
        if packsRight { b.pack() }
        guard packsLeft || multiplies else { return }
        for start in stride(from: 0, to: m, by: Self.tileRows) {
            let first = thread * m + start, count = min(Self.tileRows, m - start)
            // Without packing, what the first tile left is multiplied again and again.
            let a = DotLeft(left.rows(first, count), row: first, transposed: false, leftQuantizer,
                            memory: leftMemory[thread], isPacked: !packsLeft)
            if multiplies { DotGemm.times(out.rows(first, count), a, b) }
        }
    }

    func single(_ thread: Int) {
        Gemm.timesTransposed(out.rows(thread * m, m), left.rows(thread * m, m), right)
    }
}
