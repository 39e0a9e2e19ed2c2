import Base
import Checkpoint
import Foundation
import Glibc
import Storage
import Testing

/// Checkpoints of some size: every flipped byte and every cut is found, and it is said where.
@Suite struct FlippedBytesTests {
    /// One tensor of so many bytes for the weights, and two moments. Bytes are a function of their place.
    private func fixture(_ count: Int) -> Fixture {
        var fixture = Fixture(step: 20)
        func tensor(_ name: String, _ count: Int, _ seed: UInt64) -> Fixture.Tensor {
            let rng = CounterRNG(seed: seed, stream: 0)
            // Eight bytes a draw, and few of them random: half of the file compresses.
            let bytes = (0..<count / 8).flatMap { index -> [UInt8] in
                let bits = rng.bits(at: UInt64(index))
                return (0..<8).map { $0 < 4 ? UInt8(truncatingIfNeeded: bits >> (8 * UInt64($0))) : UInt8($0) }
            }
            return .init(spec: TensorSpec(name, .float32, [bytes.count / 4]), bytes: bytes)
        }
        let part = count / 32 * 8
        fixture.model = [tensor("a", part, 1), tensor("b", part, 2)]
        fixture.optimizer = [tensor("momentum.a", part, 3), tensor("momentum.b", part, 4)]
        return fixture
    }

    /// Each byte of 64 KiB, in one bit that changes with its place: found, in its file, in its tensor if the bytes are
    /// as they are, in its block.
    @Test(arguments: [false, true]) func everyByte(_ compressed: Bool) throws {
        let disk = FaultyDisk()
        let path = try fixture(64 << 10).save(on: disk, options: SaveOptions(compressesOptimizer: compressed))
        let checkpoint = try Checkpoint.open(path, disk: disk)
        var flips = 0
        for file in checkpoint.manifest.files {
            // Its own bytes: what is compressed is gone through in the other half of this test, uncompressed.
            if compressed, file.frames == nil { continue }
            let isTensors = file.name.hasSuffix(".safetensors")
            for position in 0..<file.size {
                disk.tamper("\(path)/\(file.name)") { $0[position] ^= 1 << (position % 8) }
                let damages = checkpoint.verify()
                let tensor = checkpoint.manifest.tensors.first { tensor in
                    tensor.slices.contains { $0.file == file.name && $0.begin <= position && position < $0.end }
                }
                let isRight = damages.count == 1 && damages[0].path == "\(path)/\(file.name)" && damages[0].block == 0
                    && (compressed || damages[0].tensor == tensor?.name)
                    && (damages[0].description.hasSuffix(", in its header") == (isTensors && tensor == nil))
                if !isRight { Issue.record("byte \(position) of \(file.name): \(damages)") }
                disk.tamper("\(path)/\(file.name)") { $0[position] ^= 1 << (position % 8) }
                flips += 1
            }
        }
        #expect(checkpoint.verify() == [])
        #expect(flips > (compressed ? 16 << 10 : 64 << 10))
    }

    @Test(arguments: [false, true]) func everyCutOfFourKilobytes(_ compressed: Bool) throws {
        let disk = FaultyDisk()
        let path = try fixture(256 << 10).save(on: disk, options: SaveOptions(compressesOptimizer: compressed))
        let files = try Checkpoint.open(path, disk: disk).manifest.files.map { ($0.name, $0.size) }
        let manifest = try #require(disk.bytes(path + "/manifest.json")).count
        for (name, size) in files + [("manifest.json", manifest)] {
            let whole = try #require(disk.bytes("\(path)/\(name)"))
            for length in stride(from: 0, to: size, by: 4 << 10) {
                disk.tamper("\(path)/\(name)") { $0 = Array(whole.prefix(length)) }
                let error = #expect(throws: CheckpointError.self) { try Checkpoint.open(path, disk: disk) }
                #expect(error?.description.hasPrefix("\(path)/\(name) is damaged: ") == true, "\(name) at \(length)")
                // A file system may give back zeros for what it lost, at the old length.
                disk.tamper("\(path)/\(name)") { $0 += [UInt8](repeating: 0, count: size - length) }
                let damages = (try? Checkpoint.open(path, disk: disk))?.verify()
                #expect(damages?.isEmpty != true, "\(name) zero from \(length)")
            }
            disk.tamper("\(path)/\(name)") { $0 = whole }
        }
    }

    /// 10,000 bytes of a checkpoint of 100 MiB on a real disk, each found in its block, and in the whole for 20.
    @Test(arguments: [false, true]) func manyOfALargeOne(_ compressed: Bool) throws {
        let run = FileManager.default.temporaryDirectory.path + "/skein-\(UUID().uuidString)"
        try RealDisk().createFolder(run)
        defer { try? FileManager.default.removeItem(atPath: run) }
        let path = try fixture(compressed ? 24 << 20 : 100 << 20)
            .save(on: RealDisk(), in: run, options: SaveOptions(compressesOptimizer: compressed))
        let checkpoint = try Checkpoint.open(path), rng = CounterRNG(seed: 11, stream: 0)
        #expect(checkpoint.verify() == [])
        let files = checkpoint.manifest.files.filter { $0.blockCount > 1 }
        #expect(files.count == 2)
        for draw in 0..<(compressed ? 500 : 10_000) {
            let file = files[draw % 2], places = file.places()
            let position = Int(rng.bits(at: UInt64(draw)) % UInt64(file.size))
            let block = try #require(places.firstIndex { $0.contains(position) })
            try flip(position, of: "\(path)/\(file.name)")
            let damages = draw % (compressed ? 250 : 500) == 0 ? checkpoint.verify()
                : try checkpoint.verify(block: block, of: file)
            let isRight = damages.count == 1 && damages[0].path == "\(path)/\(file.name)" && damages[0].block == block
            if !isRight { Issue.record("byte \(position) of \(file.name): \(damages)") }
            try flip(position, of: "\(path)/\(file.name)")
        }
        #expect(checkpoint.verify() == [])
        // And cut, 4 KiB at a time, from its end to nothing.
        let file = files[0], name = "\(path)/\(file.name)"
        for length in stride(from: (file.size - 1) / 4_096 * 4_096, through: 0, by: -4_096) {
            unsafe try #require(truncate(name, length) == 0)
            let found = Damage(path: name, evidence: "\(length) bytes, expected \(file.size)")
            do throws(CheckpointError) {
                _ = try Checkpoint.open(path)
                Issue.record("cut to \(length)")
            } catch {
                if error != .damaged([found]) { Issue.record("cut to \(length): \(error)") }
            }
        }
    }

    private func flip(_ position: Int, of path: String) throws {
        let descriptor = unsafe Glibc.open(path, O_RDWR)
        defer { Glibc.close(descriptor) }
        var byte: UInt8 = 0
        unsafe try #require(pread(descriptor, &byte, 1, position) == 1)
        byte ^= 1 << UInt8(position % 8)
        unsafe try #require(pwrite(descriptor, &byte, 1, position) == 1)
    }
}
