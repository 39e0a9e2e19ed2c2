import ArgumentParser
import Base
import Launch
import Recipe
import Trainer
import Wire

struct LaunchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "launch", abstract: "Trains with several ranks on this machine.",
        discussion: """
            Starts RANKS processes of `skein train CONFIG ...` that train one model together. Every value of the
            config can be given as a flag: --section.key value (skein config keys lists them).
            The first Ctrl-C saves and ends; the second ends at once.
            """)

    @Option(name: .customShort("n"), help: ArgumentHelp("How many ranks.", valueName: "ranks"))
    var ranks: Int

    @Argument(help: "A TOML file, for example configs/quickstart.toml.")
    var config: String

    @Argument(parsing: .captureForPassthrough, help: "Values that replace the file's: --section.key value.")
    var overrides: [String] = []

    func run() throws {
        try Job.require(ranks: ranks)
        // What is wrong with the config is said once, here, and not by every rank.
        let resolved = try ResolvedRecipe.load(file: config, flags: overrides), recipe = resolved.recipe
        try resolved.requireRows(worldSize: ranks)
        let job = try Job.training(
            ranks: ranks, program: ProcessEnvironment.program(), config: config, flags: overrides, recipe: recipe,
            environment: ProcessEnvironment.current())
        StopRequests.install()
        let code = try Launcher(job) { path in try JobSecret.create(at: path) }.run()
        if code != 0 { throw ExitCode(code) }
    }
}

struct SecretCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "secret", abstract: "Makes the secret that the ranks of a job share.", subcommands: [New.self])

    struct New: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Writes a new secret to a file that only you can read.",
            discussion: """
                `skein launch` makes one by itself. Ranks on several machines need the same file on each, and
                SKEIN_SECRET_FILE set to it. Who can read the file can join the job.
                """)

        @Argument(help: "A file that does not exist yet.")
        var file: String

        func run() throws { try JobSecret.create(at: file) }
    }
}
