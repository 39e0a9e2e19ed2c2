import Base
import Checkpoint
import Glibc
import Storage

/// What `bench checkpoint` measures.
public struct CheckpointBenchSetting: Sendable {
    /// Where it writes; what it writes there is removed.
    public var folder = "."
    /// Bytes of the whole state: weights and two moments, a third each.
    public var bytes = 96 << 20
    /// Tensors of each of the three.
    public var tensors = 24
    public var rounds = 3

    public init() {}
}

/// Saving a checkpoint, verifying it and loading it, each beside what the machine could do at best. One line each:
///
/// - `disk`: the same bytes written to a file and synced, by the calls that a save uses.
/// - `sha256`, `crc32c`: the checksums alone, of bytes in memory, on one thread.
/// - `save`, `save-zstd`: a whole checkpoint, without and with a compressed optimizer state.
/// - `verify`, `verify-zstd`: every byte of it against its checksums; the file is in the page cache.
/// - `load`, `load-zstd`: every tensor into memory, checked on the way.
///
/// The rate is of the state's bytes, and of the stored ones for `verify`; `cpu_seconds` is what a round costs all
/// threads together, which a busy machine does not change. Values are normal, and the second moments
/// their squares, smoothed: about as random as a run's own.
public func benchCheckpoint(_ setting: CheckpointBenchSetting) throws -> [BenchLine] {
    let disk = RealDisk(), bench = try CheckpointBench(setting)
    let folder = joined(setting.folder, ".skein-bench-checkpoint")
    try bench.clear(folder, disk)
    try disk.createFolder(folder)
    defer { try? bench.clear(folder, disk) }
    var lines = [
        try bench.line("disk") { _ in try bench.writePlainly(folder, disk) },
        try bench.line("sha256") { _ in _ = unsafe sha256(bench.memory) },
        try bench.line("crc32c") { _ in _ = unsafe CRC32C.checksum(bench.memory) },
    ]
    for (ending, compresses) in [("", false), ("-zstd", true)] {
        let writer = CheckpointWriter(folder: folder, options: SaveOptions(compressesOptimizer: compresses))
        var line = try bench.line("save" + ending) { round in try bench.save(writer, step: round) }
        let checkpoint = try Checkpoint.open(joined(folder, "step-\(setting.rounds)"))
        let stored = checkpoint.manifest.files.reduce(0) { $0 + $1.size }
        line.add("stored_bytes", stored)
        lines.append(line)
        line = try bench.line("verify" + ending, bytes: stored) { _ in try checkpoint.requireWhole() }
        let verification = try checkpoint.verification()
        line.add("sha256_MB_per_s", verification.hashRate * 1e-6)
        line.note = "verify\(ending): bounded by "
            + (verification.isBoundByHash ? "SHA-256" : "reading and CRC-32C, not by SHA-256")
        lines.append(line)
        lines.append(try bench.line("load" + ending) { _ in try bench.load(checkpoint) })
        try bench.clear(folder, disk)
        try disk.createFolder(folder)
    }
    return lines
}

/// The state that is saved, and memory to load it into.
@safe private final class CheckpointBench {
    let memory: UnsafeRawBufferPointer
    private let values: UnsafeMutableRawBufferPointer
    private let target: UnsafeMutableRawBufferPointer
    private let rounds: Int
    private let model: [TensorSource]
    private let optimizer: [TensorSource]

    init(_ setting: CheckpointBenchSetting) throws {
        rounds = setting.rounds
        let count = max(setting.bytes / 4 / 3 / setting.tensors, 2) / 2 * 2, third = count * setting.tensors
        unsafe values = UnsafeMutableRawBufferPointer.allocate(byteCount: 3 * third * 4, alignment: 64)
        unsafe target = UnsafeMutableRawBufferPointer.allocate(byteCount: count * 4, alignment: 64)
        unsafe memory = UnsafeRawBufferPointer(values)
        let floats = unsafe values.bindMemory(to: Float.self), rng = CounterRNG(seed: 1, stream: 0)
        for pair in 0..<(3 * third / 2) {
            let (a, b) = rng.normalPair(at: UInt64(pair))
            let isVariance = 2 * pair >= 2 * third
            unsafe floats[2 * pair] = Float(isVariance ? 1e-6 * (a * a + 0.1) : 0.02 * a)
            unsafe floats[2 * pair + 1] = Float(isVariance ? 1e-6 * (b * b + 0.1) : 0.02 * b)
        }
        var sources: [TensorSource] = []
        for (kind, prefix) in ["", "momentum.", "variance."].enumerated() {
            for index in 0..<setting.tensors {
                let start = (kind * third + index * count) * 4
                sources.append(unsafe TensorSource(
                    "\(prefix)layers.\(index).weight", .float32, [2, count / 2],
                    bytes: UnsafeRawBufferPointer(rebasing: values[start..<(start + count * 4)])))
            }
        }
        model = Array(sources.prefix(setting.tensors))
        optimizer = Array(sources.dropFirst(setting.tensors))
    }

    deinit {
        unsafe values.deallocate()
        unsafe target.deallocate()
    }

    /// Measures `body`, which gets the round's number.
    func line(_ kind: String, bytes: Int? = nil, _ body: (Int) throws -> Void) throws -> BenchLine {
        let cpu = cpuSeconds(), seconds = try medianSeconds(rounds: rounds, body)
        let isShared = kind.hasPrefix("verify") || kind.hasPrefix("save")
        var line = BenchLine(bench: "checkpoint", threads: isShared ? 2 : 1, seconds: seconds)
        line.add("kind", kind)
        let count = unsafe bytes ?? memory.count
        line.add("bytes", count)
        line.add("MB_per_s", Double(count) * 1e-6 / seconds)
        line.add("cpu_seconds", (cpuSeconds() - cpu) / Double(rounds + 1))
        return line
    }

    /// Of all threads of this process.
    private func cpuSeconds() -> Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    func writePlainly(_ folder: String, _ disk: RealDisk) throws(DiskError) {
        let path = joined(folder, "plain")
        let count = unsafe memory.count, file = try disk.create(path, size: count)
        defer { disk.close(file) }
        for start in stride(from: 0, to: count, by: 4 << 20) {
            let block = unsafe UnsafeRawBufferPointer(rebasing: memory[start..<min(start + (4 << 20), count)])
            try unsafe disk.write(block, to: file, at: start)
        }
        try disk.sync(file)
        try disk.remove(path)
    }

    func save(_ writer: CheckpointWriter, step: Int) throws {
        let manifest = Manifest(
            step: step, tokens: 0, worldSize: 1,
            data: SavedPosition(fingerprint: "bench", seed: 0, row: 0, position: []), rng: RNGState(seed: 0))
        _ = try writer.write(manifest, recipe: "", tokenizer: "{}", model: model, optimizer: optimizer)
    }

    func load(_ checkpoint: Checkpoint) throws {
        let reader = checkpoint.reader()
        for source in model + optimizer { unsafe try checkpoint.read(source.spec, into: target, with: reader) }
    }

    /// Removes the checkpoints and the folder.
    func clear(_ folder: String, _ disk: RealDisk) throws(DiskError) {
        guard try disk.kind(folder) != nil else { return }
        for name in try disk.list(folder) {
            let path = joined(folder, name)
            if case .folder = try disk.kind(path) {
                for file in try disk.list(path) { try disk.remove(joined(path, file)) }
                try disk.removeFolder(path)
            } else {
                try disk.remove(path)
            }
        }
        try disk.removeFolder(folder)
    }
}
