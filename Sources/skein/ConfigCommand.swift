import ArgumentParser
import Base
import Recipe

struct Config: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what a config says.", subcommands: [Explain.self, Keys.self])

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
}
