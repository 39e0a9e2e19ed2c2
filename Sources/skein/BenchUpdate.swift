import ArgumentParser
import Bench
import Recipe

/// The reduction and the update of a model's parameters between ranks, fused and one after the other.
struct UpdateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "update",
        abstract: "Gradients summed and weights updated between ranks: fused, and one after the other.",
        discussion: "Beside the all-reduce and the update alone, which say what fusing can gain at most.")

    @Option(help: "Rank processes to start; under a launcher, the launcher's count.")
    var ranks = 2
    @Option(help: "MiB of parameters.")
    var mib = 64
    @Option(help: "Timed rounds; the median is reported.")
    var rounds = 15
    @Option(help: "auto, tcp or shm, as comm.transport.")
    var transport = "auto"
    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        try require("ranks", ranks, 2...64)
        try require("mib", mib, 16...1 << 14)
        try requireRounds(rounds)
        guard kind != nil else { throw ValidationError("--transport must be auto, tcp or shm") }
    }

    private var kind: Recipe.TransportChoice? { Recipe.TransportChoice(rawValue: transport) }

    func run() throws {
        try requireRoom("--mib on \(ranks) ranks", floats: ranks * 12 * mib << 18)
        guard let setting = try rankSetting() else { return try launchBench(ranks: ranks) }
        try UpdateBench(megabytes: mib, rounds: rounds, transport: kind ?? .auto).run(setting) { emit($0, json: json) }
    }
}
