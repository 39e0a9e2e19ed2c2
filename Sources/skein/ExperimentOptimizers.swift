import ArgumentParser
import Base
import Bench
import Telemetry

extension Experiment {
    struct Optimizers: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Optimizers on the same model and tokens: each at four rates, its best on more seeds.",
            discussion: """
                Each run is in OUT/ARM-RATE-seedN. Ctrl-C saves and ends; the same command goes on. After the texts, \
                values of the recipe can be given as flags, for example --model.dim 256 --training.threads 2.
                """)

        @Option(help: "The folder of the runs.")
        var out: String
        @Option(help: "Tokens that each run trains on.")
        var tokens = 2_000_000
        @Option(help: "Seeds on which the best rates run, besides 0 on which they are chosen, with commas.")
        var seeds = "1,2,3"
        @Option(help: "Arms, with commas; empty: all.")
        var arms = ""
        @Argument(parsing: .captureForPassthrough,
                  help: "Texts to train on and to judge by; then values of the recipe: --section.key value.")
        var texts: [String]

        func run() throws {
            let sources = try Experiment.sources(texts)
            try Experiment.requireTokens(tokens)
            var experiment = OptimizersExperiment(sources: sources, folder: out)
            experiment.tokens = tokens
            experiment.overrides = Array(texts.dropFirst(sources.count))
            experiment.seeds = try Experiment.numbers(seeds)
            guard !experiment.seeds.contains(0) else {
                throw BadInput("--seeds \(seeds): rates are chosen on seed 0; name other ones")
            }
            if !arms.isEmpty { experiment.arms = try Experiment.named(arms) }
            Experiment.say(try experiment.run(announce: { printError($0) }), optimizersTable)
        }
    }
}
