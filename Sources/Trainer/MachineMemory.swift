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

    /// What the tightest cgroup above this process leaves.
    package var group: Int? { ControlGroups(root: root).memory }

    /// Cores that the tightest cgroup's quota pays for.
    package var cores: Int? { ControlGroups(root: root).cores }

    private func kibibytes(_ path: String, _ name: String) -> Int? {
        guard let line = KernelFiles.line(of: root + path, beginning: name) else { return nil }
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
