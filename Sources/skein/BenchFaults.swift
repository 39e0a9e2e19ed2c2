import ArgumentParser
import Base
import Bench
import Foundation
import Launch
import Simulation
import Telemetry
import Trainer

/// Starts rank processes and does them harm, or is one of them where a launcher has set the rank.
struct FaultsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "faults", abstract: "Faults in jobs of real processes: who is blamed, and how soon.",
        discussion: "The seconds run from the injection to the end of the last survivor; where nothing must fail, from "
            + "the last rank's start to the end of all. Exit code 1 if anybody named the wrong rank.")

    @Option(help: "How often each fault is injected.")
    var injections = 5
    @Option(help: "Only these, with commas: kill, stop, silence, flip, garbage, flood, foreign-listener, wrong-secret.")
    var only = ""
    @Option(help: "Rounds of a rank's work; 0: until something fails. For the ranks that this starts.")
    var rounds = 0
    @Flag(help: "One job that replaces the ranks that it loses: kills and stops them one after the other.")
    var elastic = false
    @Option(help: "For --elastic: ranks of the job.")
    var ranks = 4
    @Option(help: "For --elastic: seconds between faults.")
    var interval = 2.0
    @Option(help: "For --elastic: draws whom they hit, and how.")
    var seed = 0
    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        try require("ranks", ranks, 3...64)
        try require("seed", seed, 0...Int.max)
        guard (0.1...3_600).contains(interval) else { throw ValidationError("--interval must be from 0.1 to 3600") }
        try require("injections", injections, 1...100_000)
        try require("rounds", rounds, 0...1_000_000)
        _ = try kinds()
    }

    private func kinds() throws -> [Injection] {
        guard !only.isEmpty else { return Injection.allCases }
        return try only.split(separator: ",").map { name in
            guard let kind = Injection(rawValue: String(name)) else {
                let names = Injection.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError("--only must be some of \(names)")
            }
            return kind
        }
    }

    func run() throws {
        if let setting = try rankSetting() {
            let rank = FaultsRank(heartbeatSeconds: 0.5, startSeconds: 4, rounds: rounds)
            let code = try rank.run(setting) { line in
                print(line)
                fflush(nil)
            }
            if code != 0 { throw ExitCode(code) }
            return
        }
        if elastic {
            var bench = ElasticBench(program: ProcessEnvironment.program())
            (bench.injections, bench.ranks, bench.interval, bench.seed) = (injections, ranks, interval, seed)
            let (line, wrong) = try bench.run()
            emit(line, json: json)
            if wrong != nil { throw ExitCode(1) }
            return
        }
        var bench = FaultsBench(program: ProcessEnvironment.program()) { rounds in
            ["bench", "faults", "--rounds", "\(rounds)"]
        }
        bench.injections = injections
        guard try bench.run(kinds(), report: { emit($0, json: json) }) else { throw ExitCode(1) }
    }
}

/// Whole jobs in virtual time.
struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate", abstract: "Whole jobs in virtual time, with faults from seeds.",
        discussion: "Real sessions, handshakes, frames and collectives over simulated sockets. A seed that fails "
            + "prints what each process came to, and replays the same by --first SEED --seeds 1. Exit code 1 if any "
            + "fails.")

    @Option(help: "How many seeds.")
    var seeds = 1000
    @Option(help: "The first of them.")
    var first = 0
    @Flag(help: "Ranks agree after a fault on how to go on.")
    var survives = false
    @Flag(help: "Also what each process came to where nothing is wrong.")
    var verbose = false
    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        try require("seeds", seeds, 1...1_000_000_000)
        try require("first", first, 0...1_000_000_000)
    }

    func run() throws {
        var failed = 0, strangers = 0, nanoseconds: UInt64 = 0
        let begin = MonotonicClock.seconds()
        for seed in first..<(first + seeds) {
            let report = Cluster(seed: seed, survives: survives).run()
            strangers += report.strangers
            nanoseconds += report.nanoseconds
            if !report.wrongs.isEmpty { failed += 1 }
            if verbose || !report.wrongs.isEmpty { printError(report.description) }
        }
        var line = BenchLine(bench: "simulate", threads: 1, seconds: MonotonicClock.seconds() - begin)
        line.add("seeds", seeds)
        line.add("survives", survives ? 1 : 0)
        line.add("failed", failed)
        line.add("strangers", strangers)
        line.add("virtual_s", Double(nanoseconds) * 1e-9)
        emit(line, json: json)
        if failed > 0 { throw ExitCode(1) }
    }
}

/// What many lives and many collectives leave behind in a process.
struct EnduranceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "endurance", abstract: "What many epochs, collectives and groups leave behind in a process.",
        discussion: "All ranks are threads of this process. Descriptors and threads that are more at the end, and "
            + "bytes of resident memory that each epoch, or collective, has added.")

    @Option(help: "Ranks.")
    var ranks = 3
    @Option(help: "How often the ranks join and leave.")
    var epochs = 100
    @Option(help: "All-reduces in one life.")
    var collectives = 10_000
    @Option(help: "Groups made in it, each with an all-reduce.")
    var groups = 1_000
    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        try require("ranks", ranks, 2...16)
        try require("epochs", epochs, 5...1_000_000)
        try require("collectives", collectives, 10...100_000_000)
        try require("groups", groups, 10...10_000_000)
    }

    func run() throws {
        var bench = EnduranceBench()
        (bench.ranks, bench.epochs, bench.collectives, bench.groups) = (ranks, epochs, collectives, groups)
        for line in try bench.run() { emit(line, json: json) }
    }
}
