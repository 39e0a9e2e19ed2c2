import ArgumentParser
import Base
import Bench

struct CheckpointBenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "checkpoint",
        abstract: "Saving, verifying and loading, beside the disk's and SHA-256's own rates.")

    @Option(help: "Where it writes, and removes what it wrote: on the disk that is to be measured.")
    var folder = "."
    @Option(help: "MiB of the whole state: weights and two moments.")
    var megabytes = 96
    @Option(help: "Tensors of the weights.")
    var tensors = 24
    @Option(help: "Timed rounds; the median is reported.")
    var rounds = 3
    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        try require("megabytes", megabytes, 1...1 << 20)
        try require("tensors", tensors, 1...100_000)
        try requireRounds(rounds)
    }

    func run() throws {
        try requireRoom("--megabytes", floats: megabytes << 18)
        var setting = CheckpointBenchSetting()
        (setting.folder, setting.bytes, setting.tensors, setting.rounds) = (folder, megabytes << 20, tensors, rounds)
        for line in try benchCheckpoint(setting) { emit(line, json: json) }
    }
}
