import Base
import Collectives
import Tensor
import Trainer
import Wire

/// What one run of `bench collectives` measures.
public struct CollectivesBench: Sendable {
    public var kind: CollectiveKind
    /// Of the whole buffer, as nccl-tests counts it; one line each.
    public var sizes: [Int]
    /// Nil: what training would use.
    public var algorithm: Algorithm?
    /// `plain` exists for benches only: frames without a checksum.
    public var protection: Protection

    public init(kind: CollectiveKind, sizes: [Int], algorithm: Algorithm?, protection: Protection) {
        self.kind = kind
        self.sizes = sizes
        self.algorithm = algorithm
        self.protection = protection
    }

    /// Runs as one rank of the job that `setting` names; rank 0's lines go to `report`.
    public func run(_ setting: RankSetting, report: (BenchLine) -> Void) throws {
        var options = MeshOptions(rank: setting.rank, worldSize: setting.worldSize, masterHost: setting.masterHost,
                                  masterPort: setting.masterPort, secret: try JobSecret.load(from: setting.secretFile),
                                  jobID: "bench collectives")
        options.protection = protection
        options.spins = setting.localWorldSize <= Machine.cores()
        options.claims = [("bench", "\(kind.name) of \(sizes) bytes")]
        let mesh = try Mesh.join(options)
        let communicator = Communicator(link: mesh)
        for bytes in sizes {
            let seconds = try measure(bytes, communicator, setting)
            if setting.rank == 0 { report(line(bytes, seconds, ranks: setting.worldSize)) }
        }
        try mesh.leave()
    }

    /// The median over the rounds; each is a barrier, then the collective. The first round's result is checked.
    private func measure(_ bytes: Int, _ communicator: Communicator, _ setting: RankSetting) throws -> Double {
        let rounds = bytes <= 1 << 16 ? 200 : (bytes <= 1 << 22 ? 40 : 10)
        let warmup = 3
        let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: max(1, bytes / 4))
        defer { unsafe buffer.deallocate() }
        var times: [Double] = []
        for round in 0..<(rounds + warmup) {
            unsafe buffer.update(repeating: Float(setting.rank + 1))
            try communicator.barrier()
            let start = MonotonicClock.seconds()
            try unsafe perform(on: buffer, communicator)
            if round >= warmup { times.append(MonotonicClock.seconds() - start) }
            if round == 0 { try unsafe check(buffer, setting) }
        }
        times.sort()
        return times[times.count / 2]
    }

    private func perform(on buffer: UnsafeMutableBufferPointer<Float>, _ communicator: Communicator) throws {
        let ticket = switch kind {
        case .allReduce: unsafe communicator.allReduce(buffer, algorithm: algorithm)
        case .reduceScatter: unsafe communicator.reduceScatter(buffer, algorithm: algorithm)
        case .allGather: unsafe communicator.allGather(buffer, algorithm: algorithm)
        case .broadcast:
            unsafe communicator.broadcast(UnsafeMutableRawBufferPointer(buffer), from: 0, algorithm: algorithm)
        case .barrier: preconditionFailure("a barrier moves no bytes")
        }
        try ticket.wait()
    }

    /// Ranks filled their buffers with rank + 1, so the sum, and each rank's part of a gather, are known.
    private func check(_ buffer: UnsafeMutableBufferPointer<Float>, _ setting: RankSetting) throws {
        let ranks = setting.worldSize
        let sum = Float(ranks * (ranks + 1) / 2)
        let parts = Partition(evenly: buffer.count, over: ranks)
        for rank in 0..<ranks {
            for index in parts.bounds[rank]..<parts.bounds[rank + 1] {
                let expected: Float? = switch kind {
                case .allReduce: sum
                case .reduceScatter: rank == setting.rank ? sum : nil
                case .allGather: Float(rank + 1)
                default: 1
                }
                guard let expected, unsafe buffer[index] != expected else { continue }
                preconditionFailure("\(kind.name) gave \(unsafe buffer[index]) for \(expected) at element \(index)")
            }
        }
    }

    private func line(_ bytes: Int, _ seconds: Double, ranks: Int) -> BenchLine {
        var line = BenchLine(bench: "collectives", threads: 1, ranks: ranks, seconds: seconds)
        line.add("op", kind.name)
        line.add("bytes", bytes)
        let chosen = algorithm ?? Algorithm.standard(for: kind, bytes: bytes, groupSize: ranks)
        line.add("algorithm", "\(chosen)")
        line.add("transport", "tcp")
        line.add("mode", "\(protection)")
        line.add("busbw_GB_per_s", Double(bytes) / seconds * kind.busFactor(worldSize: ranks) / 1e9)
        return line
    }
}
