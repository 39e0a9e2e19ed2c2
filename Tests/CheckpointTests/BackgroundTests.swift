import Base
import Checkpoint
import Glibc
import Storage
import Synchronization
import Testing

/// Saves on a thread of their own.
@Suite struct BackgroundTests {
    /// A copy of a fixture's tensors.
    private func copy(_ fixture: Fixture, into copy: inout TensorCopy) {
        fixture.withSources { model, optimizer in copy.take(model: model, optimizer: optimizer) }
    }

    private func start(_ fixture: Fixture, _ copy: TensorCopy, on disk: any Disk) -> BackgroundSave<String> {
        CheckpointWriter(folder: Fixture.folder, disk: disk).writeInBackground(
            fixture.manifest, recipe: Fixture.recipe, tokenizer: Fixture.tokenizer, copy)
    }

    @Test func theSameBytes() throws {
        let disk = FaultyDisk(), other = FaultyDisk(), fixture = Fixture(step: 20)
        var memory = TensorCopy()
        for step in [10, 20] {
            copy(Fixture(step: step), into: &memory)
            let save = start(Fixture(step: step), memory, on: disk)
            // What is copied now is not what is being saved.
            copy(Fixture(step: 99), into: &memory)
            let path = try save.wait()
            #expect(try save.wait() == path && path == Fixture.folder + "/step-\(step)")
            #expect(try save.outcome?.get() == path)
        }
        try fixture.save(on: other)
        for name in try disk.list(Fixture.folder + "/step-20") {
            let file = Fixture.folder + "/step-20/" + name
            #expect(disk.bytes(file) == other.bytes(file), "\(name)")
        }
        #expect(disk.openFiles == 0)
    }

    /// Parts by several ranks at once.
    @Test func parts() throws {
        let disk = FaultyDisk(), writer = CheckpointWriter(folder: Fixture.folder, disk: disk)
        let fixture = Fixture(step: 20)
        try writer.begin(step: 20)
        let saves = fixture.withSources { model, optimizer in
            (0..<3).map { rank in
                var memory = TensorCopy()
                func own(_ all: [TensorSource]) -> [TensorSource] {
                    all.enumerated().filter { $0.offset % 3 == rank }.map(\.element)
                }
                memory.take(model: own(model), optimizer: own(optimizer))
                return writer.writePartInBackground(step: 20, rank, of: 3, memory)
            }
        }
        let records = try saves.map { try $0.wait() }
        let path = try writer.commit(fixture.manifest, recipe: Fixture.recipe, tokenizer: Fixture.tokenizer,
                                     records: records)
        try fixture.expectEqual(Checkpoint.open(path, disk: disk))
    }

    /// A failing disk is the result, and nothing else happens.
    @Test func aFailure() throws {
        let disk = FaultyDisk(), fixture = Fixture(step: 20)
        try Fixture(step: 10).save(on: disk)
        var memory = TensorCopy()
        copy(fixture, into: &memory)
        disk.fail(at: 12, .error(ENOSPC))
        let save = start(fixture, memory, on: disk)
        let error = #expect(throws: CheckpointError.self) { try save.wait() }
        #expect(error?.description.contains("No space left on device; earlier checkpoints are untouched") == true)
        #expect(try CheckpointFolder(Fixture.folder, disk: disk).latest().checkpoint.step == 10)
    }

    /// Calls `action` before one of its operations.
    private final class TriggerDisk: Disk {
        let disk: FaultyDisk
        let point: Int
        let count = Atomic(0)
        let action = Mutex<(@Sendable () -> Void)?>(nil)

        init(_ disk: FaultyDisk, at point: Int) {
            self.disk = disk
            self.point = point
        }

        private func pass() {
            let call = action.withLock { $0 }
            if count.wrappingAdd(1, ordering: .relaxed).oldValue == point { call?() }
        }

        func kind(_ path: String) throws(DiskError) -> PathKind? { pass(); return try disk.kind(path) }
        func list(_ folder: String) throws(DiskError) -> [String] { pass(); return try disk.list(folder) }
        func createFolder(_ path: String) throws(DiskError) { pass(); try disk.createFolder(path) }
        func create(_ path: String, size: Int) throws(DiskError) -> OpenFile {
            pass()
            return try disk.create(path, size: size)
        }
        func open(_ path: String) throws(DiskError) -> OpenFile { pass(); return try disk.open(path) }
        func close(_ file: OpenFile) { disk.close(file) }
        func write(_ bytes: UnsafeRawBufferPointer, to file: OpenFile, at offset: Int) throws(DiskError) {
            pass()
            try unsafe disk.write(bytes, to: file, at: offset)
        }
        func read(into buffer: UnsafeMutableRawBufferPointer, from file: OpenFile, at offset: Int)
            throws(DiskError) {
            pass()
            try unsafe disk.read(into: buffer, from: file, at: offset)
        }
        func cut(_ file: OpenFile, to size: Int) throws(DiskError) { pass(); try disk.cut(file, to: size) }
        func sync(_ file: OpenFile) throws(DiskError) { pass(); try disk.sync(file) }
        func syncFolder(_ path: String) throws(DiskError) { pass(); try disk.syncFolder(path) }
        func rename(_ old: String, to new: String) throws(DiskError) { pass(); try disk.rename(old, to: new) }
        func remove(_ file: String) throws(DiskError) { pass(); try disk.remove(file) }
        func removeFolder(_ path: String) throws(DiskError) { pass(); try disk.removeFolder(path) }
    }

    /// Given up at any operation: the old checkpoint or the new one is there, whole, and nothing half-made.
    @Test func cancelledAnywhere() throws {
        let old = Fixture(step: 10), new = Fixture(step: 20)
        var memory = TensorCopy(), wereCancelled = 0
        copy(new, into: &memory)
        for point in 0... {
            let disk = FaultyDisk(), trigger = TriggerDisk(disk, at: point)
            try old.save(on: disk)
            // No operation passes before the trigger knows what to give up.
            let save = trigger.action.withLock { action in
                let save = start(new, memory, on: trigger)
                action = { save.cancel() }
                return save
            }
            let error: CheckpointError?
            do throws(CheckpointError) {
                _ = try save.wait()
                error = nil
            } catch let thrown { error = thrown }
            trigger.action.withLock { $0 = nil }
            #expect(disk.openFiles == 0)
            let found = try CheckpointFolder(Fixture.folder, disk: disk).latest()
            #expect(found.warnings == [], "operation \(point)")
            if let error {
                wereCancelled += 1
                let text = "Operation canceled; earlier checkpoints are untouched"
                #expect(error.description.hasSuffix(text), "\(error)")
                #expect(try CheckpointFolder(Fixture.folder, disk: disk).steps() == [10], "operation \(point)")
                try old.expectEqual(found.checkpoint)
            } else {
                try new.expectEqual(found.checkpoint)
            }
            if trigger.count.load(ordering: .relaxed) <= point { break }
        }
        #expect(wereCancelled > 20)
    }
}
