import Base
import Checkpoint
import Testing

/// A checkpoint that several ranks wrote is read like any other.
@Suite struct RanksTests {
    @Test func anyNumberOfRanks() throws {
        for ranks in 1...9 {
            let disk = FaultyDisk(), fixture = Fixture(step: 7)
            let path = try fixture.save(on: disk, ranks: ranks)
            let checkpoint = try Checkpoint.open(path, disk: disk)
            try fixture.expectEqual(checkpoint, "\(ranks) ranks")
            // More ranks than tensors: some write no file.
            let files = checkpoint.manifest.files.filter { $0.name.hasPrefix("model") }
            #expect(files.count == min(ranks, fixture.model.count))
        }
    }

    @Test func aFileThatRankZeroDoesNotSeeIsNamed() throws {
        let shared = FaultyDisk(), own = FaultyDisk(), fixture = Fixture(step: 7)
        let writer = CheckpointWriter(folder: Fixture.folder, disk: shared)
        let elsewhere = CheckpointWriter(folder: Fixture.folder, disk: own)
        try writer.begin(step: 7)
        try elsewhere.begin(step: 7)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 12, alignment: 16)
        defer { unsafe memory.deallocate() }
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 3)
        let source = unsafe TensorSource("x", .float32, [3], bytes: UnsafeRawBufferPointer(memory))
        let first = try writer.writePart(step: 7, 0, of: 2, model: [], optimizer: [])
        let second = try elsewhere.writePart(step: 7, 1, of: 2, model: [source], optimizer: [])
        let error = #expect(throws: CheckpointError.self) {
            _ = try writer.commit(fixture.manifest, recipe: "", tokenizer: "", records: [first, second])
        }
        #expect(error?.description.contains("model-00002-of-00002.safetensors, which rank 1 wrote") == true)
        #expect(throws: CheckpointError.self) { try CheckpointFolder(Fixture.folder, disk: shared).latest() }
    }

    @Test func onlyOurNamesAreFiles() {
        for name in ["model.safetensors", "model-00001-of-00001.safetensors", "optimizer-00012-of-00100.safetensors"] {
            #expect(Manifest.fileKind(name) != nil, "\(name)")
        }
        for name in ["model-00002-of-00001.safetensors", "model-00000-of-00001.safetensors", "model-1-of-2.safetensors",
                     "../model.safetensors", "model-00001-of-00002.safetensors.bak", "other.safetensors"] {
            #expect(Manifest.fileKind(name) == nil, "\(name)")
        }
    }
}
