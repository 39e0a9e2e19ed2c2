import Base
import Tensor
import Trainer

/// Every kernel's two passes on one thread, each beside what the machine can do: `copy` and `triad` of memory (out =
/// a, and out = out + s x, of 64 MiB each) and the GEMM peak.
public func benchKernels(rounds: Int, only: String? = nil) throws -> [BenchLine] {
    let kernels = try Kernel.all(.large).filter { only == nil || only == $0.name }
    guard !kernels.isEmpty else {
        let names = try Kernel.all(.large).map(\.name).joined(separator: ", ")
        throw BadInput("--only \(only ?? "") is no kernel; there are \(names)")
    }
    let pool = Pool(threads: 1)
    let peak = try Machine.gemmPeak(pool: pool)
    let (copy, triad) = try memoryRates(rounds: rounds)
    var lines: [BenchLine] = []
    for kernel in kernels {
        let memory = try KernelMemory(kernel)
        func line(_ name: String, _ pass: Kernel.Pass, _ run: () -> Void) {
            let seconds = medianSeconds(rounds: rounds) { _ in run() }
            var line = BenchLine(bench: "kernels", threads: 1, seconds: seconds)
            line.add("kernel", kernel.name)
            line.add("pass", name)
            line.add("GB_per_s", pass.bytes / seconds / 1e9)
            line.add("gflops", pass.flops / seconds / 1e9)
            line.add("copy_GB_per_s", copy)
            line.add("triad_GB_per_s", triad)
            line.add("peak_gflops", peak)
            lines.append(line)
        }
        line("forward", kernel.forward) { memory.runForward() }
        if let backward = kernel.backward { line("backward", backward.pass) { memory.runBackward() } }
    }
    return lines
}

/// GB/s that one thread moves, counted as STREAM does: every operand once each way.
private func memoryRates(rounds: Int) throws -> (copy: Double, triad: Double) {
    let count = 16 << 20
    let arena = try Arena(name: "memory measurement", capacity: 2 * count)
    let from = arena.take(count), to = arena.take(count)
    let copy = medianSeconds(rounds: rounds) { _ in to.copy(from) }
    let triad = medianSeconds(rounds: rounds) { _ in addScaled(to, from, 0.5) }
    return (Double(8 * count) / copy / 1e9, Double(12 * count) / triad / 1e9)
}
