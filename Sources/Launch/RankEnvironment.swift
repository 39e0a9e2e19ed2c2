import Base

/// Which rank of which job this process is, as whoever started it says.
///
/// The first of these that is there decides, and is then held to be complete: flags; `RANK` and `WORLD_SIZE` (our
/// own launcher, torchrun, a manifest by hand; an indexed Kubernetes job's `JOB_COMPLETION_INDEX` may stand for
/// `RANK`); Kubeflow's `PET_*`; Slurm's `SLURM_*`; Open MPI's `OMPI_COMM_WORLD_*`; `PMI_*` of MPICH and its kin.
public struct RankEnvironment: Sendable, Equatable {
    public var rank: Int
    public var worldSize: Int
    /// This rank among those of its machine, and their number: they share its cores. Where nobody tells, a job whose
    /// master is this machine's loopback address is all here, and another has one rank on each machine.
    public var localRank: Int
    public var localWorldSize: Int
    /// Where rank 0 listens.
    public var masterAddress: String
    public var masterPort: Int
    /// The file with the job's secret.
    public var secretFile: String
    /// This process is no rank yet, and waits for the place of one that is lost: `RANK=auto`.
    public var isSpare = false

    /// What says so.
    public static let anyRank = "auto"

    /// What the command line says. A value here goes before any variable.
    public struct Flags: Sendable {
        public var rank: Int?
        public var worldSize: Int?
        public var masterAddress: String?
        public var masterPort: Int?

        public init(rank: Int? = nil, worldSize: Int? = nil, masterAddress: String? = nil, masterPort: Int? = nil) {
            self.rank = rank
            self.worldSize = worldSize
            self.masterAddress = masterAddress
            self.masterPort = masterPort
        }
    }

    /// The place of this process in its job. Nil when it trains alone: nobody says otherwise, or the world's size
    /// is 1. What is incomplete or contradictory is refused, and the variable named.
    public static func resolve(_ environment: [String: String], flags: Flags = Flags())
        throws(BadInput) -> RankEnvironment? {
        var values = environment.filter { !$0.value.isEmpty }
        values["--rank"] = flags.rank.map { "\($0)" }
        values["--world-size"] = flags.worldSize.map { "\($0)" }
        values["--master-addr"] = flags.masterAddress
        values["--master-port"] = flags.masterPort.map { "\($0)" }
        let isSpare = values["RANK"] == anyRank
        if isSpare { values["RANK"] = "0" }
        guard let source = Source.all.first(where: { $0.speaks(values) }) else { return nil }
        var found = try Reader(values: values, source: source).read()
        found?.isSpare = isSpare
        return found
    }
}

/// One way to tell a process its rank: the names of its variables, the better known first.
private struct Source {
    enum Kind { case plain, kubeflow, slurm }
    var kind = Kind.plain
    let rank: [String]
    let size: [String]
    var localRank: [String] = []
    var localSize: [String] = []
    var address: [String] = []
    var port: [String] = []
    /// Where only the address has to be told. A job's number is mixed in, so that two jobs of a machine differ.
    var portBase: Int?
    /// Holds for a launcher that leaves its variables in places where they do not mean a rank.
    var isMeant: @Sendable ([String: String]) -> Bool = { _ in true }

    func speaks(_ values: [String: String]) -> Bool {
        (rank + size).contains { values[$0] != nil } && isMeant(values)
    }

    static let all = [
        Source(rank: ["--rank"], size: ["--world-size"]),
        Source(rank: ["RANK", "JOB_COMPLETION_INDEX"], size: ["WORLD_SIZE"], localRank: ["LOCAL_RANK"],
               localSize: ["LOCAL_WORLD_SIZE"],
               // An indexed job may as well be many runs of their own.
               isMeant: { $0["RANK"] != nil || $0["WORLD_SIZE"] != nil }),
        Source(kind: .kubeflow, rank: ["PET_NODE_RANK"], size: ["PET_NNODES"], address: ["PET_MASTER_ADDR"],
               port: ["PET_MASTER_PORT"]),
        // An allocation's shell has SLURM_NTASKS but no rank. A batch script has rank 0 and is no task; its own
        // tasks, started by srun, have a step.
        Source(kind: .slurm, rank: ["SLURM_PROCID"], size: ["SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"],
               localRank: ["SLURM_LOCALID"], localSize: ["SLURM_NTASKS_PER_NODE"], portBase: 20_000,
               isMeant: { values in
                   values["SLURM_PROCID"] != nil
                       && (values["ENVIRONMENT"] != "BATCH" || values["SLURM_STEP_ID"] != nil)
               }),
        Source(rank: ["OMPI_COMM_WORLD_RANK"], size: ["OMPI_COMM_WORLD_SIZE"],
               localRank: ["OMPI_COMM_WORLD_LOCAL_RANK"], localSize: ["OMPI_COMM_WORLD_LOCAL_SIZE"],
               portBase: 29_500),
        Source(rank: ["PMI_RANK"], size: ["PMI_SIZE"], localRank: ["PMI_LOCAL_RANK", "MPI_LOCALRANKID"],
               localSize: ["PMI_LOCAL_SIZE", "MPI_LOCALNRANKS"], portBase: 29_500),
    ]
}

/// More than anybody has; what is made for each rank must not fill the memory where a number is mistyped.
private let mostRanks = 65_536

private struct Reader {
    let values: [String: String]
    let source: Source

    func read() throws(BadInput) -> RankEnvironment? {
        let rank = try require(source.rank, besides: source.size)
        let size = try require(source.size, besides: source.rank)
        guard size.number >= 1 else { throw BadInput("\(size.name) is \(size.number); a job has at least one rank") }
        guard size.number <= mostRanks else {
            throw BadInput("\(size.name) is \(size.number); a job has at most \(Units.grouped(mostRanks)) ranks")
        }
        guard rank.number < size.number else {
            throw BadInput("\(rank.name) is \(rank.number), but \(size.name) is \(size.number) (ranks count from 0)")
        }
        try checkRanksOfNode()
        guard size.number > 1 else { return nil }
        let known = try localSize(size)
        let address = try masterAddress(isLocal: known == size.number)
        let isHere = isLoopback(host: address)
        let local = try number(source.localRank)
        if let local, local.number >= size.number {
            throw BadInput("\(local.name) is \(local.number), but \(size.name) is \(size.number) (ranks count from 0)")
        }
        let localSize = known ?? (isHere ? size.number : 1 + (local?.number ?? 0))
        let localRank = local?.number ?? (isHere ? rank.number : 0)
        guard localRank < localSize else {
            let name = local?.name ?? rank.name
            throw BadInput("\(name) is \(localRank), but this machine has \(localSize) ranks (they count from 0)")
        }
        return RankEnvironment(
            rank: rank.number, worldSize: size.number, localRank: localRank, localWorldSize: localSize,
            masterAddress: address, masterPort: try masterPort(), secretFile: try secretFile(size))
    }

    private typealias Found = (name: String, number: Int)

    /// The first of the variables that is set, as a number of at least 0.
    private func number(_ names: [String]) throws(BadInput) -> Found? {
        guard let name = names.first(where: { values[$0] != nil }), let text = values[name] else { return nil }
        guard let number = Int(text), number >= 0 else {
            throw BadInput("\(name) is \"\(text)\", which is not a number of at least 0")
        }
        return (name, number)
    }

    private func require(_ names: [String], besides others: [String]) throws(BadInput) -> Found {
        if let found = try number(names) { return found }
        let other = others.first { values[$0] != nil } ?? others[0]
        throw BadInput("\(other) is set, but \(names[0]) is not; a rank needs both")
    }

    /// Kubeflow names pods; a pod that is to run several processes expects torchrun to start them.
    private func checkRanksOfNode() throws(BadInput) {
        guard source.kind == .kubeflow, let text = values["PET_NPROC_PER_NODE"], let count = Int(text),
              count != 1
        else { return }
        throw BadInput("PET_NPROC_PER_NODE is \(count), but a pod runs one rank, with threads on all its cores; "
            + "set it to 1")
    }

    private func localSize(_ size: Found) throws(BadInput) -> Int? {
        var found = try number(source.localSize)
        if found == nil, source.kind == .slurm, let node = try number(["SLURM_NODEID"]) {
            let names = ["SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"]
            let name = names.first { values[$0] != nil } ?? names[0]
            if let counts = values[name].flatMap(expandTaskCounts), node.number < counts.count {
                found = (name, counts[node.number])
            }
        }
        guard let found else { return nil }
        guard (1...size.number).contains(found.number) else {
            throw BadInput("\(found.name) is \(found.number), but \(size.name) is \(size.number)")
        }
        return found.number
    }

    private func masterAddress(isLocal: Bool) throws(BadInput) -> String {
        for name in ["--master-addr"] + source.address + ["MASTER_ADDR"] {
            if let address = values[name] { return address }
        }
        if source.kind == .slurm {
            for name in ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"] {
                if let list = values[name] { return try expandNodeList(list, variable: name)[0] }
            }
        }
        if isLocal { return "127.0.0.1" }
        throw BadInput("\((source.address + ["MASTER_ADDR"])[0]) is not set; it is the host of rank 0")
    }

    private func masterPort() throws(BadInput) -> Int {
        guard let found = try number(["--master-port"] + source.port + ["MASTER_PORT"]) else {
            guard let base = source.portBase else {
                throw BadInput("\((source.port + ["MASTER_PORT"])[0]) is not set; rank 0 listens on it")
            }
            let job = source.kind == .slurm ? try number(["SLURM_JOB_ID"])?.number ?? 0 : 0
            return base + job % 10_000
        }
        guard (1...65_535).contains(found.number) else {
            throw BadInput("\(found.name) is \(found.number), which is no port; choose from 1 to 65535")
        }
        return found.number
    }

    private func secretFile(_ size: Found) throws(BadInput) -> String {
        guard let path = values["SKEIN_SECRET_FILE"] else {
            throw BadInput("SKEIN_SECRET_FILE is not set, and \(size.name) says that this is one of \(size.number) "
                + "ranks: they need one secret; make it by skein secret new FILE, carry the file to every rank's "
                + "machine, and set SKEIN_SECRET_FILE to it. To train alone, set RANK=0 WORLD_SIZE=1")
        }
        return path
    }
}
