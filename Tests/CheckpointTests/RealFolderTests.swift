import Checkpoint
import Foundation
import Storage
import Testing

/// The kernel's file system under a run's checkpoints, as the rest are tested on a disk in memory.
@Suite struct RealFolderTests {
    @Test func aRunOfCheckpoints() throws {
        let disk = RealDisk(), run = FileManager.default.temporaryDirectory.path + "/skein-\(UUID().uuidString)"
        try disk.createFolder(run)
        defer { try? FileManager.default.removeItem(atPath: run) }
        let folder = CheckpointFolder(run + "/checkpoint")
        for step in [10, 20, 30] {
            try Fixture(step: step).save(on: disk, in: folder.path)
            #expect(try folder.retain(last: 2) == [])
        }
        #expect(try folder.steps() == [30, 20])
        let found = try Checkpoint.locate(run)
        #expect(found.warnings == [])
        try Fixture(step: 30).expectEqual(found.checkpoint)
        #expect(try Safetensors(reading: found.checkpoint.path + "/model.safetensors", disk: disk)
            .tensors.map(\.name) == found.checkpoint.model.map(\.name))
    }
}
