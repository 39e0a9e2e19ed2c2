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
