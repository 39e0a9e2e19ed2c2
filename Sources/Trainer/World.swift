import Base
import Collectives
import Recipe
import Telemetry
import Tensor
import Wire

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Which of a job's processes this one is, as a launcher or a person said it.
public struct RankSetting: Sendable, Equatable {
    public var rank: Int
    public var worldSize: Int
    /// Ranks on this machine, which share its cores.
    public var localWorldSize: Int
    /// Where rank 0 listens.
    public var masterHost: String
    public var masterPort: Int
    /// The file with the job's secret.
    public var secretFile: String
    /// This process is none of the ranks yet; it waits for the place of one that is lost.
    public var isSpare = false

    public init(rank: Int, worldSize: Int, localWorldSize: Int, masterHost: String, masterPort: Int,
                secretFile: String) {
        self.rank = rank
        self.worldSize = worldSize
        self.localWorldSize = localWorldSize
        self.masterHost = masterHost
        self.masterPort = masterPort
        self.secretFile = secretFile
    }
}

/// The ranks of a job as the loop sees them. A world of one has no network, and costs nothing.
public final class World {
    public let rank: Int
    public let size: Int
    public let localSize: Int
    public let communicator: Communicator?
    let mesh: Mesh?
    /// Whether the ranks that are left agree on how to go on after a fault.
    let survives: Bool
    /// The process of each rank, where they survive.
    private(set) var people: [String] = []
    /// The measured table of algorithms that rank 0 was given.
    private var ownTable = ""

    /// This process alone.
    public init() {
        (rank, size, localSize) = (0, 1, 1)
        (communicator, mesh, survives) = (nil, nil, false)
    }

    /// Ranks that are connected already.
    package init(_ communicator: Communicator, rank: Int, size: Int) {
        (self.rank, self.size, localSize) = (rank, size, size)
        (self.communicator, mesh, survives) = (communicator, nil, false)
    }

    /// Joins the job and returns when all its ranks are connected. What must be the same everywhere is compared
    /// at the first meeting, by name: the recipe, the data and the arithmetic of this build, since bits depend
    /// on all of them. epoch: counts the lives of a job that goes on after faults. greets: false where the caller does
    /// that (`greet`), for a fault in it is one that a job may go on after.
    public init(joining setting: RankSetting, recipe: Recipe, dataFingerprint: String, threads: Int,
                epoch: UInt32 = 0, greets: Bool = true) throws {
        (rank, size, localSize) = (setting.rank, setting.worldSize, setting.localWorldSize)
        guard setting.worldSize > 1 else {
            (communicator, mesh, survives) = (nil, nil, false)
            return
        }
        let secret = try JobSecret.load(from: setting.secretFile)
        var options = MeshOptions(rank: rank, worldSize: size, masterHost: setting.masterHost,
                                  masterPort: setting.masterPort, secret: secret, jobID: recipe.job.name)
        let communication = recipe.communication
        options.claims = Self.claims(recipe, dataFingerprint: dataFingerprint)
        (options.survives, options.epoch, survives) = (recipe.isElastic, epoch, recipe.isElastic)
        options.bind = communication.bind.isEmpty ? nil : communication.bind
        options.interface = communication.interface.isEmpty ? nil : communication.interface
        options.portRange = communication.ports
        options.transport = Transport(rawValue: communication.transport.rawValue) ?? .auto
        options.dataStreams = communication.streams
        options.startDeadlineSeconds = communication.startSeconds
        options.heartbeatSeconds = communication.heartbeatSeconds
        options.protection = World.protection(communication, host: setting.masterHost)
        options.spins = localSize * threads < Machine.cores()
        // Found wrong before anybody is kept waiting.
        ownTable = try rank == 0 ? World.table(communication) : ""
        let mesh = try Mesh.join(options)
        self.mesh = mesh
        let communicator = Communicator(
            link: mesh, options: CommunicatorOptions(
                timeoutSeconds: communication.timeoutSeconds,
                choice: Choice(forced: Algorithm(name: communication.algorithm.rawValue))))
        self.communicator = communicator
        communicator.notice = { printError("skein: \($0)") }
        if greets { try greet() }
    }

    /// The first exchanges of ranks that have met: rank 0's table, and which process each rank is.
    func greet() throws {
        guard communicator != nil else { return }
        try useTable(ownTable)
        if survives { people = try gather(Array("\(getpid())".utf8)).map { String(decoding: $0, as: UTF8.self) } }
    }

    /// What must be the same on all ranks, by name.
    static func claims(_ recipe: Recipe, dataFingerprint: String) -> [(name: String, value: String)] {
        let claims = [("recipe", recipe.fingerprint), ("data", dataFingerprint),
                      ("arithmetic", arithmetic(recipe.training.matmul))]
        guard recipe.isElastic else { return claims }
        return claims + [("launch.elastic", recipe.launch.elastic.rawValue),
                         ("launch.redundancy", "\(recipe.launch.redundancy)")]
    }

    /// Takes rank 0's measured table of algorithms, which decides the order of sums, on all ranks.
    func useTable(_ text: String) throws {
        let first = try gather(Array(text.utf8))[0]
        let rules = try Choice(text: String(decoding: first, as: UTF8.self), name: "comm.table").rules
        communicator?.use(rules: rules)
    }

    /// The table in use; empty without one.
    var table: String { communicator?.options.choice.text ?? "" }

    /// The text of the table of algorithms, which must be one; empty without a table.
    private static func table(_ communication: Recipe.Communication) throws -> String {
        let path = communication.table
        guard !path.isEmpty else { return "" }
        return try Choice(text: readText(path), name: path).text
    }

    private static func protection(_ communication: Recipe.Communication, host: String) -> Protection {
        switch communication.protection {
        case .checked: .checked
        case .sealed: .sealed
        case .auto: isLoopback(host: host) ? .checked : .sealed
        }
    }

    /// The contiguous share of a range of rows that this rank computes, together with the others of its group where
    /// `degree` ranks share sequences: shares differ by one row at most.
    public func share(of rows: Range<Int>, degree: Int = 1) -> Range<Int> {
        rows.share(rank / degree, of: size / degree)
    }

    /// The sum of a number over all ranks, in the order of ranks: the same bits everywhere.
    func sum(_ value: Double) throws(CollectiveFault) -> Double {
        guard let communicator else { return value }
        return try communicator.sum(value)
    }

    package func sum(_ first: Double, _ second: Double) throws(CollectiveFault) -> (Double, Double) {
        guard let communicator else { return (first, second) }
        return try communicator.sum(first, second)
    }

    /// The largest of all ranks' numbers, each for itself; not-a-number where any rank has one.
    func maximum(_ row: Row) throws(CollectiveFault) {
        guard let communicator else { return }
        let ticket = unsafe communicator.allReduce(row.floats, style: CollectiveStyle(reduction: .maximum))
        try ticket.wait()
    }

    /// What all ranks must hold alike. A difference names the ranks that hold something else.
    func requireEqual(_ hash: UInt64, _ what: String) throws(CollectiveFault) {
        try communicator?.compareHashes(hash, of: what)
    }

    public func barrier() throws(CollectiveFault) { try communicator?.barrier() }

    /// Copies `row` of rank 0 to all others.
    func broadcast(_ row: Row) throws(CollectiveFault) {
        guard let communicator else { return }
        let ticket = unsafe communicator.broadcast(row.bytes, from: 0)
        try ticket.wait()
    }

    /// Every rank's bytes, in the order of ranks.
    func gather(_ own: [UInt8]) throws(CollectiveFault) -> [[UInt8]] {
        guard let communicator else { return [own] }
        let counts = try communicator.exchange([Double(own.count)]).map { Int($0[0]) }
        var bounds = [0]
        for count in counts { bounds.append(bounds[bounds.count - 1] + count) }
        var all = [UInt8](repeating: 0, count: bounds[size])
        all.replaceSubrange(bounds[rank]..<bounds[rank + 1], with: own)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: all.count, alignment: 64)
        defer { unsafe memory.deallocate() }
        unsafe memory.copyBytes(from: all)
        let ticket = unsafe communicator.allGather(bytes: memory, partition: Partition(bounds: bounds))
        try ticket.wait()
        all = unsafe Array(memory)
        return (0..<size).map { Array(all[bounds[$0]..<bounds[$0 + 1]]) }
    }

    public var statistics: CommunicationStatistics? { communicator?.statistics }

    /// Tells the others that this rank gives up, and why, so that they do not have to find out.
    func abort(_ reason: String, during operation: String) { communicator?.abort(reason, during: operation) }

    /// What this rank was doing when it failed; nil for a process alone.
    func flightRecord(because error: any Error) -> String? { communicator?.flightRecord(because: "\(error)") }

    /// Leaves in peace: the end of this process is no fault for the others then.
    public func leave() throws { try mesh?.leave() }
}

/// What ranks compare before they train together, of this build and of whatever library multiplies.
private func arithmetic(_ matmul: Recipe.Matmul) -> String {
    switch matmul {
    case .own: compiledArithmetic
    case .openblas: "\(compiledArithmetic), products by \(OpenBLAS.arithmetic)"
    }
}

extension Recipe {
    /// A hash of everything that decides the numbers of a run: all keys but those of one machine (threads) and of
    /// one process's files.
    var fingerprint: String {
        var own = self
        own.training.threads = 0
        // Compared as arithmetic, in words.
        own.training.matmul = .own
        own.job.dumpFolder = ""
        own.communication.bind = ""
        own.communication.interface = ""
        own.communication.portRange = ""
        // Rank 0's holds for all.
        own.communication.table = ""
        // Rank 0 reads the file for all; that there is one they must know.
        own.planner.replay = planner.replay.isEmpty ? "" : "a file"
        own.metrics = Recipe().metrics
        own.launch = Recipe().launch
        let crc = CRC32C.checksum(Array(own.toml.utf8))
        return String(crc, radix: 16)
    }
}
