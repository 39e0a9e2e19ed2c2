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
    public var wire: WireFormat
    /// `plain` exists for benches only: frames without a checksum.
    public var protection: Protection
    public var transport = Transport.auto

    public init(kind: CollectiveKind, sizes: [Int], algorithm: Algorithm?, wire: WireFormat, protection: Protection) {
        self.kind = kind
        self.sizes = sizes
        self.algorithm = algorithm
        self.wire = wire
        self.protection = protection
    }

    /// Runs as one rank of the job that `setting` names; rank 0's lines go to `report`.
    public func run(_ setting: RankSetting, report: (BenchLine) -> Void) throws {
        try join(setting) { communicator in
            for bytes in sizes {
                let seconds = try measure(bytes, communicator, setting)
                if setting.rank == 0 { report(line(bytes, seconds, ranks: setting.worldSize)) }
            }
        }
    }

    /// Measures all algorithms, and returns on rank 0 what was found.
    public func tune(_ setting: RankSetting) throws -> [CollectivesTune.Finding] {
        var findings: [CollectivesTune.Finding] = []
        try join(setting) { findings = try CollectivesTune().run(self, $0) }
        return findings
    }

    private func join(_ setting: RankSetting, _ body: (Communicator) throws -> Void) throws {
        var options = MeshOptions(rank: setting.rank, worldSize: setting.worldSize, masterHost: setting.masterHost,
                                  masterPort: setting.masterPort, secret: try JobSecret.load(from: setting.secretFile),
                                  jobID: "bench collectives")
        options.protection = protection
        options.transport = transport
        options.spins = setting.localWorldSize <= Machine.cores()
        options.claims = [("bench", "\(kind.name) of \(sizes) bytes")]
        let mesh = try Mesh.join(options)
        let communicator = Communicator(link: mesh)
        try body(communicator)
        try mesh.leave()
    }

    /// The median over the rounds; each is a barrier, then the collective. The first round's result is checked.
    private func measure(_ bytes: Int, _ communicator: Communicator, _ setting: RankSetting) throws -> Double {
        let rounds = bytes <= 1 << 16 ? 200 : (bytes <= 1 << 22 ? 40 : 10)
        let warmup = 3
        let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: max(1, bytes / 4))
        let source = UnsafeMutableBufferPointer<Float>.allocate(capacity: kind == .allToAll ? buffer.count : 0)
        defer {
            unsafe buffer.deallocate()
            unsafe source.deallocate()
        }
        unsafe source.update(repeating: Float(setting.rank + 1))
        var times: [Double] = []
        for round in 0..<(rounds + warmup) {
            unsafe buffer.update(repeating: Float(setting.rank + 1))
            try communicator.barrier()
            let start = MonotonicClock.seconds()
            try unsafe perform(on: buffer, from: UnsafeBufferPointer(source), communicator)
            if round >= warmup { times.append(MonotonicClock.seconds() - start) }
            if round == 0 { try unsafe check(buffer, setting) }
        }
        times.sort()
        return times[times.count / 2]
    }

    func perform(on buffer: UnsafeMutableBufferPointer<Float>, from source: UnsafeBufferPointer<Float>,
                         _ communicator: Communicator) throws {
        let style = CollectiveStyle(wire: wire, algorithm: algorithm)
        let rank = communicator.rank, ranks = communicator.worldSize
        let bytes = UnsafeMutableRawBufferPointer(buffer)
        func own(_ parts: Partition) -> UnsafeMutableRawBufferPointer {
            rank == 0 ? unsafe bytes : unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[parts[rank]])
        }
        // Whole floats each.
        let floats = Partition(evenly: buffer.count, over: ranks)
        let parts = Partition(bounds: floats.bounds.map { 4 * $0 })
        let ticket = switch kind {
        case .allReduce: unsafe communicator.allReduce(buffer, style: style)
        case .reduceScatter: unsafe communicator.reduceScatter(buffer, style: style)
        case .allGather: unsafe communicator.allGather(buffer, style: style)
        case .broadcast: unsafe communicator.broadcast(bytes, from: 0, style: style)
        case .reduce: unsafe communicator.reduce(buffer, to: 0, style: style)
        case .allToAll: unsafe communicator.allToAll(source, floats, into: buffer, floats, style: style)
        case .gather: unsafe communicator.gather(own(parts), partition: parts, at: 0, style: style)
        case .scatter: unsafe communicator.scatter(own(parts), partition: parts, from: 0, style: style)
        case .transfer: unsafe rank == 0 ? communicator.send(bytes, to: 1) : communicator.receive(bytes, from: 0)
        case .barrier: preconditionFailure("a barrier moves no bytes")
        }
        try ticket.wait()
    }

    /// Ranks filled their buffers with rank + 1, so the sum, and each rank's part of what was moved, are known.
    private func check(_ buffer: UnsafeMutableBufferPointer<Float>, _ setting: RankSetting) throws {
        let ranks = setting.worldSize
        let sum = Float(ranks * (ranks + 1) / 2)
        let parts = Partition(evenly: buffer.count, over: ranks)
        for rank in 0..<ranks {
            for index in parts.bounds[rank]..<parts.bounds[rank + 1] {
                let expected: Float? = switch kind {
                case .allReduce: sum
                case .reduce: setting.rank == 0 ? sum : nil
                case .reduceScatter: rank == setting.rank ? sum : nil
                case .allGather, .allToAll: Float(rank + 1)
                case .gather: setting.rank == 0 ? Float(rank + 1) : nil
                case .scatter: rank == setting.rank ? 1 : nil
                case .broadcast, .transfer, .barrier: 1
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
        let chosen = algorithm ?? Choice().algorithm(for: kind, bytes: bytes, groupSize: ranks, wire: wire)
        line.add("algorithm", chosen.name)
        line.add("wire", wire == .native ? "fp32" : "bf16")
        line.add("transport", "\(transport == .tcp ? "tcp" : "shm")")
        line.add("mode", "\(protection)")
        line.add("busbw_GB_per_s", Double(bytes) / seconds * kind.busFactor(worldSize: ranks) / 1e9)
        return line
    }
}
