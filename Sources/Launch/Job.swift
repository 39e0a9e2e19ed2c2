import Base
import Recipe

/// A job: how many ranks, the command that each of them runs, where, and the environment they inherit.
public struct Job: Sendable {
    public static let maximumRanks = 256

    public let ranks: Int
    /// The program's path, then its arguments.
    public private(set) var command: [String]
    let inherited: [String: String]
    /// The machines, with as many ranks each as they have slots, in order; none: all ranks are here.
    public private(set) var hosts: [JobHost] = []
    private var shell: RemoteShell?
    /// Where rank 0 listens, for ranks on several machines; else it is this machine's loopback, and a free port.
    private var master: (address: String, port: Int)?
    /// How often the job is started again after a failure, and the arguments that are added then.
    public private(set) var maximumRestarts = 0
    private var resumption: [String] = []
    /// Set where the ranks go on without those that fail.
    public private(set) var succession: Succession?

    public struct Succession: Sendable {
        /// Whether lost ranks are replaced; else nobody is started.
        let replaces: Bool
        /// The file in which survivors say that they wait for others.
        let meeting: String
        /// Processes that shall wait for a place at any time.
        let spares: Int
    }

    /// environment: what the ranks inherit, beside the variables that tell them their rank.
    public init(ranks: Int, command: [String], environment: [String: String]) throws(BadInput) {
        precondition(!command.isEmpty, "a job without a program")
        try Job.require(ranks: ranks)
        self.ranks = ranks
        self.command = command
        inherited = environment
    }

    /// The same on other machines. master: rank 0's address and port.
    public func on(_ hosts: [JobHost], shell: RemoteShell, master: (address: String, port: Int)) -> Job {
        precondition(hosts.reduce(0) { $0 + $1.slots } == ranks, "a slot for each rank")
        var job = self
        // Where all of them are here, it is a job of this machine.
        if hosts.contains(where: { !$0.isHere }) { (job.hosts, job.shell, job.master) = (hosts, shell, master) }
        return job
    }

    /// The same, started again up to `restarts` times when a rank fails, with `arguments` added.
    public func restarting(_ restarts: Int, adding arguments: [String]) -> Job {
        var job = self
        (job.maximumRestarts, job.resumption) = (restarts, arguments)
        return job
    }

    /// The same, whose ranks go on without those that fail, as the recipe says.
    public func goingOn(_ recipe: Recipe) -> Job {
        var job = self
        job.succession = Succession(
            replaces: recipe.launch.elastic == .replace,
            meeting: "\(recipe.job.dumpFolder)/\(recipe.job.name)/\(Meeting.fileName)", spares: recipe.launch.spares)
        return job
    }

    /// As it is started again.
    var resumed: Job {
        var job = self
        job.command += resumption
        job.resumption = []
        return job
    }

    public static func require(ranks: Int) throws(BadInput) {
        guard (1...maximumRanks).contains(ranks) else {
            throw BadInput("-n \(ranks): the number of ranks must be from 1 to \(maximumRanks)")
        }
    }

    /// `PROGRAM train CONFIG FLAGS` on every rank.
    ///
    /// The ranks share the machine's cores evenly by LOCAL_WORLD_SIZE, unless the recipe says how many threads each
    /// shall have. They lose OPENBLAS_CORETYPE, unless the recipe keeps it: in many an environment it pins OpenBLAS,
    /// the yardstick of benches, to the kernels of an older CPU.
    public static func training(ranks: Int, program: String, config: String, flags: [String], recipe: Recipe,
                                environment: [String: String]) throws(BadInput) -> Job {
        let command = [program, "train", config] + flags
        var environment = environment
        if !recipe.launch.keepBlasCore { environment["OPENBLAS_CORETYPE"] = nil }
        return try Job(ranks: ranks, command: command, environment: environment)
    }

    /// Where a rank runs, its place among the ranks there, and their number.
    func place(of rank: Int) -> (host: JobHost?, local: Int, count: Int) {
        guard !hosts.isEmpty else { return (nil, rank, ranks) }
        let names = hosts.flatMap { host in Array(repeating: host, count: host.slots) }
        let own = names[rank], before = names[..<rank].count { $0.name == own.name }
        return (own, before, names.count { $0.name == own.name })
    }

    /// Whether a rank is started through another machine's shell.
    func isRemote(_ rank: Int) -> Bool { place(of: rank).host.map { !$0.isHere } ?? false }

    /// What is started here for a rank.
    func command(of rank: Int, port: Int) -> [String] {
        guard let shell, let host = place(of: rank).host, !host.isHere else { return command }
        return shell.command(for: host.name, arguments: Array(command.dropFirst()),
                             environment: placement(of: rank, port: port))
    }

    /// The environment of one rank. A rank that is alone needs neither master nor secret. The program that reaches
    /// another machine has this one's environment as it is.
    package func environment(of rank: Int, port: Int, secretFile: String?) -> [String: String] {
        guard !isRemote(rank) else { return inherited }
        var environment = inherited.merging(placement(of: rank, port: port)) { $1 }
        environment["SKEIN_SECRET_FILE"] = secretFile
        return environment
    }

    /// The environment of a process that waits for a rank's place on this machine.
    func environmentOfSpare(port: Int, secretFile: String?) -> [String: String] {
        var environment = environment(of: 0, port: port, secretFile: secretFile)
        environment["RANK"] = RankEnvironment.anyRank
        return environment
    }

    /// What tells a rank its place. port: a free one of this machine's.
    private func placement(of rank: Int, port: Int) -> [String: String] {
        let place = place(of: rank)
        return ["RANK": "\(rank)", "WORLD_SIZE": "\(ranks)", "LOCAL_RANK": "\(place.local)",
                "LOCAL_WORLD_SIZE": "\(place.count)", "MASTER_ADDR": master?.address ?? "127.0.0.1",
                "MASTER_PORT": "\(master?.port ?? port)"]
    }
}
