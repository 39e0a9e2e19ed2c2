import Base

/// Everything that a rank needs to know to join its job.
public struct MeshOptions: Sendable {
    public var rank: Int
    public var worldSize: Int
    /// Where rank 0 listens: a name or a number (IPv4 or IPv6), and its port.
    public var masterHost: String
    public var masterPort: Int
    /// The address to listen on. Without one: the loopback interface when the master is on it, else all.
    public var bind: String?
    /// The network interface to listen on, by its name; then `bind` says nothing.
    public var interface: String?
    /// Ports that ranks other than 0 may listen on. Without a range: any free port.
    public var portRange: ClosedRange<Int>?
    public var secret: JobSecret
    public var jobID: String
    /// Counts the lives of a job: a restarted job has the next epoch, and strays of the last one are refused.
    public var epoch: UInt32 = 0
    /// What all ranks must have in common, such as ("recipe", hash): compared at the first meeting, and named
    /// when they differ. Together at most 8 KiB.
    public var claims: [(name: String, value: String)] = []
    /// How long to wait for the other ranks to come.
    public var startDeadlineSeconds = 60.0
    /// A rank that is silent for so long has failed.
    public var heartbeatSeconds = 5.0
    public var protection = Protection.checked
    /// The way between ranks on one machine.
    public var transport = Transport.auto
    /// Data streams to each peer; a message goes on whichever is free first.
    public var dataStreams = 1
    /// Whether `poll` may spin for some microseconds before it blocks. Not sensible when the ranks of this
    /// machine outnumber its cores.
    public var spins = true
    /// After a fault those that are left agree on how to go on (`Mesh.sequel`), instead of only leaving.
    public var survives = false
    /// What may wait for each data stream before its buffer is posted.
    public var earlyByteCount = Self.defaultEarlyByteCount
    public static let defaultEarlyByteCount = 4 << 20

    public init(rank: Int, worldSize: Int, masterHost: String, masterPort: Int, secret: JobSecret,
                jobID: String) {
        self.rank = rank
        self.worldSize = worldSize
        self.masterHost = masterHost
        self.masterPort = masterPort
        self.secret = secret
        self.jobID = jobID
    }

    func check() throws(WireError) {
        guard worldSize >= 1 else { throw .badOption("world size \(worldSize): a job has at least one rank") }
        guard worldSize <= ControlPayload.maximumWorldSize else {
            throw .badOption("world size \(worldSize): at most \(ControlPayload.maximumWorldSize) ranks")
        }
        guard rank >= 0, rank < worldSize else {
            throw .badOption("rank \(rank) does not exist in a job of \(worldSize) (ranks count from 0)")
        }
        guard worldSize == 1 || (1...65_535).contains(masterPort) else {
            throw .badOption("master port \(masterPort) is not between 1 and 65535")
        }
        if let portRange, portRange.lowerBound < 1 || portRange.upperBound > 65_535 {
            throw .badOption("port range \(portRange.lowerBound)-\(portRange.upperBound): not within 1-65535")
        }
        guard (1...16).contains(dataStreams) else {
            throw .badOption("\(dataStreams) data streams: choose between 1 and 16")
        }
        guard heartbeatSeconds >= 0.05, startDeadlineSeconds > 0 else {
            throw .badOption("the heartbeat and start deadlines must be positive (heartbeat at least 0.05 s)")
        }
        guard identity.record.count <= Identity.maximumRecordByteCount else {
            throw .badOption("claims of \(identity.record.count) bytes: at most 8192")
        }
    }

    var identity: Identity {
        var all: [(name: String, value: String)] = claims + [("data streams", "\(dataStreams)"),
                                                             ("transport", transport.rawValue)]
        if survives { all.append((name: "conduct after a fault", value: "goes on")) }
        return Identity(rank: rank, worldSize: worldSize, jobID: jobID, epoch: epoch, protection: protection,
                        claims: all)
    }
}

/// How messages go between ranks of one machine. Between machines it is always TCP, and so is everything that tells
/// who is alive.
public enum Transport: String, Sendable, CaseIterable {
    /// Shared memory where it can be had, up to `sharedPeerLimit` peers.
    case auto
    case tcp
    /// Shared memory; it is an error where it cannot be had.
    case shm

    /// Each peer takes 2 MiB; with more than so many on one machine `auto` stays with TCP.
    public static let sharedPeerLimit = 16
    /// Memory that two ranks share.
    public static let sharedByteCount = SharedSegment.byteCount
}

extension MeshOptions {
    /// A port that the survivors of a fault can meet at: one of those that are allowed, else a free one.
    var meetingPort: UInt16 {
        guard let portRange else { return UInt16(freePort()) }
        return UInt16(Int.random(in: portRange))
    }
}
