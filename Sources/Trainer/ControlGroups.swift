import Base

/// The kernel's control groups that this process is in, from its own up to the outermost: a limit holds for all below
/// it, so the least on the way up counts. In version 2 there is one tree for everything, in version 1 one for each
/// controller, and a machine may have both. `root` replaces "/" in tests.
struct ControlGroups {
    let root: String

    /// A group's folder, and of which version its files are.
    struct Group {
        let folder: String
        let isFirstVersion: Bool
    }

    /// The groups that may limit `controller` ("cpu", "memory"). `/proc/self/cgroup` has a line for each tree:
    /// "0::/path", or "4:cpu,cpuacct:/path".
    func groups(_ controller: String) -> [Group] {
        var found: [Group] = []
        for line in KernelFiles.lines(of: root + "/proc/self/cgroup") {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            let path = String(parts[2])
            if parts[0] == "0", parts[1].isEmpty {
                for tree in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] { found += upwards(tree, path, first: false) }
            } else if parts[1].split(separator: ",").contains(Substring(controller)) {
                for tree in Set([controller, String(parts[1])]).sorted() {
                    found += upwards("/sys/fs/cgroup/" + tree, path, first: true)
                }
            }
        }
        return found
    }

    private func upwards(_ tree: String, _ path: String, first: Bool) -> [Group] {
        var parts = path.split(separator: "/"), groups: [Group] = []
        while true {
            let folder = root + tree + parts.map { "/" + $0 }.joined()
            groups.append(Group(folder: folder, isFirstVersion: first))
            if parts.popLast() == nil { return groups }
        }
    }

    /// Cores that the quotas of processor time pay for, rounded up: a part of a core is still a core that threads can
    /// run on. Version 2's `cpu.max` is "QUOTA PERIOD" in microseconds, or "max PERIOD"; version 1 has a file for each,
    /// and -1 for none.
    var cores: Int? {
        groups("cpu").compactMap { group in
            func numbers(_ name: String) -> [Int?] {
                (KernelFiles.lines(of: "\(group.folder)/\(name)").first ?? "").split(separator: " ").map { Int($0) }
            }
            let parts = group.isFirstVersion ? numbers("cpu.cfs_quota_us") + numbers("cpu.cfs_period_us")
                : numbers("cpu.max")
            guard parts.count == 2, let quota = parts[0], let period = parts[1], quota > 0, period > 0
            else { return nil }
            return quota / period + (quota % period == 0 ? 0 : 1)
        }.min()
    }

    /// Bytes that the limits of memory leave, without the pages that cannot be dropped. "max", or more than any machine
    /// has, is no limit.
    var memory: Int? {
        groups("memory").compactMap { group in
            let (limit, used) = group.isFirstVersion ? ("memory.limit_in_bytes", "total_rss ") : ("memory.max", "anon ")
            let text = KernelFiles.lines(of: "\(group.folder)/\(limit)").first
            guard let bytes = text.flatMap({ Int($0) }), bytes < 1 << 60 else { return nil }
            let stat = KernelFiles.line(of: "\(group.folder)/memory.stat", beginning: used)
            return max(0, bytes - (stat.flatMap { Int($0.dropFirst(used.count)) } ?? 0))
        }.min()
    }
}
