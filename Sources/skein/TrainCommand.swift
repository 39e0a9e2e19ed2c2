import ArgumentParser
import Base
import Recipe
import Trainer

struct Train: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Trains a model.",
        discussion: """
            Every value of the config can be given as a flag: --section.key value (skein config keys lists them).
            The first Ctrl-C saves and ends; the second ends at once.
            """)

    @Argument(help: "A TOML file, for example configs/quickstart.toml.")
    var config: String

    @Argument(parsing: .captureForPassthrough, help: "Values that replace the file's: --section.key value.")
    var overrides: [String] = []

    func run() throws {
        let resolved = try ResolvedRecipe.load(file: config, flags: overrides)
        try TrainingRun(resolved, commandLine: [config] + overrides, ranks: rankSetting()).run()
    }
}
