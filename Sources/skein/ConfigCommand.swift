import ArgumentParser
import Base
import Recipe
import Storage
import Trainer

struct Config: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what a config says, or begins one.",
        subcommands: [Explain.self, Keys.self, Init.self, Pages.self])

    struct Explain: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Prints every resolved value and where it came from.")

        @Argument(help: "A TOML file.")
        var config: String

        @Argument(parsing: .captureForPassthrough, help: "Values that replace the file's: --section.key value.")
        var overrides: [String] = []

        func run() throws {
            let resolved = try ResolvedRecipe.load(file: config, flags: overrides)
            for line in resolved.translations { print("# \(line)") }
            let lines = Recipe.keys.map { key in
                ("\(key.name) = \(key.read(resolved.recipe).toml)", resolved.origin(key.name).description)
            }
            let width = min(60, lines.map(\.0.count).max() ?? 0)
            for (value, origin) in lines {
                print(value + String(repeating: " ", count: max(1, width - value.count + 2)) + "# " + origin)
            }
        }
    }

    struct Keys: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Lists every key with its default.")

        func run() {
            for key in Recipe.keys {
                print("\(key.name) = \(key.read(Recipe()).toml)\n    \(key.help) (\(key.expected))")
            }
            print("\nnanoGPT's names that are accepted:")
            for (alias, name) in Recipe.aliases.sorted(by: { $0.key < $1.key }) { print("    \(alias) is \(name)") }
        }
    }

    struct Init: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Writes a config from one number, the model's depth.",
            discussion: """
                Width, heads, learning rate and the number of steps follow from the depth. The result is a config like \
                any other, to be changed by hand; skein plan says what it takes.
                """)

        @Option(help: "Transformer blocks; the width is 64 for each.")
        var depth: Int
        @Option(parsing: .upToNextOption, help: "What it will learn from: texts or folders.")
        var data: [String] = []
        @Option(help: "`bytes`, or a tokenizer.json or the folder with one.")
        var tokenizer = "bytes"
        @Option(name: .customLong("seq-len"), help: "Tokens in a row.")
        var sequence = 512
        @Option(name: .customLong("batch-tokens"), help: "Tokens of a step.")
        var batchTokens = 16_384
        @Option(help: "Tokens to train on for each parameter.")
        var ratio = 20.0
        @Option(help: "The file to write; without it, the terminal.")
        var out: String?

        func validate() throws {
            guard (1...Recipe.maximumDepth).contains(depth) else {
                throw ValidationError("--depth must be from 1 to \(Recipe.maximumDepth)")
            }
            guard (2...1 << 20).contains(sequence) else { throw ValidationError("--seq-len must be from 2 to 1048576") }
            guard (1...1 << 24).contains(batchTokens) else {
                throw ValidationError("--batch-tokens must be from 1 to 16777216")
            }
            guard ratio > 0, ratio <= 10_000 else { throw ValidationError("--ratio must be over 0, at most 10000") }
        }

        func run() throws {
            var named = Recipe()
            named.data.tokenizer = tokenizer
            let vocabulary = try openTokenizer(named).vocabularySize
            var recipe = Recipe.sized(depth: depth, sequence: sequence, tokensPerStep: batchTokens, ratio: ratio,
                                      vocabulary: vocabulary)
            (recipe.data.paths, recipe.data.tokenizer) = (data, tokenizer)
            _ = try ResolvedRecipe.load(text: recipe.difference, name: "the config of depth \(depth)")
            let table = ParameterTable(recipe.model, vocabulary: vocabulary)
            let head = "# \(Units.count(Double(table.parameterCount))) parameters, from skein config init --depth "
                + "\(depth)\n\n"
            guard let out else { return print(head + recipe.difference, terminator: "") }
            guard try RealDisk().kind(out) == nil else { throw BadInput("\(out) exists already; name another file") }
            try RealDisk().replace(out, with: [Array((head + recipe.difference).utf8)])
            print("\(out): skein train \(out)" + (data.isEmpty ? " --data.paths TEXT_OR_FOLDER" : ""))
        }
    }

    struct Pages: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Writes docs/config.", shouldDisplay: false)

        @Argument(help: "The folder, which exists.")
        var folder: String

        func run() throws {
            for (name, text) in Recipe.pages {
                try RealDisk().replace(joined(folder, name), with: [Array(text.utf8)])
            }
        }
    }
}
