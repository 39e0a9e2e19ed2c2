import Base

/// How much memory this process holds and may take, from the files in which Linux says so. `root` replaces "/" in
/// tests.
package struct MemoryFiles {
    private let root: String

    package init(root: String = "") { self.root = root }

    /// What a new process may take without pushing others out: the kernel's own estimate.
    package var machine: Int? { kibibytes("/proc/meminfo", "MemAvailable:") }

    /// Resident bytes now, and the most there ever were.
    package var resident: Int? { kibibytes("/proc/self/status", "VmRSS:") }
    package var peakResident: Int? { kibibytes("/proc/self/status", "VmHWM:") }

    /// What the tightest cgroup above this process leaves: its limit without the pages that it cannot drop. In
    /// version 2 a group's files are below one tree, in version 1 below the memory controller's.
    package var group: Int? {
        guard let own = Machine.line(of: root + "/proc/self/cgroup", beginning: "0::") else { return nil }
        let second = leaves("/sys/fs/cgroup", String(own.dropFirst(3)), limit: "memory.max", used: "anon ")
        return second ?? firstVersion
    }

    private var firstVersion: Int? {
        for number in 1..<32 {
            let own = Machine.line(of: root + "/proc/self/cgroup", beginning: "\(number):memory:")
            guard let path = own?.drop(while: { $0 != "/" }) else { continue }
            return leaves("/sys/fs/cgroup/memory", String(path), limit: "memory.limit_in_bytes", used: "total_rss ")
        }
        return nil
    }

    /// The least that `path` and the groups above it leave. "max", or more than any machine has, is no limit.
    private func leaves(_ tree: String, _ path: String, limit: String, used: String) -> Int? {
        var least: Int?
        var parts = path.split(separator: "/")
        while true {
            let folder = root + tree + parts.map { "/" + $0 }.joined()
            let text = Machine.line(of: "\(folder)/\(limit)", beginning: "")
            if let bytes = text.flatMap({ Int($0) }), bytes < 1 << 60 {
                let stat = Machine.line(of: "\(folder)/memory.stat", beginning: used)
                let held = stat.flatMap { Int($0.dropFirst(used.count)) } ?? 0
                least = min(least ?? .max, max(0, bytes - held))
            }
            if parts.popLast() == nil { return least }
        }
    }

    private func kibibytes(_ path: String, _ name: String) -> Int? {
        guard let line = Machine.line(of: root + path, beginning: name) else { return nil }
        return Int(line.filter(\.isNumber)).map { $0 << 10 }
    }
}

extension Machine {
    /// Bytes that this process may still take, and whose limit that is. Nil where the system does not say.
    package static func availableMemory(_ files: MemoryFiles = MemoryFiles()) -> (bytes: Int, limit: String)? {
        let found = [(files.machine, "this machine"), (files.group, "this process's cgroup")]
        return found.compactMap { bytes, limit in bytes.map { ($0, limit) } }.min { $0.0 < $1.0 }
    }

    /// The most bytes of memory that this process ever held, or 0 where the system does not say.
    public static var peakResidentBytes: Int { MemoryFiles().peakResident ?? 0 }
}
