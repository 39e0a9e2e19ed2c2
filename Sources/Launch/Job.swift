import Base
import Recipe

/// A job on this machine: how many ranks, the command that each of them runs, and the environment they inherit.
public struct Job: Sendable {
    public static let maximumRanks = 256

    public let ranks: Int
    /// The program's path, then its arguments.
    public let command: [String]
    let inherited: [String: String]

    /// environment: what the ranks inherit, beside the variables that tell them their rank.
    public init(ranks: Int, command: [String], environment: [String: String]) throws(BadInput) {
        precondition(!command.isEmpty, "a job without a program")
        try Job.require(ranks: ranks)
        self.ranks = ranks
        self.command = command
        inherited = environment
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

    /// The environment of one rank. A rank that is alone needs neither master nor secret.
    package func environment(of rank: Int, port: Int, secretFile: String?) -> [String: String] {
        var environment = inherited
        for name in ["RANK", "LOCAL_RANK"] { environment[name] = "\(rank)" }
        for name in ["WORLD_SIZE", "LOCAL_WORLD_SIZE"] { environment[name] = "\(ranks)" }
        environment["MASTER_ADDR"] = "127.0.0.1"
        environment["MASTER_PORT"] = "\(port)"
        environment["SKEIN_SECRET_FILE"] = secretFile
        return environment
    }
}
