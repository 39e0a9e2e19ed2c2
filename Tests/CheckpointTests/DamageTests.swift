import Base
import Checkpoint
import Testing

/// Every byte of a small checkpoint is changed, every file is cut at every length.
@Suite struct DamageTests {
    private let disk = FaultyDisk()
    private let fixture = Fixture(step: 20)
    private let path: String
    private let names = ["model.safetensors", "optimizer.safetensors", "config.toml", "tokenizer.json"]

    init() throws { path = try fixture.save(on: disk) }

    private func opening() -> CheckpointError? {
        do throws(CheckpointError) { _ = try Checkpoint.open(path, disk: disk) } catch { return error }
        return nil
    }

    @Test func everyBitOfTheManifest() throws {
        let file = path + "/manifest.json", count = try #require(disk.bytes(file)).count
        let damage = Damage(path: file, evidence: "its hash of itself does not match")
        for position in 0..<count {
            for bit in 0..<8 {
                disk.tamper(file) { $0[position] ^= 1 << bit }
                #expect(opening() == .damaged([damage]), "bit \(bit) of byte \(position)")
                disk.tamper(file) { $0[position] ^= 1 << bit }
            }
        }
        #expect(opening() == nil)
    }

    /// A flip in a tensor names the tensor and no other; elsewhere, the file.
    @Test func everyBitOfEveryOtherFile() throws {
        let checkpoint = try Checkpoint.open(path, disk: disk)
        for name in names {
            let file = path + "/" + name, count = try #require(disk.bytes(file)).count
            for position in 0..<count {
                let tensor = checkpoint.manifest.tensors.first {
                    $0.slices[0].file == name && $0.slices[0].begin <= position && position < $0.slices[0].end
                }
                for bit in 0..<8 {
                    disk.tamper(file) { $0[position] ^= 1 << bit }
                    let damages = checkpoint.verify()
                    #expect(damages.map(\.path) == [file] && damages.map(\.tensor) == [tensor?.name],
                            "bit \(bit) of byte \(position) of \(name)")
                    disk.tamper(file) { $0[position] ^= 1 << bit }
                }
            }
        }
        #expect(checkpoint.verify() == [])
    }

    /// Reading checks too, without a verify before it.
    @Test func readingFindsTheFlip() throws {
        let checkpoint = try Checkpoint.open(path, disk: disk)
        for tensor in checkpoint.manifest.tensors where tensor.byteCount > 0 {
            let slice = tensor.slices[0], file = path + "/" + slice.file, spec = tensor.spec
            disk.tamper(file) { $0[slice.end - 1] ^= 0x10 }
            let error = #expect(throws: CheckpointError.self) { try checkpoint.readBytes(spec) }
            let text = "tensor \(tensor.name) in \(file) is damaged: CRC-32C "
            #expect(error?.description.hasPrefix(text) == true)
            #expect(error?.kind == .badInput)
            let archive = TensorArchive(checkpoint)
            #expect(throws: CheckpointError.self) { try archive.statistics(of: tensor, with: archive.reader()) }
            disk.tamper(file) { $0[slice.end - 1] ^= 0x10 }
            #expect(throws: Never.self) { try checkpoint.readBytes(spec) }
        }
        disk.tamper(path + "/config.toml") { $0[0] ^= 1 }
        #expect(throws: CheckpointError.damaged([Damage(
            path: path + "/config.toml", evidence: "its SHA-256 does not match the manifest")])) {
            try checkpoint.recipe()
        }
    }

    @Test func everyLengthOfEveryFile() throws {
        for name in names + ["manifest.json"] {
            let file = path + "/" + name, whole = try #require(disk.bytes(file))
            for length in Array(0..<whole.count) + [whole.count + 1] {
                disk.tamper(file) { $0 = Array((whole + [0]).prefix(length)) }
                let error = try #require(opening(), "\(name) cut to \(length)")
                #expect(error.kind == .badInput)
                if name == "manifest.json" {
                    #expect(error.description.hasPrefix("\(file) is damaged: "))
                } else {
                    let text = "\(file) is damaged: \(length) bytes, expected \(whole.count)"
                    #expect(error.description == text)
                }
            }
            disk.tamper(file) { $0 = whole }
        }
    }

    @Test func aMissingFile() throws {
        for name in names {
            let file = path + "/" + name, whole = try #require(disk.bytes(file))
            try disk.remove(file)
            #expect(opening()?.description == "\(file) is damaged: the file is missing")
            _ = try disk.create(file, size: whole.count)
            disk.tamper(file) { $0 = whole }
        }
        try disk.remove(path + "/manifest.json")
        #expect(opening() == .notFound("\(path) is not a finished checkpoint: it has no manifest.json"))
    }

    /// The next older one is used, and the reason given; if there is none, the reason is the error.
    @Test func fallingBack() throws {
        let folder = CheckpointFolder(Fixture.folder, disk: disk)
        let tensors = try Checkpoint.open(path, disk: disk).model
        let tensor = try #require(tensors.first { $0.name == "norm.weight" })
        disk.tamper(path + "/model.safetensors") { $0[tensor.slices[0].begin] ^= 1 }
        let error = #expect(throws: CheckpointError.self) { try folder.latest() }
        #expect(error?.description.hasPrefix("no usable checkpoint in /run/checkpoint: "
            + "tensor norm.weight in \(path)/model.safetensors is damaged: CRC-32C ") == true)
        try Fixture(step: 10).save(on: disk)
        let found = try folder.latest()
        #expect(found.checkpoint.step == 10)
        #expect(found.warnings.count == 1)
        #expect(found.warnings[0].hasPrefix("tensor norm.weight in "))
        #expect(found.warnings[0].hasSuffix("; going back to step 10"))
    }
}
