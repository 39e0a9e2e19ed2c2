import ArgumentParser
import Base
import Foundation
import Launch
import Recipe
import Trainer
import Wire

struct LaunchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "launch", abstract: "Trains with several ranks, here or on several machines.",
        discussion: """
            Starts RANKS processes of `skein train CONFIG ...` that train one model together. Every value of the
            config can be given as a flag: --section.key value (skein config keys lists them).
            The first Ctrl-C saves and ends; the second ends at once.
            With --hostfile the ranks are on its machines, reached by ssh: `node1 slots=2` on each line, a plain
            list of names, or MLX's JSON. This program, the config and the data lie under the same paths on all.
            """)

    @Option(name: .customShort("n"), help: ArgumentHelp("How many ranks; with a hostfile: its slots.",
                                                        valueName: "ranks"))
    var ranks: Int?
    @OptionGroup var remote: RemoteOptions
    @Option(help: "A folder for what each rank prints (rank-N.log), and after a failure failure.txt.")
    var logs: String?

    @Argument(help: "A TOML file, for example configs/quickstart.toml.")
    var config: String

    @Argument(parsing: .captureForPassthrough, help: "Values that replace the file's: --section.key value.")
    var overrides: [String] = []

    func run() throws {
        let hosts = try remote.hosts()
        let slots = hosts.reduce(0) { $0 + $1.slots }
        guard let ranks = ranks ?? (hosts.isEmpty ? nil : slots) else {
            throw BadInput("give -n RANKS, or --hostfile FILE")
        }
        try Job.require(ranks: ranks)
        guard hosts.isEmpty || ranks == slots else {
            throw BadInput("-n \(ranks), but \(remote.hostfile ?? "") has \(slots) slots; leave out -n")
        }
        // What is wrong with the config is said once, here, and not by every rank.
        let resolved = try ResolvedRecipe.load(file: config, flags: overrides), recipe = resolved.recipe
        try resolved.requireRows(worldSize: ranks)
        var job = try Job.training(
            ranks: ranks, program: ProcessEnvironment.program(), config: config, flags: overrides, recipe: recipe,
            environment: ProcessEnvironment.current())
        job = try remote.place(job, hosts)
        if recipe.launch.maxRestarts > 0 {
            guard recipe.checkpoint.enable else {
                throw BadInput("launch.max_restarts = \(recipe.launch.maxRestarts) goes on from checkpoints, and "
                    + "checkpoint.enable is false")
            }
            job = job.restarting(recipe.launch.maxRestarts, adding: ["--checkpoint.load", "latest"])
        }
        if recipe.isElastic {
            try recipe.requireElastic(worldSize: ranks)
            guard job.hosts.isEmpty else {
                throw BadInput("launch.elastic = \"\(recipe.launch.elastic.rawValue)\" is for ranks on this machine, "
                    + "or for ranks that something else starts; leave it out, or leave out --hostfile")
            }
            job = job.goingOn(recipe)
        }
        StopRequests.install()
        let code = try Launcher(job, logs: logs) { path in try JobSecret.create(at: path) }.run()
        if code != 0 { throw ExitCode(code) }
    }
}

/// Where ranks run, for commands that start them on several machines.
struct RemoteOptions: ParsableArguments {
    @Option(help: "The machines.")
    var hostfile: String?
    @Option(name: .customLong("master-addr"), help: "Where the others reach rank 0; else the first machine's name.")
    var masterAddress: String?
    @Option(name: .customLong("master-port"), help: "Rank 0's port, on several machines.")
    var masterPort = 29_500
    @Option(help: "The program that reaches a machine, with its options.")
    var ssh = "ssh -o BatchMode=yes -o ConnectTimeout=10"
    @Option(help: "The folder on the machines; else this one's path.")
    var cwd: String?
    @Option(help: "This program on the machines; else its path here.")
    var program: String?
    @Option(help: "NAME=VALUE for the ranks on other machines; may be given several times.")
    var env: [String] = []

    func validate() throws {
        guard (1...65_535).contains(masterPort) else { throw ValidationError("--master-port must be from 1 to 65535") }
        for pair in env where pair.wholeMatch(of: /[A-Za-z_][A-Za-z0-9_]*=.*/) == nil {
            throw ValidationError("--env \(pair): write NAME=VALUE")
        }
        guard !ssh.allSatisfy(\.isWhitespace) else { throw ValidationError("--ssh must not be empty") }
    }

    func hosts() throws(BadInput) -> [JobHost] {
        guard let hostfile else { return [] }
        return try readHostFile(readText(hostfile), path: hostfile)
    }

    /// A job whose ranks run this program with `arguments`, here or on the hostfile's machines; nil where one process
    /// is enough. asked: -n.
    func job(ranks asked: Int?, arguments: [String]) throws -> Job? {
        let hosts = try hosts(), slots = hosts.reduce(0) { $0 + $1.slots }
        guard let ranks = asked ?? (hosts.isEmpty ? nil : slots), ranks > 1 else { return nil }
        try Job.require(ranks: ranks)
        guard hosts.isEmpty || ranks == slots else {
            throw BadInput("-n \(ranks), but \(hostfile ?? "") has \(slots) slots; leave out -n")
        }
        return try place(Job(ranks: ranks, command: [ProcessEnvironment.program()] + arguments,
                             environment: ProcessEnvironment.current()), hosts)
    }

    func place(_ job: Job, _ hosts: [JobHost]) throws -> Job {
        guard let first = hosts.first else { return job }
        let variables = Dictionary(env.map { pair in
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            return (String(parts[0]), String(parts[1]))
        }, uniquingKeysWith: { $1 })
        var command = ssh.split(separator: " ").map(String.init)
        guard let path = ProcessEnvironment.find(command[0]) else {
            throw BadInput("there is no \(command[0]) here; install it (openssh-client), or name another by --ssh")
        }
        command[0] = path
        let shell = RemoteShell(command: command,
                                folder: cwd ?? FileManager.default.currentDirectoryPath,
                                program: program ?? ProcessEnvironment.program(), variables: variables)
        return job.on(hosts, shell: shell, master: (masterAddress ?? first.address, masterPort))
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
