import Base

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// One mapping from which a room carves all its memory before step 0.
///
/// Nothing is ever given back piecewise: an arena's size is the answer to "how much will this take", known
/// from the recipe before anything is touched. The pages are asked for in 2 MiB units where the kernel has
/// them, since a step walks through hundreds of megabytes, and are touched once at the start, so that a
/// machine that is too small says so then and not in the middle of a step. On several sockets they come from all in
/// turn (`MemoryNodes`).
@safe public final class Arena: @unchecked Sendable {
    // @unchecked Sendable: `base` never changes after init, and the carving (`used`) happens on the one
    // thread that sets a run up. What the carved rows hold is covered by Row's own argument.
    public let name: String
    public let capacity: Int
    public private(set) var used = 0
    private let base: UnsafeMutablePointer<Float>
    private let mappedBytes: Int

    private static let pageBytes = 2 << 20
    /// Rows begin on a cache line of 64 bytes.
    static let alignment = 16

    /// `capacity` floats, all zero. Throws `OutOfMemory` when the system refuses the mapping.
    public init(name: String, capacity: Int) throws(OutOfMemory) {
        self.name = name
        self.capacity = capacity
        let bytes = max(capacity * MemoryLayout<Float>.stride, 64)
        mappedBytes = (bytes + 4095) / 4096 * 4096
        let address = unsafe mmap(nil, mappedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let address = unsafe address, unsafe address != MAP_FAILED else {
            throw OutOfMemory(name: name, bytes: bytes)
        }
        if mappedBytes >= Self.pageBytes { unsafe madvise(address, mappedBytes, MADV_HUGEPAGE) }
        unsafe MemoryNodes.own.interleave(address, bytes: mappedBytes)
        unsafe base = address.bindMemory(to: Float.self, capacity: mappedBytes / 4)
        for offset in stride(from: 0, to: mappedBytes / 4, by: 1024) { unsafe base[offset] = 0 }
    }

    deinit { unsafe munmap(base, mappedBytes) }

    /// The next `count` floats, zero at first, aligned to 64 bytes. Traps when the arena was sized too small:
    /// the size and the carving come from one list, so that is our mistake.
    public func take(_ count: Int) -> Row {
        precondition(used + count <= capacity, "arena \(name): \(used) + \(count) of \(capacity) floats")
        let row = unsafe Row(base + used, count: count)
        used = Arena.padded(used + count)
        return row
    }

    public func take(rows: Int, columns: Int) -> Matrix { Matrix(take(rows * columns), rows: rows, columns: columns) }

    /// What `take(count)` uses of an arena, for sizing one.
    public static func padded(_ count: Int) -> Int { (count + alignment - 1) / alignment * alignment }
}

public struct OutOfMemory: Fault {
    public let name: String
    public let bytes: Int
    public var kind: FaultKind { .running }
    public var description: String {
        "the system refused \(Units.bytes(bytes)) for \(name); lower training.max_tokens_per_task or the model's size"
    }
}
