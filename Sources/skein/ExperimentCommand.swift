import ArgumentParser
import Base
import Bench
import Telemetry

struct Experiment: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Repeats the experiments that the documentation reports.",
        subcommands: [Lengths.self, Optimizers.self, Warmup.self, Formats.self, Outlier.self, Everything.self])

    struct Lengths: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Equal tokens in rows cut in seven ways: bits a byte, speed, and time to the same value.",
            discussion: """
                Each run is in OUT/ARM-seedN. Ctrl-C saves and ends; the same command goes on. After the texts, values \
                of the recipe can be given as flags, for example --model.dim 256 --training.threads 2.
                """)

        @Option(help: "The folder of the runs.")
        var out: String
        @Option(help: "Tokens that each arm trains on.")
        var tokens = 4_000_000
        @Option(help: "Seeds, with commas; several give a spread.")
        var seeds = "0"
        @Option(help: "Arms, with commas; empty: all.")
        var arms = ""
        @Argument(parsing: .captureForPassthrough,
                  help: "Texts to train on and to judge by; then values of the recipe: --section.key value.")
        var texts: [String]

        func run() throws {
            let sources = try Experiment.sources(texts)
            try Experiment.requireTokens(tokens)
            var experiment = LengthsExperiment(sources: sources, folder: out)
            experiment.tokens = tokens
            experiment.overrides = Array(texts.dropFirst(sources.count))
            experiment.seeds = try Experiment.numbers(seeds)
            if !arms.isEmpty { experiment.arms = try Experiment.named(arms) }
            Experiment.say(try experiment.run(announce: { printError($0) }), lengthsTable)
        }
    }

    struct Warmup: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "A learning rate that is too high, with and without growing rows: who trains, and how steadily.",
            discussion: """
                Each run is in OUT/ARM-seedN. Ctrl-C saves and ends; the same command goes on. After the texts, values \
                of the recipe can be given as flags, for example --optimizer.lr 0.02 --training.local_batch_size 16; \
                --training.steps are those of full length, and the other arm takes as many tokens.
                """)

        @Option(help: "The folder of the runs.")
        var out: String
        @Option(help: "Seeds, with commas; several give a spread.")
        var seeds = "0,1,2,3,4,5,6,7"
        @Argument(parsing: .captureForPassthrough,
                  help: "Texts to train on and to judge by; then values of the recipe: --section.key value.")
        var texts: [String]

        func run() throws {
            let sources = try Experiment.sources(texts)
            var experiment = WarmupExperiment(sources: sources, folder: out)
            experiment.overrides = Array(texts.dropFirst(sources.count))
            experiment.seeds = try Experiment.numbers(seeds)
            Experiment.say(try experiment.run(announce: { printError($0) }), warmupTable)
        }
    }

    static func sources(_ texts: [String]) throws -> [String] {
        let sources = Array(texts.prefix { !$0.hasPrefix("--") })
        guard !sources.isEmpty else { throw BadInput("no texts; name files or folders after the options") }
        // They become a list on a command line, whose commas separate.
        if let path = sources.first(where: { $0.contains(",") }) {
            throw BadInput("\(path) has a comma in its name; rename it, or name the folder it lies in")
        }
        return sources
    }

    static func requireTokens(_ tokens: Int) throws(BadInput) {
        guard (1...1_000_000_000_000).contains(tokens) else {
            throw BadInput("--tokens \(tokens): it must be from 1 to 1000000000000")
        }
    }

    /// The arms that `names` lists.
    static func named<Arm: RawRepresentable & CaseIterable>(_ names: String) throws -> [Arm]
        where Arm.RawValue == String {
        try names.split(separator: ",").map { name in
            guard let arm = Arm(rawValue: String(name)) else {
                let all = Arm.allCases.map(\.rawValue).joined(separator: ", ")
                throw BadInput("--arms has no \(name); there are \(all)")
            }
            return arm
        }
    }

    /// Prints the table of an experiment that was not interrupted.
    static func say<Results>(_ results: Results?, _ table: (Results) -> String) {
        if let results { print(table(results)) } else { printError("interrupted; the same command goes on") }
    }

    static func numbers(_ text: String) throws -> [Int] {
        let found = text.split(separator: ",").compactMap { Int($0) }
        guard !found.isEmpty, found.count == text.split(separator: ",").count, found.allSatisfy({ $0 >= 0 }) else {
            throw BadInput("--seeds \(text) is no list of whole numbers, for example 0,1,2")
        }
        return found
    }
}
