import Foundation
import Recipe
import Testing
import Trainer

/// Memory limits as Linux writes them, in a made-up file system.
@Suite struct MachineMemoryTests {
    private func files(_ contents: [String: String]) throws -> (root: String, files: MemoryFiles) {
        let root = NSTemporaryDirectory() + "skein-proc-\(UUID().uuidString)"
        for (path, text) in contents {
            let url = URL(fileURLWithPath: root + path)
            let folder = url.deletingLastPathComponent()
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try text.write(to: url, atomically: true, encoding: .utf8)
        }
        return (root, MemoryFiles(root: root))
    }

    private let processFiles = [
        "/proc/meminfo": "MemTotal:       100 kB\nMemFree:        10 kB\nMemAvailable:       64 kB\n",
        "/proc/self/status": "Name:\tskein\nVmPeak:\t  99 kB\nVmHWM:\t   42 kB\nVmRSS:\t   17 kB\n",
    ]

    @Test func theMachineAndTheProcess() throws {
        let (root, files) = try files(processFiles)
        defer { try? FileManager.default.removeItem(atPath: root) }
        #expect(files.machine == 64 << 10)
        #expect(files.peakResident == 42 << 10)
        #expect(files.resident == 17 << 10)
        #expect(files.group == nil)
        #expect(Machine.availableMemory(files)?.bytes == 64 << 10)
        #expect(Machine.availableMemory(files)?.limit == "this machine")
    }

    /// Version 2: the tightest limit on the way up counts, less what its members hold.
    @Test func theSecondVersionOfCgroups() throws {
        let group = "/sys/fs/cgroup"
        let (root, files) = try files(processFiles.merging([
            "/proc/self/cgroup": "1:name=systemd:/x\n0::/jobs/train\n",
            "\(group)/jobs/train/memory.max": "max\n",
            "\(group)/jobs/memory.max": "50000\n",
            "\(group)/jobs/memory.stat": "anon 8000\nfile 30000\n",
            "\(group)/memory.max": "60000\n",
        ]) { $1 })
        defer { try? FileManager.default.removeItem(atPath: root) }
        #expect(files.group == 42_000)
        #expect(Machine.availableMemory(files)?.bytes == 42_000)
        #expect(Machine.availableMemory(files)?.limit == "this process's cgroup")
    }

    /// Quotas of processor time: the least on the way up, in both versions, whole cores.
    @Test func quotas() throws {
        let (two, one) = ("/sys/fs/cgroup", "/sys/fs/cgroup/cpu,cpuacct")
        let cases: [([String: String], Int?)] = [
            (["/proc/self/cgroup": "0::/a/b\n"], nil),
            (["/proc/self/cgroup": "0::/a/b\n", "\(two)/a/b/cpu.max": "max 100000\n"], nil),
            (["/proc/self/cgroup": "0::/a/b\n", "\(two)/a/b/cpu.max": "400000 100000\n",
              "\(two)/a/cpu.max": "100000 100000\n"], 1),
            (["/proc/self/cgroup": "0::/\n", "\(two)/cpu.max": "150000 100000\n"], 2),
            (["/proc/self/cgroup": "3:cpu,cpuacct:/a/b\n", "\(one)/a/b/cpu.cfs_quota_us": "-1\n",
              "\(one)/a/b/cpu.cfs_period_us": "100000\n", "\(one)/a/cpu.cfs_quota_us": "300000\n",
              "\(one)/a/cpu.cfs_period_us": "100000\n"], 3),
            // A machine with both: version 1 has the controller, whatever the other tree says.
            (["/proc/self/cgroup": "3:cpu:/a\n0::/b\n", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
              "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
              "/sys/fs/cgroup/unified/b/cpu.max": "700000 100000\n"], 2),
            (["/proc/self/cgroup": "4:memory:/x\n"], nil),
        ]
        for (contents, cores) in cases {
            let (root, files) = try files(contents)
            defer { try? FileManager.default.removeItem(atPath: root) }
            #expect(files.cores == cores, "\(contents)")
        }
    }

    /// Machines of version 1 alone have no line that begins with "0::".
    @Test func theFirstVersionAlone() throws {
        let group = "/sys/fs/cgroup/memory"
        let (root, files) = try files([
            "/proc/self/cgroup": "4:memory:/jobs/train\n",
            "\(group)/jobs/train/memory.limit_in_bytes": "9223372036854771712\n",
            "\(group)/jobs/memory.limit_in_bytes": "40000\n",
        ])
        defer { try? FileManager.default.removeItem(atPath: root) }
        #expect(files.group == 40_000)
    }

    @Test func theFirstVersionOfCgroups() throws {
        let group = "/sys/fs/cgroup/memory"
        let (root, files) = try files(processFiles.merging([
            "/proc/self/cgroup": "9:cpu:/a\n4:memory:/jobs\n0::/\n",
            "\(group)/jobs/memory.limit_in_bytes": "40000\n",
            "\(group)/jobs/memory.stat": "cache 5\ntotal_rss 1000\n",
            "\(group)/memory.limit_in_bytes": "9223372036854771712\n",
        ]) { $1 })
        defer { try? FileManager.default.removeItem(atPath: root) }
        #expect(files.group == 39_000)
    }

    /// A system without these files sets no limit.
    @Test func nothingIsKnown() throws {
        let files = MemoryFiles(root: "/nonexistent")
        #expect(files.machine == nil && files.group == nil && files.resident == nil)
        #expect(Machine.availableMemory(files) == nil)
    }

    #if os(Linux)
    @Test func thisProcessHoldsMemory() {
        #expect((MemoryFiles().resident ?? 0) > 1 << 20)
        #expect(Machine.peakResidentBytes >= MemoryFiles().resident ?? .max)
    }
    #endif
}
