import Base
import Checkpoint
import Compression
import Storage
import Testing

/// Tensors in slices: whoever wrote them and however they were cut, any run of elements comes back.
@Suite struct SliceTests {
    private let shape = [4, 3]
    private func bytes(_ seed: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: CounterRNG(seed: seed, stream: 3).bits(at: UInt64($0))) }
    }

    /// Writes the model's tensor `a` (and `b`, whole, by rank 0) cut at `cuts`, a slice a rank, moments alike.
    private func save(_ all: [UInt8], cuts: [Int], on disk: FaultyDisk, compressed: Bool) throws -> Checkpoint {
        let writer = CheckpointWriter(folder: Fixture.folder, options: SaveOptions(compressesOptimizer: compressed),
                                      disk: disk)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: all.count, alignment: 16)
        defer { unsafe memory.deallocate() }
        unsafe memory.copyBytes(from: all)
        try writer.begin(step: 20)
        var records: [[UInt8]] = []
        for rank in 0..<(cuts.count - 1) {
            func source(_ name: String) -> TensorSource {
                let part = unsafe UnsafeRawBufferPointer(rebasing: memory[(cuts[rank] * 4)..<(cuts[rank + 1] * 4)])
                return unsafe TensorSource(name, .float32, shape, cuts[rank]..<cuts[rank + 1], bytes: part)
            }
            let other = unsafe TensorSource("b", .float32, shape, bytes: UnsafeRawBufferPointer(memory))
            records.append(try writer.writePart(
                step: 20, rank, of: cuts.count - 1, model: [source("a")] + (rank == 0 ? [other] : []),
                optimizer: [source("momentum.a")]))
        }
        _ = try writer.commit(Fixture(step: 20).manifest, recipe: "", tokenizer: "", records: records)
        return try Checkpoint.open(Fixture.folder + "/step-20", disk: disk)
    }

    @Test(arguments: [false, true]) func everyCutAndEveryRun(_ compressed: Bool) throws {
        let all = bytes(1, 48)
        var cuts: [[Int]] = [[0, 12]]
        for first in 0...12 { for second in first...12 { cuts.append([0, first, second, 12]) } }
        for cut in cuts {
            let disk = FaultyDisk(), checkpoint = try save(all, cuts: cut, on: disk, compressed: compressed)
            #expect(checkpoint.verify() == [])
            #expect(checkpoint.model.map(\.name).sorted() == ["a", "b"])
            let reader = checkpoint.reader()
            for name in ["a", "b", "momentum.a"] {
                let spec = TensorSpec(name, .float32, shape)
                #expect(try checkpoint.readBytes(spec) == all, "\(cut)")
                for first in 0...12 {
                    for end in first...12 {
                        let found = try checkpoint.readBytes(spec, first..<end, with: reader)
                        #expect(found == Array(all[(first * 4)..<(end * 4)]), "\(cut) \(first)..<\(end)")
                    }
                }
            }
        }
    }

    /// A slice in a file says which elements it is, for readers that know no manifest.
    @Test func aFileAlone() throws {
        let disk = FaultyDisk()
        _ = try save(bytes(2, 48), cuts: [0, 5, 12], on: disk, compressed: false)
        let file = try Safetensors(reading: Fixture.folder + "/step-20/model-00002-of-00002.safetensors", disk: disk)
        #expect(file.tensors.map(\.name) == ["a[5:12]"] && file.tensors.map(\.shape) == [[7]])
    }

    /// Ranks that do not agree write no checkpoint.
    @Test func holesAndOverlaps() throws {
        let disk = FaultyDisk(), writer = CheckpointWriter(folder: Fixture.folder, disk: disk)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 48, alignment: 16)
        defer { unsafe memory.deallocate() }
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 3)
        func refusal(_ parts: [(Range<Int>, [Int])]) throws -> String? {
            try writer.begin(step: 20)
            let records = try parts.enumerated().map { rank, part in
                let bytes = unsafe UnsafeRawBufferPointer(rebasing: memory[..<(part.0.count * 4)])
                return try writer.writePart(
                    step: 20, rank, of: parts.count,
                    model: [unsafe TensorSource("a", .float32, part.1, part.0, bytes: bytes)], optimizer: [])
            }
            do throws(CheckpointError) {
                _ = try writer.commit(Fixture(step: 20).manifest, recipe: "", tokenizer: "", records: records)
            } catch { return error.description }
            return nil
        }
        let text = "what the ranks saved of the tensor a is not all of it, each element once; they cut it in different "
            + "ways"
        for parts in [[0..<5, 6..<12], [0..<7, 6..<12], [1..<6, 6..<12], [0..<6, 6..<11], [0..<12, 0..<12]] {
            #expect(try refusal(parts.map { ($0, [4, 3]) }) == text, "\(parts)")
            #expect(try CheckpointFolder(Fixture.folder, disk: disk).steps() == [20])
            #expect(throws: CheckpointError.self) { try CheckpointFolder(Fixture.folder, disk: disk).latest() }
        }
        #expect(try refusal([(0..<6, [4, 3]), (6..<12, [3, 4])])
            == "ranks disagree on what the tensor a is; they run other recipes")
        #expect(try refusal([(0..<6, [4, 3]), (6..<12, [4, 3])]) == nil)
    }

    /// Tensors over several blocks, in slices whose ends lie anywhere: only the blocks that are asked for are read, and
    /// a flip in one of them is found by a partial read, by name of its block.
    @Test(arguments: [false, true]) func overBlocks(_ compressed: Bool) throws {
        let block = 4 << 20, count = 3 * block / 4 + 1_000, disk = FaultyDisk()
        var fixture = Fixture(step: 20)
        let ramp = (0..<count * 4).map { UInt8(truncatingIfNeeded: ($0 / 4) >> (8 * ($0 % 4))) }
        fixture.model = []
        fixture.optimizer = [.init(spec: TensorSpec("m", .int32, [count]), bytes: ramp)]
        let checkpoint = try Checkpoint.open(
            try fixture.save(on: disk, options: SaveOptions(compressesOptimizer: compressed)), disk: disk)
        try fixture.expectEqual(checkpoint)
        let spec = TensorSpec("m", .int32, [count]), file = try #require(checkpoint.manifest.files.first {
            $0.name.hasPrefix("optimizer")
        })
        #expect((file.frames != nil) == compressed && file.blocks?.count == 4)
        let reader = checkpoint.reader(), rng = CounterRNG(seed: 9, stream: 1)
        for draw in 0..<60 {
            let first = Int(rng.bits(at: UInt64(2 * draw)) % UInt64(count))
            let end = min(count, first + Int(rng.bits(at: UInt64(2 * draw + 1)) % 2_000_000))
            let found = try checkpoint.readBytes(spec, first..<end, with: reader)
            #expect(found == Array(ramp[(first * 4)..<(end * 4)]), "\(first)..<\(end)")
        }
        // A flip in block 2: reading elsewhere goes on, reading there says so.
        let place = compressed ? file.frames![0] + file.frames![1] + 40 : 2 * block + 40
        disk.tamper(checkpoint.path + "/" + file.name) { $0[place] ^= 1 }
        let second = block / 4..<(block / 4 + 100), third = (2 * block / 4)..<(2 * block / 4 + 100)
        let expected = Array(ramp[(second.lowerBound * 4)..<(second.upperBound * 4)])
        #expect(try checkpoint.readBytes(spec, second) == expected)
        let error = #expect(throws: CheckpointError.self) { try checkpoint.readBytes(spec, third) }
        #expect(error?.description.contains("in block 2 (bytes ") == true, "\(String(describing: error))")
        let damages = checkpoint.verify()
        #expect(damages.map(\.block) == [2] && damages.map(\.tensor) == ["m"], "\(damages)")
    }

    /// `zstd -d` of a compressed file is a safetensors file.
    @Test func whatIsCompressedIsSafetensors() throws {
        let disk = FaultyDisk(), fixture = Fixture(step: 20)
        let path = try fixture.save(on: disk, options: SaveOptions(compressesOptimizer: true))
        #expect(try disk.list(path).sorted() == ["config.toml", "manifest.json", "model.safetensors",
                                                 "optimizer.safetensors.zst", "tokenizer.json"])
        let stored = try #require(disk.bytes(path + "/optimizer.safetensors.zst"))
        let stream = ZstdDecompressor()
        var position = 0, plain: [UInt8] = []
        while try stream.next(stored.span, &position, into: &plain) {}
        try stream.finish()
        let file = try disk.create("/plain.safetensors", size: plain.count)
        disk.close(file)
        disk.tamper("/plain.safetensors") { $0 = plain }
        let layout = try Safetensors(reading: "/plain.safetensors", disk: disk)
        #expect(layout.tensors.map(\.name) == ["count", "embed.weight.exp_avg"])
        for tensor in layout.tensors {
            let own = try #require(fixture.optimizer.first { $0.spec.name == tensor.name })
            #expect(Array(plain[tensor.range]) == own.bytes)
        }
    }
}
