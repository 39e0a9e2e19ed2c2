import Foundation
import Tensor
import Testing

/// Which nodes an arena's pages go to, from files as the kernel writes them.
@Suite struct MemoryNodesTests {
    private func nodes(online: String, cores: [String], allowed: String, memories: String) throws -> [Int] {
        let folder = NSTemporaryDirectory() + "skein-nodes-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for (node, list) in cores.enumerated() {
            try FileManager.default.createDirectory(atPath: "\(folder)/node\(node)", withIntermediateDirectories: true)
            try (list + "\n").write(toFile: "\(folder)/node\(node)/cpulist", atomically: true, encoding: .utf8)
        }
        try (online + "\n").write(toFile: folder + "/online", atomically: true, encoding: .utf8)
        try "Name:\tskein\nCpus_allowed_list:\t\(allowed)\nMems_allowed_list:\t\(memories)\n"
            .write(toFile: folder + "/status", atomically: true, encoding: .utf8)
        return MemoryNodes(system: folder, status: folder + "/status").nodes
    }

    @Test func thoseOfTheCoresThatMayBeUsed() throws {
        let cores = ["0-3,8-11", "4-7,12-15", ""]
        #expect(try nodes(online: "0-2", cores: cores, allowed: "0-15", memories: "0-2") == [0, 1])
        #expect(try nodes(online: "0-2", cores: cores, allowed: "4-5", memories: "0-2") == [1])
        #expect(try nodes(online: "0-2", cores: cores, allowed: "3,12", memories: "0-2") == [0, 1])
        #expect(try nodes(online: "0-2", cores: cores, allowed: "0-15", memories: "1") == [1])
        #expect(try nodes(online: "0", cores: ["0-1"], allowed: "0-1", memories: "0") == [0])
        #expect(MemoryNodes(system: "/nowhere", status: "/nowhere").nodes.isEmpty)
    }

    /// The call itself harms nothing where it is refused or there is one node: memory stays zero and usable.
    @Test func interleavedMemoryIsMemory() throws {
        let arena = try Arena(name: "test", capacity: 1 << 16), row = arena.take(1 << 16)
        #expect(row.array.allSatisfy { $0 == 0 })
        row.fill(2)
        #expect(row[1 << 15] == 2)
    }
}
