import Base
import Tensor

private func percent(_ ratio: Double) -> String { "\(Units.fixed((ratio - 1) * 100, 0)) %" }

/// Single-precision products through the same call that training makes, and OpenBLAS's beside them, timed in turn
/// (`openblas_ratio`: its time over ours). With several threads, each thread computes its own m x n product against one
/// shared right operand.
public func benchGemm(m: Int, n: Int, k: Int, threads: Int, rounds: Int) throws -> BenchLine {
    let pool = Pool(threads: threads)
    defer { pool.close() }
    let arena = try Arena(name: "bench gemm", capacity: threads * (Arena.padded(m * k) + Arena.padded(m * n))
        + Arena.padded(n * k) + 64)
    let right = arena.take(rows: n, columns: k)
    let left = arena.take(rows: m * threads, columns: k)
    let out = arena.take(rows: m * threads, columns: n)
    let rng = CounterRNG(seed: 1, stream: 0)
    for index in 0..<right.all.count { right.all[index] = Float(rng.uniform(at: UInt64(index))) - 0.5 }
    for index in 0..<left.all.count { left.all[index] = Float(rng.uniform(at: UInt64(index))) - 0.5 }
    func ours() {
        pool.run(threads) { tile, _ in
            Gemm.timesTransposed(out.rows(tile * m, m), left.rows(tile * m, m), right)
        }
    }
    func theirs() {
        pool.run(threads) { tile, _ in
            OpenBLAS.timesTransposed(out.rows(tile * m, m), left.rows(tile * m, m), right)
        }
    }
    let seconds = medianSeconds(rounds: rounds) { _ in ours() }
    let ratio = medianRatios(rounds: rounds, to: ours, [theirs])[0]
    var line = BenchLine(bench: "gemm", threads: threads, seconds: seconds)
    line.add("kind", "sgemm")
    line.add("m", m)
    line.add("n", n)
    line.add("k", k)
    line.add("gflops", 2 * Double(m) * Double(n) * Double(k) * Double(threads) / seconds / 1e9)
    line.add("openblas_ratio", ratio)
    // Within a percent or two the next round may say the opposite.
    line.note = ratio > 1.02 ? "training.matmul = \"own\" (the default) is faster here, by \(percent(ratio))"
        : ratio < 0.98 ? "training.matmul = \"openblas\" is faster here, by \(percent(1 / ratio)); "
            + "its bits are those of \(OpenBLAS.arithmetic) alone"
        : "own and OpenBLAS's products are equally fast here, to 2 %"
    return line
}
