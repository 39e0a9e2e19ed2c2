import ArgumentParser
import Base
import Model
import Recipe
import Storage
import Telemetry
import Tensor
import Trainer

struct Report: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes one page about a run that needs no network.",
        discussion: """
            Loss and bits a byte, speed, lengths, network, memory, the config with where each value came from, and \
            what the latest checkpoint writes: RUN/report.html, a single file to open or to send.
            """)

    @Argument(help: ArgumentHelp("A run's folder (outputs/NAME).", valueName: "run"))
    var folder: String
    @Option(help: "The file to write instead.")
    var out: String?
    @Option(help: "Texts that the latest checkpoint writes for the page.")
    var samples = 2
    @Option(help: "Tokens of each.")
    var tokens = 200
    @Option(help: "What they begin with.")
    var prompt = ""

    func validate() throws {
        guard (0...100).contains(samples) else { throw ValidationError("--samples must be from 0 to 100") }
        guard (1...100_000).contains(tokens) else { throw ValidationError("--tokens must be from 1 to 100000") }
    }

    func run() throws {
        let record = try runRecord(folder)
        var written: [RunReport.Sample] = [], checkpoint: String?
        if samples > 0 {
            do {
                let model = try LoadedModel(path: folder)
                checkpoint = "\(model.checkpoint.path), temperature 0.8"
                written = try texts(model)
            } catch let fault as any Fault {
                printError("skein: warning: no samples: \(oneLine("\(fault)"))")
            }
        }
        let path = out ?? joined(folder, "report.html")
        let html = RunReport(record, samples: written, checkpoint: checkpoint).html
        try RealDisk().replace(path, with: [Array(html.utf8)])
        print("\(path): \(Units.bytes(html.utf8.count))")
    }

    private func texts(_ model: LoadedModel) throws -> [RunReport.Sample] {
        let pool = Pool(threads: Machine.cores())
        defer { pool.close() }
        return try (0..<samples).map { seed in
            var bytes: [UInt8] = []
            let sampler = Sampler(temperature: 0.8, topK: 0, seed: seed)
            try model.generate(prompts: [prompt], count: tokens, sampler: sampler, pool: pool, emit: { _, token in
                bytes += model.tokenizer.decode([Int32(token)])
                return .goOn
            })
            return RunReport.Sample(prompt: prompt, text: String(decoding: bytes, as: UTF8.self))
        }
    }
}

struct Compare: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Puts runs side by side.",
        discussion: "Prints a table, and the keys on which their configs differ. With --out a page as well.")

    @Argument(help: "Folders of runs (outputs/NAME).")
    var runs: [String]
    @Option(help: "A page with their curves in common charts.")
    var out: String?

    func validate() throws {
        guard runs.count >= 2 else { throw ValidationError("name two runs or more") }
    }

    func run() throws {
        let comparison = RunComparison(try runs.map(runRecord))
        printAligned(comparison.rows, left: [0])
        if !comparison.differences.isEmpty {
            print("")
            printAligned(comparison.differences, left: Set(0...runs.count))
        }
        guard let out else { return }
        let html = comparison.html
        try RealDisk().replace(out, with: [Array(html.utf8)])
        print("\n\(out): \(Units.bytes(html.utf8.count))")
    }
}

/// A run by its folder, which must hold what a run leaves.
private func runRecord(_ path: String) throws -> RunRecord {
    let path = trimmingSlashes(path)
    guard try RealDisk().kind(path) == .folder else {
        throw BadInput("\(path) is no folder; give a run's (outputs/NAME)")
    }
    let config = joined(path, "config.toml")
    guard try RealDisk().kind(config) != nil else {
        throw BadInput("\(path) has no config.toml; give the folder of a run (outputs/NAME)")
    }
    return try RunRecord(path: path, config: readText(config))
}
