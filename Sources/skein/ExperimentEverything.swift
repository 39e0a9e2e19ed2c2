import ArgumentParser
import Base
import Bench
import Foundation
import Launch
import Recipe
import Telemetry
import Wire

extension Experiment {
    struct Everything: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The whole system, the whole without each part, and nothing of it, on several ranks.",
            discussion: """
                Each run is in OUT/ARM-seedN, and what its ranks said in OUT/logs. Ctrl-C saves and ends; the same \
                command goes on. After the texts, values of the recipe can be given as flags, for example \
                --model.dim 256 --comm.transport shm.
                """)

        @Option(help: "The folder of the runs.")
        var out: String
        @Option(name: .customShort("n"), help: "Ranks of each run.")
        var ranks = 4
        @Option(help: "Tokens that each run trains on.")
        var tokens = 1_000_000
        @Option(help: "Seeds, with commas.")
        var seeds = "0"
        @Option(help: "Arms, with commas, such as all,no-precision,none; empty: all.")
        var arms = ""
        @Argument(parsing: .captureForPassthrough,
                  help: "Texts to train on and to judge by; then values of the recipe: --section.key value.")
        var texts: [String]

        func run() throws {
            let sources = try Experiment.sources(texts)
            try Experiment.requireTokens(tokens)
            try Job.require(ranks: ranks)
            var experiment = EverythingExperiment(sources: sources, folder: out)
            (experiment.tokens, experiment.ranks) = (tokens, ranks)
            experiment.overrides = Array(texts.dropFirst(sources.count))
            experiment.seeds = try Experiment.numbers(seeds)
            if !arms.isEmpty { experiment.arms = try named() }
            StopRequests.install()
            let results = try experiment.run(train: train, announce: { printError($0) })
            Experiment.say(results, everythingTable)
        }

        private func named() throws(BadInput) -> [EverythingExperiment.Arm] {
            var found: [EverythingExperiment.Arm] = []
            for name in arms.split(separator: ",") {
                guard let arm = EverythingExperiment.Arm.allCases.first(where: { $0.name == name }) else {
                    let names = EverythingExperiment.Arm.allCases.map(\.name).joined(separator: ", ")
                    throw BadInput("--arms \(name) is none of \(names)")
                }
                found.append(arm)
            }
            return found
        }

        /// Runs one recipe as `skein launch` would. False where it was asked to stop.
        private func train(_ run: String, _ resolved: ResolvedRecipe) throws -> Bool {
            let name = resolved.recipe.job.name
            for folder in ["recipes", "logs"] {
                try FileManager.default.createDirectory(atPath: "\(out)/\(folder)", withIntermediateDirectories: true)
            }
            let config = "\(out)/recipes/\(name).toml"
            try Data(resolved.toml.utf8).write(to: URL(fileURLWithPath: config))
            // What was interrupted goes on; a run that never saved begins.
            let isBegun = FileManager.default.fileExists(atPath: run + "/checkpoint")
            let job = try Job.training(
                ranks: ranks, program: ProcessEnvironment.program(), config: config,
                flags: ["--checkpoint.load", isBegun ? "latest" : ""], recipe: resolved.recipe,
                environment: ProcessEnvironment.current())
            let code = try Launcher(job, logs: "\(out)/logs/\(name)") { path in try JobSecret.create(at: path) }.run()
            if code != 0 { throw ExitCode(code) }
            return StopRequests.received().count == 0
        }
    }
}
