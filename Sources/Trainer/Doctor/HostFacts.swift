import Base
import Recipe
import Storage
import Tensor
import Wire

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What one rank finds out about its machine before any training.
public struct HostFacts: Codable, Sendable, Equatable {
    public var rank = 0
    public var host = ""
    /// Cores that this process may use, and those that the machine has.
    public var cores = 0
    public var machineCores = 0
    /// Ranks of the job on this machine.
    public var localRanks = 1
    /// The widest vector unit of this build, and what must be the same on all machines.
    public var isa = ""
    public var arithmetic = ""
    /// Single-precision products: one thread, and as many threads as a rank would have, in GFLOP/s.
    public var oneThread = 0.0
    public var allThreads = 0.0
    /// Bytes that may be taken, and whose limit that is.
    public var memory = 0
    public var memoryLimit = ""
    /// Open files, the soft limit.
    public var files = 0
    /// Bytes free in /dev/shm, where ranks of one machine meet.
    public var shared = 0
    /// The folder that runs go to: seconds of a small file's sync (the middle one), and bytes a second of a large one.
    public var folder = ""
    public var syncSeconds = 0.0
    public var writeRate = 0.0
    /// What is wrong with that folder, if anything.
    public var folderProblem: String?

    public init() {}

    /// Measures, for a second or so. folder: an existing one, in which two files are made and removed.
    public init(rank: Int, localRanks: Int, folder: String) throws {
        self.rank = rank
        self.localRanks = localRanks
        host = hostName()
        cores = Machine.cores()
        machineCores = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        (isa, arithmetic) = (usedISA, compiledArithmetic)
        oneThread = try Self.peak(threads: 1)
        let threads = max(1, cores / localRanks)
        allThreads = threads == 1 ? oneThread : try Self.peak(threads: threads)
        if let available = Machine.availableMemory() { (memory, memoryLimit) = (available.bytes, available.limit) }
        var limit = rlimit()
        if unsafe getrlimit(__rlimit_resource_t(UInt32(RLIMIT_NOFILE.rawValue)), &limit) == 0 {
            files = Int(min(limit.rlim_cur, UInt(Int32.max)))
        }
        var status = statvfs()
        if unsafe statvfs("/dev/shm", &status) == 0 { shared = Int(status.f_bavail) * Int(status.f_frsize) }
        self.folder = folder
        do throws(DiskError) { try measureFolder() } catch { folderProblem = error.description }
    }

    private static func peak(threads: Int) throws -> Double {
        let pool = Pool(threads: threads, spin: threads <= Machine.cores())
        defer { pool.close() }
        return try Machine.gemmPeak(pool: pool, rounds: 3)
    }

    private static let (smallWrites, largeBytes) = (11, 32 << 20)

    private mutating func measureFolder() throws(DiskError) {
        let disk = RealDisk(), name = joined(folder, ".skein-doctor-\(getpid())")
        func timed(_ bytes: [UInt8], _ file: OpenFile) throws(DiskError) -> Double {
            let start = MonotonicClock.seconds()
            try unsafe bytes.span.bytes.withUnsafeBytes { bytes throws(DiskError) in
                try unsafe disk.write(bytes, to: file, at: 0)
            }
            try disk.sync(file)
            return MonotonicClock.seconds() - start
        }
        func measured(_ size: Int, _ rounds: Int) throws(DiskError) -> [Double] {
            let file = try disk.create(name, size: size), bytes = [UInt8](repeating: 7, count: size)
            defer {
                disk.close(file)
                try? disk.remove(name)
            }
            var seconds: [Double] = []
            for _ in 0..<rounds { seconds.append(try timed(bytes, file)) }
            return seconds.sorted()
        }
        syncSeconds = try measured(4_096, Self.smallWrites)[Self.smallWrites / 2]
        writeRate = Double(Self.largeBytes) / (try measured(Self.largeBytes, 1)[0])
    }
}

/// What two ranks find out about the way between them.
public struct LinkFacts: Codable, Sendable, Equatable {
    public var from: Int
    public var to: Int
    /// Seconds that a few bytes take, half of there and back, in the middle of many.
    public var latency: Double
    /// Bytes a second of a large message, one way.
    public var rate: Double

    public init(from: Int, to: Int, latency: Double, rate: Double) {
        (self.from, self.to, self.latency, self.rate) = (from, to, latency, rate)
    }
}

/// What all ranks have found, at rank 0.
public struct JobFacts: Codable, Sendable, Equatable {
    public var hosts: [HostFacts]
    /// One for each ordered pair.
    public var links: [LinkFacts]
    /// How far each rank's wall clock is ahead of rank 0's, in seconds.
    public var clockOffsets: [Double]

    public init(hosts: [HostFacts], links: [LinkFacts] = [], clockOffsets: [Double] = [0]) {
        (self.hosts, self.links, self.clockOffsets) = (hosts, links, clockOffsets)
    }
}
