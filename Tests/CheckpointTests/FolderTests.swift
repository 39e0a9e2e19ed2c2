import Base
import Checkpoint
import Crypto
import Glibc
import Testing

@Suite struct FolderTests {
    private let disk = FaultyDisk()
    private var folder: CheckpointFolder { CheckpointFolder(Fixture.folder + "/", disk: disk) }

    private func names(_ path: String = Fixture.folder) throws -> [String] { try disk.list(path) }

    @Test func roundTrip() throws {
        let fixture = Fixture(step: 20)
        let path = try fixture.save(on: disk)
        #expect(path == "/run/checkpoint/step-20")
        #expect(try names(path) == ["config.toml", "manifest.json", "model.safetensors",
                                    "optimizer.safetensors", "tokenizer.json"])
        let checkpoint = try Checkpoint.open(path + "/", disk: disk)
        try fixture.expectEqual(checkpoint)
        // Wide elements first, so that each is aligned.
        #expect(checkpoint.model.map(\.name) == ["embed.weight", "none", "norm.weight", "scale"])
        #expect(checkpoint.optimizer.map(\.name) == ["count", "embed.weight.exp_avg"])
        #expect(disk.openFiles == 0)
    }

    /// The same state makes the same bytes: runs can be compared with cmp.
    @Test func theBytesRepeat() throws {
        let path = try Fixture(step: 20).save(on: disk)
        let other = FaultyDisk()
        try Fixture(step: 20).save(on: other)
        for name in try names(path) {
            #expect(disk.bytes(path + "/" + name) == other.bytes(path + "/" + name))
        }
    }

    @Test func withoutOptimizer() throws {
        var fixture = Fixture(step: 20)
        fixture.optimizer = []
        let path = try fixture.save(on: disk)
        #expect(try !names(path).contains("optimizer.safetensors"))
        try fixture.expectEqual(Checkpoint.open(path, disk: disk))
    }

    @Test func aSavedStepIsNotOverwritten() throws {
        let path = try Fixture(step: 20).save(on: disk)
        #expect(throws: CheckpointError.exists(path)) { try Fixture(step: 20).save(on: disk) }
        try Fixture(step: 20).expectEqual(Checkpoint.open(path, disk: disk))
    }

    @Test func keepsTheNewest() throws {
        for keep in 1...4 {
            let disk = FaultyDisk(), folder = CheckpointFolder(Fixture.folder, disk: disk)
            // 100 after 20: numbers, not names.
            for (index, step) in [3, 20, 100, 101].enumerated() {
                try Fixture(step: step).save(on: disk)
                #expect(try folder.retain(last: keep) == [])
                #expect(try folder.steps() == Array([3, 20, 100, 101][...index].reversed().prefix(keep)))
            }
            try Fixture(step: 101).expectEqual(try folder.latest().checkpoint)
        }
    }

    /// A newer checkpoint that only looks whole must not cost the last one that is.
    @Test func theNewestWholeOneStays() throws {
        for step in [10, 20, 30] { try Fixture(step: step).save(on: disk) }
        for step in [20, 30] {
            disk.tamper("/run/checkpoint/step-\(step)/model.safetensors") { $0[$0.count - 1] ^= 1 }
        }
        #expect(try folder.retain(last: 2) ==
            ["none of the newest 2 checkpoints in /run/checkpoint is whole; older ones are kept"])
        #expect(try folder.steps() == [30, 20, 10])
        #expect(try folder.latest().checkpoint.step == 10)
        // With one whole among the newest two, the third may go.
        try Fixture(step: 40).save(on: disk)
        #expect(try folder.retain(last: 2) == [])
        #expect(try folder.steps() == [40, 30])
    }

    /// Unfinished saves do not count, and go when they are older than what stays; strangers' files stay.
    @Test func leftovers() throws {
        for step in [10, 20, 30] { try Fixture(step: step).save(on: disk) }
        try disk.remove("/run/checkpoint/step-20/manifest.json")
        disk.close(try disk.create("/run/checkpoint/step-10/notes.txt", size: 3))
        try disk.createFolder("/run/checkpoint/step-5")
        #expect(try folder.retain(last: 1) == [])
        #expect(try names() == ["step-10", "step-30"])
        #expect(try names("/run/checkpoint/step-10") == ["notes.txt"])
        #expect(try folder.latest().checkpoint.step == 30)
        // A save into a folder with a stranger's file is a checkpoint all the same.
        try Fixture(step: 10).expectEqual(Checkpoint.open(try Fixture(step: 10).save(on: disk), disk: disk))
        #expect(try names("/run/checkpoint/step-10").contains("notes.txt"))
    }

    @Test func unfinishedIsPassedOver() throws {
        for step in [10, 20] { try Fixture(step: step).save(on: disk) }
        try disk.remove("/run/checkpoint/step-20/manifest.json")
        let found = try folder.latest()
        #expect(found.checkpoint.step == 10)
        #expect(found.warnings == ["/run/checkpoint/step-20 is not a finished checkpoint: it has no "
            + "manifest.json; going back to step 10"])
    }

    /// Only damage sends a run back. A disk that fails now, or has no descriptor left, says nothing about the bytes; to
    /// go back for that would throw steps away.
    @Test(arguments: [EIO, EMFILE, EACCES, ENOMEM]) func aFailingDiskIsNoDamage(code: Int32) throws {
        for step in [10, 20] { try Fixture(step: step).save(on: disk) }
        disk.fail(at: .max, .crash)
        _ = try folder.latest()
        let operations = disk.operations
        #expect(operations > 10)
        for operation in 0..<operations {
            disk.fail(at: operation, .error(code))
            let error = #expect(throws: CheckpointError.self) { _ = try folder.latest() }
            guard case .disk(let cause)? = error else {
                Issue.record("operation \(operation): \(String(describing: error))")
                continue
            }
            #expect(cause.code == code)
        }
        disk.disarm()
        #expect(try folder.latest().checkpoint.step == 20)
    }

    /// A newer program's checkpoint is no damage either.
    @Test func anotherFormatIsSaid() throws {
        for step in [10, 20] { try Fixture(step: step).save(on: disk) }
        disk.tamper("/run/checkpoint/step-20/manifest.json") { bytes in
            let text = String(decoding: bytes, as: UTF8.self)
            let opening = "{\n\"self_sha256\":\"", closing = "\",\n"
            let body = Array(text.replacing("\"version\":2", with: "\"version\":3").utf8)
                .dropFirst(opening.utf8.count + 64 + closing.utf8.count)
            #expect(!text.hasSuffix(String(decoding: body, as: UTF8.self)))
            bytes = Array((opening + hexadecimal(SHA256.hash(data: body)) + closing).utf8) + body
        }
        let error = #expect(throws: CheckpointError.self) { _ = try folder.latest() }
        #expect(error?.description.contains("use the version of skein that wrote it") == true)
    }

    @Test func goingOnFromAnEarlierStep() throws {
        for step in [10, 20, 30] { try Fixture(step: step).save(on: disk) }
        #expect(try folder.setAside(after: 10) ==
            ["/run/checkpoint/step-30.superseded", "/run/checkpoint/step-20.superseded"])
        #expect(try folder.latest().checkpoint.step == 10)
        try Fixture(step: 20).save(on: disk)
        #expect(try folder.setAside(after: 10) == ["/run/checkpoint/step-20.superseded"])
        try Fixture(step: 20).expectEqual(Checkpoint.open("/run/checkpoint/step-20.superseded", disk: disk))
        #expect(try folder.steps() == [10])
        #expect(try folder.setAside(after: 10) == [])
    }

    @Test func onlyOurNamesAreSteps() throws {
        try disk.createFolder("/run")
        try disk.createFolder("/run/checkpoint")
        for name in ["step-7", "step-07", "step-", "step--1", "step-+1", "step-1x", "Step-3",
                     "step-9.superseded", "step-99999999999999999999", "step-0"] {
            try disk.createFolder("/run/checkpoint/" + name)
        }
        #expect(try folder.steps() == [7, 0])
    }

    @Test func whatAPathMayBe() throws {
        func locate(_ path: String) throws(CheckpointError) -> String {
            try Checkpoint.locate(path, disk: disk).checkpoint.path
        }
        for step in [10, 20] { try Fixture(step: step).save(on: disk) }
        #expect(try locate("/run/checkpoint/step-10") == "/run/checkpoint/step-10")
        #expect(try locate("/run/checkpoint/step-10//") == "/run/checkpoint/step-10")
        #expect(try locate("/run") == "/run/checkpoint/step-20")
        #expect(try locate("/run/") == "/run/checkpoint/step-20")
        #expect(try locate("/run/checkpoint") == "/run/checkpoint/step-20")
        try disk.createFolder("/empty")
        try disk.createFolder("/started")
        try disk.createFolder("/started/checkpoint")
        disk.close(try disk.create("/file", size: 1))
        try disk.remove("/run/checkpoint/step-20/manifest.json")
        let refused = [
            "/nowhere": "/nowhere does not exist",
            "/file": "/file is not a folder; give a checkpoint's or a run's folder",
            "/empty": "/empty holds no checkpoint: neither manifest.json nor checkpoint/step-N",
            "/started": "no usable checkpoint in /started/checkpoint: there is no step-N folder in it",
            "/run/checkpoint/step-20":
                "/run/checkpoint/step-20 is not a finished checkpoint: it has no manifest.json",
        ]
        for (path, text) in refused {
            #expect(throws: CheckpointError.notFound(text)) { try locate(path) }
        }
        #expect(CheckpointError.notFound("").kind == .badInput)
    }

    @Test func anotherShapeIsRefusedInOneLine() throws {
        let fixture = Fixture(step: 20), specs = fixture.model.map(\.spec)
        let checkpoint = try Checkpoint.open(try fixture.save(on: disk), disk: disk)
        let advice = "; the recipe it was trained with is its config.toml"
        func refusal(_ specs: [TensorSpec]) -> String? {
            do throws(CheckpointError) { try checkpoint.requireModel(specs) } catch {
                #expect(error.kind == .badInput)
                return error.description
            }
            return nil
        }
        #expect(refusal(specs) == nil)
        let wider = TensorSpec("norm.weight", .float32, [6])
        let text = "tensor norm.weight is F32 [3] in \(checkpoint.path), this recipe wants F32 [6]" + advice
        #expect(refusal(specs.dropLast() + [wider]) == text)
        #expect(throws: CheckpointError.mismatch(text)) { try checkpoint.readBytes(wider) }
        #expect(refusal(specs.dropLast() + [TensorSpec("norm.weight", .int32, [3])])
            == "tensor norm.weight is F32 [3] in \(checkpoint.path), this recipe wants I32 [3]" + advice)
        #expect(refusal(specs + [TensorSpec("head", .float32, [2, 2])])
            == "\(checkpoint.path) has no tensor head (F32 [2, 2])" + advice)
        #expect(refusal(Array(specs.dropLast()))
            == "\(checkpoint.path) has the tensor norm.weight, which this recipe does not have" + advice)
    }
}
