import ArgumentParser
import Base
import Bench
import Recipe
import Trainer

struct GenerateBenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate", abstract: "Writing with a config's model: a token, and a prompt.")
    @Option(help: "A TOML file; without it, the defaults.")
    var config: String?
    @Option(help: "Tokens of the vocabulary.")
    var vocabulary = 257
    @Option(help: "Tokens of the prompt that is read at once.")
    var prompt = 1_024
    @Option(help: "Tokens that a token looks back at.")
    var context = 256
    @Option(help: "Texts written side by side, in a second measurement.")
    var side = 8
    @OptionGroup var vectors: ISAOption
    @Option(help: "Threads; 0: the cores this process may use.")
    var threads = 1
    @Option(help: "Timed tokens; the median is reported.")
    var rounds = 100
    @Flag(help: "One JSON object a line.")
    var json = false
    @Argument(parsing: .allUnrecognized, help: "Values that replace the file's: --section.key value.")
    var overrides: [String] = []

    func validate() throws {
        try require("vocabulary", vocabulary, 2...1 << 20)
        try require("prompt", prompt, 1...1 << 20)
        try require("context", context, 1...1 << 20)
        try require("side", side, 1...1_024)
        try requireThreads(threads)
        try requireRounds(rounds)
    }

    func run() throws {
        let recipe = try ResolvedRecipe.load(file: config, flags: overrides).recipe
        let threads = threads == 0 ? Machine.cores() : threads
        emit(try benchGenerate(recipe, vocabulary: vocabulary, prompt: prompt, context: context, threads: threads,
                               side: side, rounds: rounds), json: json)
    }
}
