import Base
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
        return max(1, min(allowed, cgroupCores() ?? allowed))
    }

    /// `/proc/self/status` has the mask as a list: "Cpus_allowed_list: 0-3,8".
    private static func affinityCores() -> Int? {
        guard let line = line(of: "/proc/self/status", beginning: "Cpus_allowed_list:") else { return nil }
        var count = 0
        for part in line.drop(while: { $0 != ":" }).dropFirst().split(separator: ",") {
            let ends = part.split(separator: "-").compactMap { Int($0.filter(\.isNumber)) }
            guard let first = ends.first, let last = ends.last else { return nil }
            count += last - first + 1
        }
        return count == 0 ? nil : count
    }

    /// cgroup v2's `cpu.max` is "QUOTA PERIOD" in microseconds, or "max PERIOD". Rounded up: a part of a core is
    /// still a core that threads can run on.
    private static func cgroupCores() -> Int? {
        guard let text = line(of: "/sys/fs/cgroup/cpu.max", beginning: "") else { return nil }
        let parts = text.split(separator: " ")
        guard parts.count == 2, let quota = Int(parts[0]), let period = Int(parts[1]), period > 0 else { return nil }
        return (quota + period - 1) / period
    }

    /// The first line of a file that begins so.
    static func line(of path: String, beginning: String) -> String? {
        guard let file = unsafe fopen(path, "r") else { return nil }
        defer { unsafe fclose(file) }
        var buffer = [CChar](repeating: 0, count: 4_096)
        while unsafe fgets(&buffer, Int32(buffer.count), file) != nil {
            let bytes = buffer.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }
            let text = String(decoding: bytes, as: UTF8.self)
            if text.hasPrefix(beginning) { return text }
        }
        return nil
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
    /// the ceiling that model FLOPs utilisation is measured against. The best of `rounds`.
    public static func gemmPeak(pool: Pool, rounds: Int = 5) throws -> Double {
        let size = 1_024
        let arena = try Arena(name: "GEMM measurement", capacity: (1 + 2 * pool.threads) * size * size)
        let right = arena.take(rows: size, columns: size)
        let lefts = arena.take(rows: size * pool.threads, columns: size)
        let outs = arena.take(rows: size * pool.threads, columns: size)
        right.fill(0.5)
        lefts.fill(0.25)
        var best = 0.0
        for _ in 0..<(rounds + 1) {
            let start = MonotonicClock.seconds()
            pool.run(pool.threads) { tile, _ in
                Gemm.timesTransposed(outs.rows(tile * size, size), lefts.rows(tile * size, size), right)
            }
            let seconds = MonotonicClock.seconds() - start
            best = max(best, 2 * Double(size * size * size * pool.threads) / seconds / 1e9)
        }
        return best
    }
}
