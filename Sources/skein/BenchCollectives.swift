import ArgumentParser
import Base
import Bench
import Collectives
import Foundation
import Launch
import Trainer
import Wire

/// Starts its own rank processes on this machine, or is one of them where a launcher has set the rank.
struct CollectivesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "collectives",
        abstract: "Collectives between processes, over TCP on this machine.",
        discussion: "Bus bandwidth as nccl-tests defines it. The median over 200, 40 or 10 rounds by size.")

    @Option(help: "Rank processes to start; under a launcher, the launcher's count.")
    var ranks = 2
    @Option(help: "all-reduce, reduce-scatter, all-gather, all-to-all, broadcast, reduce, gather, scatter or transfer.")
    var op = "all-reduce"
    @Option(help: "Bytes of the buffer; several sizes with commas.")
    var bytes = "4096,65536,1048576,16777216,67108864"
    @Option(help: "The way between ranks: tcp or shm (shared memory).")
    var transport = "tcp"
    @Option(help: "plain, checked (CRC-32C) or sealed (AES-256-GCM).")
    var mode = "checked"
    @Option(help: "ring, recursive-doubling, halving-doubling, direct, tree or chain; else what training would use.")
    var algorithm: String?
    @Option(help: "What numbers are while they travel: fp32 or bf16.")
    var wire = "fp32"
    @Option(help: "Measures every algorithm and writes a table for comm.table to this file.")
    var tune: String?
    @Flag(help: "Prints which algorithm each collective takes by bytes, and what a rank sends; measures nothing.")
    var explain = false
    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        guard (2...64).contains(ranks) else { throw ValidationError("--ranks must be from 2 to 64") }
        guard transport == "tcp" || transport == "shm" else { throw ValidationError("--transport must be tcp or shm") }
        guard try kind() != .transfer || ranks == 2 else { throw ValidationError("--op transfer has 2 ranks") }
        _ = try (kind(), protection(), sizes(), chosenAlgorithm(), wireFormat())
    }

    private func kind() throws -> CollectiveKind {
        guard let kind = CollectiveKind.allCases.first(where: { $0.name == op }), kind != .barrier else {
            let names = CollectiveKind.allCases.filter { $0 != .barrier }.map(\.name).joined(separator: ", ")
            throw ValidationError("--op must be one of \(names)")
        }
        return kind
    }

    private func protection() throws -> Protection {
        switch mode {
        case "plain": return .plain
        case "checked": return .checked
        case "sealed": return .sealed
        default: throw ValidationError("--mode must be plain, checked or sealed")
        }
    }

    private func sizes() throws -> [Int] {
        let texts = bytes.split(separator: ",")
        guard !texts.isEmpty else { throw ValidationError("--bytes names no size") }
        return try texts.map { text in
            guard let size = Int(text), size >= 4, size <= 1 << 34 else {
                throw ValidationError("--bytes: \(text) is no size from 4 bytes to 16 GiB")
            }
            return size
        }
    }

    /// The least that is held where a rank is: its buffer, and in flight as much again.
    private func requireBuffers(ranks: Int) throws {
        let largest = try sizes().max() ?? 0
        try requireRoom("--bytes on \(ranks) ranks", floats: ranks * largest / 2)
    }

    private func chosenAlgorithm() throws -> Algorithm? {
        guard let algorithm else { return nil }
        guard let found = Algorithm(name: algorithm) else {
            let names = Algorithm.allCases.map(\.name).joined(separator: ", ")
            throw ValidationError("--algorithm must be one of \(names)")
        }
        guard try found.serves(kind(), groupSize: ranks) else {
            throw ValidationError("--algorithm \(algorithm) does not serve \(op) over \(ranks) ranks")
        }
        return found
    }

    private func wireFormat() throws -> WireFormat {
        if wire == "fp32" { return .native }
        guard wire == "bf16" || wire == "e4m3" else { throw ValidationError("--wire must be fp32, bf16 or e4m3") }
        guard try Algorithm.direct.serves(kind(), groupSize: ranks), try kind() != .gather, try kind() != .scatter,
              try kind() != .transfer, try [nil, .direct].contains(chosenAlgorithm()) else {
            throw ValidationError("--wire \(wire) is for all-reduce, reduce-scatter and all-gather, by direct exchange")
        }
        return wire == "bf16" ? .bfloat16 : .e4m3
    }

    private func launchRanks() throws {
        try requireBuffers(ranks: ranks)
        try launchBench(ranks: ranks)
    }

    func run() throws {
        if explain { return printChoices() }
        guard let setting = try rankSetting() else { return try launchRanks() }
        var bench = try CollectivesBench(kind: kind(), sizes: sizes(), algorithm: chosenAlgorithm(),
                                         wire: wireFormat(), protection: protection())
        bench.transport = Transport(rawValue: transport) ?? .tcp
        if let tune { return try write(bench.tune(setting), setting, to: tune) }
        try bench.run(setting) { emit($0, json: json) }
    }

    private func write(_ findings: [CollectivesTune.Finding], _ setting: RankSetting, to path: String) throws {
        guard setting.rank == 0 else { return }
        for finding in findings {
            let times = finding.seconds.map { "\($0.algorithm.name) \(Units.fixed($0.seconds * 1e6, 1)) us" }
            print("\(finding.kind.name) \(Units.bytes(finding.bytes)): \(times.joined(separator: ", ")); "
                + "\(finding.chosen == finding.standard ? "default" : "chosen"): \(finding.chosen.name)")
        }
        let table = CollectivesTune.table(findings, ranks: setting.worldSize)
        let text = "# skein bench collectives --tune, \(setting.worldSize) ranks, \(transport), \(mode)\n" + table.text
        do {
            try text.write(toFile: path, atomically: true, encoding: .utf8)
        } catch {
            throw BadInput("\(path) cannot be written (\(error.localizedDescription)); name another file for --tune")
        }
        print("written to \(path); name it by comm.table")
    }

    /// From the largest size down, a line wherever another algorithm begins.
    private func printChoices() {
        print("collectives over \(ranks) ranks: up to so many bytes, by which algorithm, in how many messages, and "
            + "bytes that rank 0 sends")
        for kind in CollectiveKind.allCases where kind != .transfer && kind != .barrier {
            let sizes = (2...28).map { 1 << $0 }
            for (place, bytes) in sizes.enumerated() {
                let algorithm = Choice().algorithm(for: kind, bytes: bytes, groupSize: ranks)
                let isLast = place + 1 == sizes.count
                if !isLast, Choice().algorithm(for: kind, bytes: sizes[place + 1], groupSize: ranks) == algorithm {
                    continue
                }
                let group = Group(worldSize: ranks, rank: 0), even = Partition(evenly: bytes / 4, over: ranks)
                let request = Request(kind, .float32, count: bytes / 4, group: group,
                                      partition: kind == .allToAll ? even : nil,
                                      outgoing: kind == .allToAll ? even : nil)
                let schedule = request.schedule(segmentBytes: CommunicatorOptions().segmentBytes)
                let sends = schedule.steps.filter { $0.deed == .send }
                let sent = sends.reduce(0) { $0 + 4 * $1.range.count }
                print("  \(kind.name)  \(isLast ? "any size" : "to \(Units.bytes(bytes))")  \(algorithm.name)  "
                    + "at \(Units.bytes(bytes)): \(sends.count) messages, \(Units.bytes(sent))")
            }
        }
    }
}

/// Starts this very command as `ranks` processes on this machine, and ends as they do.
func launchBench(ranks: Int) throws {
    let job = try Job(ranks: ranks, command: [ProcessEnvironment.program()] + CommandLine.arguments.dropFirst(),
                      environment: ProcessEnvironment.current())
    StopRequests.install()
    let code = try Launcher(job) { path in try JobSecret.create(at: path) }.run()
    if code != 0 { throw ExitCode(code) }
}
