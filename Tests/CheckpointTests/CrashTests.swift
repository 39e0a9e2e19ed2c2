import Base
import Checkpoint
import Glibc
import Storage
import Testing

/// Every operation of a save and of the removal of old checkpoints fails once, in every way.
@Suite struct CrashTests {
    private static let failures: [FaultyDisk.Failure] =
        [.error(ENOSPC), .error(EIO), .torn(ENOSPC), .torn(EIO), .crash]

    private static func losses(after failure: FaultyDisk.Failure, _ seeds: UInt64)
        -> [FaultyDisk.Loss] {
        guard failure == .crash else { return [.nothing] }
        return [.everything, .nothing] + (0..<seeds).map { .random(seed: $0) }
    }

    private var folder: (FaultyDisk) -> CheckpointFolder = { CheckpointFolder(Fixture.folder, disk: $0) }

    /// Runs `body` with a failure at each of its operations in turn, until it gets through untouched.
    private func sweep(failures: [FaultyDisk.Failure] = CrashTests.failures, seeds: UInt64 = 24,
                       _ prepare: (FaultyDisk) throws -> Void, _ body: (FaultyDisk) throws -> Void,
                       _ check: (FaultyDisk, _ error: (any Error)?, _ crashed: Bool, Comment) throws -> Void)
        throws -> Int {
        var operations = 0
        for failure in failures {
            for loss in CrashTests.losses(after: failure, seeds) {
                for point in 0... {
                    let disk = FaultyDisk()
                    try prepare(disk)
                    disk.fail(at: point, failure)
                    var failed: (any Error)?
                    do { try body(disk) } catch { failed = error }
                    #expect(disk.openFiles == 0)
                    let reached = disk.operations > point, crashed = disk.isOff
                    disk.disarm()
                    // What was reported as done must survive a power cut right after it.
                    if failure == .crash { disk.restart(loss) }
                    if failure != .crash, failed == nil { disk.restart(.everything) }
                    try check(disk, failed, crashed, "\(failure) at operation \(point), \(loss)")
                    if !reached {
                        operations = point
                        break
                    }
                }
            }
        }
        return operations
    }

    /// The promise itself: the previous checkpoint or the new one, whole, and the new one if it was
    /// reported as saved; and the run can go on saving.
    @Test func everyOperationOfASave() throws {
        let old = Fixture(step: 10), new = Fixture(step: 20)
        let operations = try sweep({ try old.save(on: $0) }, { try new.save(on: $0) }) {
            disk, error, crashed, comment in
            let found = try folder(disk).latest().checkpoint
            #expect(found.step == 20 || error != nil, comment)
            if error != nil, !crashed {
                // The machine still runs, so nothing of the failed save is left.
                #expect(try folder(disk).steps() == [10], comment)
            }
            try (found.step == 20 ? new : old).expectEqual(found, comment)
            try old.expectEqual(Checkpoint.open(Fixture.folder + "/step-10", disk: disk), comment)
            if found.step == 10 { try new.save(on: disk) }
            try new.expectEqual(try folder(disk).latest().checkpoint, comment)
        }
        // 4 files and a manifest: created, written, synced, and some steps around them.
        #expect(operations > 20)
    }

    /// The same with a compressed optimizer state and a signature: room is reserved and given back.
    @Test func everyOperationOfACompressedSave() throws {
        let key = CheckpointKey(bytes: [UInt8](repeating: 5, count: 32))
        let options = SaveOptions(compressesOptimizer: true, key: key)
        let old = Fixture(step: 10), new = Fixture(step: 20)
        for ranks in [1, 3] {
            let operations = try sweep(seeds: 6, { try old.save(on: $0) }, {
                try new.save(on: $0, ranks: ranks, options: options)
            }) { disk, error, _, comment in
                let found = try folder(disk).latest().checkpoint
                #expect(found.step == 20 || error != nil, comment)
                try (found.step == 20 ? new : old).expectEqual(found, comment)
                try old.expectEqual(Checkpoint.open(Fixture.folder + "/step-10", disk: disk), comment)
                if found.step == 10 { try new.save(on: disk, ranks: ranks, options: options) }
                try new.expectEqual(try folder(disk).latest().checkpoint, comment)
            }
            #expect(operations > 20)
        }
    }

    /// The same for a save by three ranks: whichever of them fails, and whenever, the old checkpoint is whole and a
    /// half-written one is never taken for whole; the next save of the step clears what is left.
    @Test func everyOperationOfASaveByRanks() throws {
        let old = Fixture(step: 10), new = Fixture(step: 20)
        let operations = try sweep(seeds: 6, { try old.save(on: $0, ranks: 2) }, { try new.save(on: $0, ranks: 3) }) {
            disk, error, _, comment in
            let found = try folder(disk).latest().checkpoint
            #expect(found.step == 20 || error != nil, comment)
            try (found.step == 20 ? new : old).expectEqual(found, comment)
            try old.expectEqual(Checkpoint.open(Fixture.folder + "/step-10", disk: disk), comment)
            if found.step == 10 { try new.save(on: disk, ranks: 3) }
            try new.expectEqual(try folder(disk).latest().checkpoint, comment)
        }
        #expect(operations > 35)
    }

    /// The first save has no predecessor: nothing, or a whole one.
    @Test func everyOperationOfTheFirstSave() throws {
        let new = Fixture(step: 20)
        _ = try sweep({ _ in }, { try new.save(on: $0) }) { disk, error, _, comment in
            if let found = try? folder(disk).latest() {
                try new.expectEqual(found.checkpoint, comment)
                #expect(found.warnings == [], comment)
            } else {
                #expect(error != nil, comment)
                try new.save(on: disk)
                try new.expectEqual(try folder(disk).latest().checkpoint, comment)
            }
        }
    }

    @Test func everyOperationOfRemovingOldOnes() throws {
        let steps = [10, 20, 30, 40].map { Fixture(step: $0) }
        let operations = try sweep({ disk in for step in steps { try step.save(on: disk) } },
                                   { _ = try folder($0).retain(last: 2) }) { disk, _, _, comment in
            for kept in steps[2...] {
                let path = "\(Fixture.folder)/step-\(kept.step)"
                try kept.expectEqual(Checkpoint.open(path, disk: disk), comment)
            }
            #expect(try folder(disk).latest().warnings == [], comment)
            #expect(try folder(disk).retain(last: 2) == [], comment)
            #expect(try folder(disk).steps() == [40, 30], comment)
        }
        #expect(operations > 25)
    }

    /// A save over the remains of an interrupted one, interrupted again.
    @Test func aSecondCrash() throws {
        let old = Fixture(step: 10), new = Fixture(step: 20)
        for first in stride(from: 0, to: 40, by: 3) {
            _ = try sweep(failures: [.crash], seeds: 2, { disk in
                try old.save(on: disk)
                disk.fail(at: first, .crash)
                _ = try? new.save(on: disk)
                disk.restart(.random(seed: UInt64(first)))
            }, { disk in
                if try folder(disk).latest().checkpoint.step != 20 { try new.save(on: disk) }
            }) { disk, error, _, comment in
                let found = try folder(disk).latest().checkpoint
                #expect(found.step == 20 || error != nil, comment)
                try (found.step == 20 ? new : old).expectEqual(found, comment)
            }
        }
    }

    /// A disk without room is refused while space is reserved: no byte of a tensor has been written, and the
    /// error names the file.
    @Test func aFullDiskAndAFailedSyncSaySo() throws {
        let disk = FaultyDisk()
        try Fixture(step: 10).save(on: disk)
        var messages: Set<String> = []
        for point in 0..<60 {
            disk.fail(at: point, .error(ENOSPC))
            do { try Fixture(step: 20).save(on: disk) } catch { messages.insert(error.description) }
            if disk.operations <= point { break }
        }
        for name in ["model.safetensors", "optimizer.safetensors", "config.toml", "tokenizer.json",
                     "manifest.json.tmp"] {
            for operation in ["create", "sync", "write"] {
                let text = "the checkpoint of step 20 was not written: cannot \(operation) /run/checkpoint/"
                    + "step-20/\(name): No space left on device; earlier checkpoints are untouched"
                #expect(messages.contains(text), "\(text)")
            }
        }
        #expect(CheckpointError.notWritten(step: 1, DiskError("sync", "x", code: EIO)).kind == .running)
    }
}
