import ArgumentParser
import Base
import Bench
import Trainer

struct QuantizeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quantize", abstract: "Rounding to small number formats, beside a copy of the same bytes.",
        discussion: "One thread. With --exhaustive, every one of the 2^32 floats is rounded on --threads threads and "
            + "held against a reference; a difference is exit code 1.")

    @Option(help: "Formats with commas: E4M3, E4M3-ieee, E3M4-finite, INT8, BF16, FP16, MXFP8, NVFP4, ...")
    var formats: String?
    @Option(help: "Numbers to round at once; 65536 stay in a cache.")
    var elements = 1 << 24
    @Option(help: "Timed rounds; the median is reported.")
    var rounds = 9
    @Flag(help: "Checks all floats; without --formats, for E4M3 and E5M2.")
    var exhaustive = false
    @Option(help: "Threads of --exhaustive; 0: the cores this process may use.")
    var threads = 0
    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        try require("elements", elements, 1...1 << 30)
        try requireRounds(rounds)
        try requireThreads(threads)
    }

    func run() throws {
        let usual = exhaustive ? "E4M3,E5M2" : "E4M3,E5M2,E3M2,E2M1,INT8,INT4,BF16,MXFP8,MXFP4,NVFP4"
        let names = (formats ?? usual).split(separator: ",").map(String.init)
        guard exhaustive else {
            var setting = QuantizeSetting(formats: names)
            (setting.elements, setting.rounds) = (elements, rounds)
            try requireRoom("--elements", floats: setting.floats)
            for line in try benchQuantize(setting) { emit(line, json: json) }
            return
        }
        var wrong: [String] = []
        for name in names {
            let (line, mismatches) = try benchEveryFloat(name, threads: threads == 0 ? Machine.cores() : threads)
            emit(line, json: json)
            if mismatches > 0 { wrong.append("\(name): \(mismatches)") }
        }
        guard wrong.isEmpty else { throw WrongRounding(counts: wrong.joined(separator: ", ")) }
    }
}

/// The quantiser is not what it says it is.
private struct WrongRounding: Fault {
    let counts: String
    var kind: FaultKind { .running }
    var description: String {
        "floats that this build rounds wrongly: \(counts) of 4294967296; rebuild, and report it with `skein bench "
            + "quantize --exhaustive --json` if it stays"
    }
}
