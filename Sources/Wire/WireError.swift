import Base

/// What can go wrong before the mesh stands. Afterwards every failure is a `LinkFault`.
public enum WireError: Fault, Equatable {
    /// An option that makes no sense, such as rank 4 of 4.
    case badOption(String)
    /// The secret's file is absent, readable by others, or not a secret.
    case secret(path: String, problem: String)
    case cannotResolve(host: String, problem: String)
    case cannotListen(address: String, problem: String)
    /// Nobody answered as rank 0 before the start deadline.
    case noMaster(address: String, seconds: Double, problem: String)
    /// The listener could not open our first message, so it holds another secret.
    case wrongSecret(address: String)
    /// The listener speaks another version of this protocol.
    case otherVersion(address: String)
    /// Both sides hold the secret, but were started for different things.
    case disagreement(rank: Int, name: String, here: String, there: String)
    /// The listener accepted the secret and refused the rank, and says why.
    case refused(by: Int, reason: String)
    /// These ranks never came. `strangers` counts connections that did not know the secret.
    case missing(ranks: [Int], seconds: Double, strangers: Int)
    /// A rank that is part of the job cannot be connected to.
    case unreachable(rank: Int, address: String, problem: String)
    /// A rank that is part of the job, and should connect to this one, which listens at `address`, has not.
    case notReached(by: Int, host: String, address: String, seconds: Double)
    /// Shared memory was asked for, and this rank has none with a peer.
    case noSharedMemory(rank: Int, host: String)
    /// Another rank gave up while starting, for the reason told.
    case startFailed(LinkFault, FaultKind)

    public var kind: FaultKind {
        switch self {
        case .noMaster, .missing, .unreachable, .notReached: .running
        case .startFailed(_, let kind): kind
        default: .badInput
        }
    }

    public var description: String {
        switch self {
        case .badOption(let text):
            text
        case .secret(let path, let problem):
            "job secret \(path): \(problem)"
        case .cannotResolve(let host, let problem):
            "cannot find host \(host): \(problem)"
        case .cannotListen(let address, let problem):
            problem == Self.noSuchAddress
                ? "cannot listen on \(address): this machine has no such address; give one that it has (MASTER_ADDR on "
                    + "rank 0, comm.bind)"
                : "cannot listen on \(address): \(problem); choose another port or end the other program"
        case .noMaster(let address, let seconds, let problem):
            "rank 0 did not answer at \(address) within \(Units.duration(seconds)) (\(problem)); start it, or let that "
                + "port through its machine's firewall"
        case .wrongSecret(let address):
            "whoever listens at \(address) has another secret, or is no rank 0; every rank needs the same secret file, "
                + "and rank 0 its port"
        case .otherVersion(let address):
            "the program at \(address) speaks another version of the wire protocol, or is no rank 0"
        case .disagreement(let rank, let name, let here, let there):
            "rank \(rank) runs with another \(name) (\(here) here, \(there) there)"
        case .refused(let rank, let reason):
            "rank \(rank) refused this process: \(reason)"
        case .missing(let ranks, let seconds, let strangers):
            Self.missingText(ranks, seconds, strangers)
        case .unreachable(let rank, let address, let problem):
            "cannot reach rank \(rank) at \(address) (\(problem)); \(Self.openPorts) its machine's firewall"
        case .notReached(let rank, let host, let address, let seconds):
            "rank \(rank) (\(host)) has not reached this rank at \(address) within \(Units.duration(seconds)); "
                + "\(Self.openPorts) this machine's firewall"
        case .noSharedMemory(let rank, let host):
            "no memory can be shared with rank \(rank) (\(host)): it runs on another machine, for another user or in "
                + "another container; use transport auto or tcp"
        case .startFailed(let fault, _):
            fault.description
        }
    }

    /// As libuv says it.
    private static let noSuchAddress = "address not available"
    private static let openPorts = "let the job's ports (comm.port_range, or all) through"

    private static func missingText(_ ranks: [Int], _ seconds: Double, _ strangers: Int) -> String {
        let shown = ranks.prefix(8).map(String.init).joined(separator: ", ")
        let more = ranks.count > 8 ? " and \(ranks.count - 8) more" : ""
        let subject = (ranks.count == 1 ? "rank " : "ranks ") + shown + more
        let hint = strangers == 0 ? "; not started, failed, or kept from this rank's port by a firewall"
            : "; \(strangers) connection\(strangers == 1 ? "" : "s") did not know the job secret"
        return "\(subject) never came within \(Units.duration(seconds))\(hint)"
    }
}
