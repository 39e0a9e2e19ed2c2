import Base
import Recipe
import Tensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What this process may use of the machine.
public enum Machine {
    /// Cores in the affinity mask, but no more than the cgroup's quota of processor time pays for. At least 1.
    public static func cores() -> Int {
        let allowed = affinityCores() ?? max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        return max(1, min(allowed, ControlGroups(root: "").cores ?? allowed))
    }

    /// `/proc/self/status` has the mask as a list: "Cpus_allowed_list: 0-3,8".
    private static func affinityCores() -> Int? {
        let line = KernelFiles.line(of: "/proc/self/status", beginning: "Cpus_allowed_list:")
        return line.flatMap { KernelFiles.numbers($0.drop { $0 != ":" }.dropFirst()) }?.count
    }

    /// How this program can be called from here: its path, relative where it lies below the current folder.
    static func programName() -> String {
        func path(_ link: String) -> String? {
            var buffer = [UInt8](repeating: 0, count: 4_096)
            let count = unsafe buffer.withUnsafeMutableBytes { bytes in
                unsafe readlink(link, bytes.baseAddress!, bytes.count)
            }
            return count > 0 ? String(decoding: buffer.prefix(count), as: UTF8.self) : nil
        }
        guard let program = path("/proc/self/exe"), let folder = path("/proc/self/cwd") else { return "skein" }
        return program.hasPrefix(folder + "/") ? String(program.dropFirst(folder.utf8.count + 1)) : program
    }

    /// Single-precision GFLOP/s of products of 1,024 rows of 1,024 by 1,024 for each thread, all threads at once:
    /// the ceiling that model FLOPs utilisation is measured against, by whoever multiplies in the run of `recipe`.
    /// Where that quantises operands, these are products of bf16, and the rows are quantised tile by tile as in a step.
    /// The best of `rounds`.
    public static func gemmPeak(pool: Pool, recipe: Recipe = Recipe(), rounds: Int = 5) throws -> Double {
        let size = 1_024, tile = 64, isQuantised = recipe.precision.recipe != .fp32, matmul = recipe.training.matmul
        let scales = Scales.floats(.tensor, rows: size, columns: size)
        let extra = isQuantised ? pool.threads * Arena.padded(DotLeft.floats(rows: tile, depth: size)) + scales : 0
        let arena = try Arena(name: "GEMM measurement", capacity: (1 + 2 * pool.threads) * size * size + extra)
        defer { withExtendedLifetime(arena) {} }
        let right = arena.take(rows: size, columns: size)
        let lefts = arena.take(rows: size * pool.threads, columns: size)
        let outs = arena.take(rows: size * pool.threads, columns: size)
        right.fill(0.5)
        lefts.fill(0.25)
        let dot = !isQuantised ? nil
            : DotMeasurement(lefts.rows(0, size), packed: right.all, tile: tile, pool: pool, arena)
        var best = 0.0
        for _ in 0..<(rounds + 1) {
            let start = MonotonicClock.seconds()
            pool.run(pool.threads) { tile, worker in
                let out = outs.rows(tile * size, size), left = lefts.rows(tile * size, size)
                if let dot { return dot.multiply(out, left, worker) }
                switch matmul {
                case .own: Gemm.timesTransposed(out, left, right)
                case .openblas: OpenBLAS.timesTransposed(out, left, right)
                }
            }
            let seconds = MonotonicClock.seconds() - start
            best = max(best, 2 * Double(size * size * size * pool.threads) / seconds / 1e9)
        }
        return best
    }
}

/// Products of quantised operands as a step makes them: the right one packed once, the left one tile by tile.
private struct DotMeasurement: Sendable {
    private let right: DotRight
    private let quantizer: Quantizer
    private let scratch: Matrix
    private let tile: Int

    /// `weight` is packed into `packed`, as many floats.
    init(_ weight: Matrix, packed: Row, tile: Int, pool: Pool, _ arena: Arena) {
        let scales = Scales(.tensor, rows: weight.rows, columns: weight.columns, foldable: true,
                            memory: arena.take(Scales.floats(.tensor, rows: weight.rows, columns: weight.columns)))
        quantizer = Quantizer(.bf16, scales)
        right = DotRight(weight, transposed: true, quantizer, memory: packed)
        right.pack()
        scratch = arena.take(rows: pool.threads, columns: Arena.padded(DotLeft.floats(rows: tile,
                                                                                      depth: weight.columns)))
        self.tile = tile
    }

    func multiply(_ out: Matrix, _ left: Matrix, _ worker: Int) {
        for start in stride(from: 0, to: left.rows, by: tile) {
            let packed = DotLeft(left.rows(start, tile), row: start, transposed: false, quantizer,
                                 memory: scratch.row(worker))
            DotGemm.times(out.rows(start, tile), packed, right)
        }
    }
}
