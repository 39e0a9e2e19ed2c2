import Base
import Checkpoint
import Storage
import Testing

/// What is looked at: files of anybody's, parts of tensors, differences.
@Suite struct ArchiveTests {
    private let disk = FaultyDisk()

    private func put(_ path: String, _ bytes: [UInt8]) throws {
        disk.close(try disk.create(path, size: bytes.count))
        disk.tamper(path) { $0 = bytes }
    }

    /// A safetensors file of tensors of one byte values, `value` in each.
    private func file(_ path: String, _ tensors: [(String, ElementType, [Int])], value: UInt8 = 1) throws {
        let layout = Safetensors(laying: tensors.map { (name: $0.0, type: $0.1, shape: $0.2) })
        try put(path, layout.head + [UInt8](repeating: value, count: layout.fileSize - layout.head.count))
    }

    private func open(_ path: String) throws(CheckpointError) -> TensorArchive {
        try TensorArchive.open(path, disk: disk).archive
    }

    private func refusal(_ path: String) -> String? {
        do throws(CheckpointError) { _ = try open(path) } catch {
            #expect(error.kind == .badInput)
            return error.description
        }
        return nil
    }

    @Test func filesAndFolders() throws {
        try disk.createFolder("/hf")
        try file("/hf/model-00001-of-00002.safetensors", [("a", .bfloat16, [2, 3]), ("b", .uint8, [5])])
        try file("/hf/model-00002-of-00002.safetensors", [("c", .float16, [4])])
        #expect(try open("/hf/model-00001-of-00002.safetensors").tensors.map(\.name) == ["a", "b"])
        #expect(try open("/hf/").tensors.map(\.name) == ["a", "b", "c"])
        // With an index only what it names.
        try put("/hf/model.safetensors.index.json",
                Array("{\"metadata\":{},\"weight_map\":{\"c\":\"model-00002-of-00002.safetensors\"}}".utf8))
        #expect(try open("/hf").tensors.map(\.name) == ["c"])
        func index(_ text: String) { disk.tamper("/hf/model.safetensors.index.json") { $0 = Array(text.utf8) } }
        index("{\"weight_map\":{\"c\":\"../other.safetensors\"}}")
        #expect(refusal("/hf") == "/hf/model.safetensors.index.json is damaged: it names the file "
            + "../other.safetensors, which is no safetensors file beside it")
        index("{\"weight_map\":{\"c\":\"gone.safetensors\"}}")
        #expect(refusal("/hf") == "/hf/gone.safetensors is not a file")
        index("[]")
        #expect(refusal("/hf")?.hasPrefix("/hf/model.safetensors.index.json is damaged: not an index") == true)
        try file("/hf/model-00003-of-00003.safetensors", [("a", .uint8, [1])])
        try disk.remove("/hf/model.safetensors.index.json")
        #expect(refusal("/hf")
            == "/hf/model-00003-of-00003.safetensors is damaged: the tensor a is in another file, too")
        try put("/notes.txt", [1, 2, 3])
        #expect(refusal("/notes.txt")
            == "/notes.txt is not a checkpoint's folder, nor a file that ends in .safetensors")
        #expect(refusal("/nowhere") == "/nowhere does not exist")
    }

    @Test func aCheckpointIsOne() throws {
        let path = try Fixture(step: 20).save(on: disk)
        let archive = try open(path)
        #expect(archive.checkpoint?.step == 20 && archive.tensors.count == 6)
        #expect(try open("/run").path == path)
        // An unfinished save is no folder of somebody's files.
        try disk.remove(path + "/manifest.json")
        #expect(refusal(path) == "\(path) is not a finished checkpoint: it has no manifest.json")
    }

    /// Ten thousand tensors are opened in a second, ours and others', and each is found without a search.
    @Test func manyTensors() throws {
        var fixture = Fixture(step: 20)
        fixture.model = (0..<10_000).map { index in
            .init(spec: TensorSpec("model.layers.\(index).mlp.down_proj.weight", .float32, [2]),
                  bytes: [UInt8](repeating: UInt8(index & 255), count: 8))
        }
        let path = try fixture.save(on: disk)
        for name in [path, path + "/model.safetensors"] {
            var seconds: [Double] = []
            for _ in 0..<3 {
                let started = MonotonicClock.seconds()
                let archive = try open(name)
                seconds.append(MonotonicClock.seconds() - started)
                #expect(archive.tensors.count >= 10_000)
            }
            // The best of three, since this machine may be busy with other tests.
            #expect(seconds.min()! < 1, "\(name): \(seconds)")
        }
        let checkpoint = try Checkpoint.open(path, disk: disk), reader = checkpoint.reader()
        let started = MonotonicClock.seconds()
        for tensor in fixture.model {
            #expect(try checkpoint.readBytes(tensor.spec, with: reader) == tensor.bytes)
        }
        #expect(MonotonicClock.seconds() - started < 5)
    }

    /// Every dtype is read, with its values, by range as well as as a whole.
    @Test func everyType() throws {
        try file("/all.safetensors", ElementType.allCases.map { ("\($0.rawValue)", $0, [3]) })
        let archive = try open("/all.safetensors"), reader = archive.reader()
        #expect(archive.tensors.count == 15)
        for tensor in archive.tensors {
            var expected: [Double] = []
            let bytes = [UInt8](repeating: 1, count: tensor.dtype.width)
            unsafe bytes.withUnsafeBytes { unsafe tensor.dtype.decode($0, into: &expected) }
            #expect(try archive.values(of: tensor, SliceExpression("1", of: [3]), with: reader) == expected)
            let (statistics, histogram) = try archive.statistics(of: tensor, with: reader)
            #expect(statistics.count == 3 && statistics.mean == expected[0] && statistics.nonFinite == 0)
            #expect(histogram?.counts.reduce(0, +) == 3)
        }
    }

    /// A shell's patterns, against the definition by recursion, for every short name and pattern.
    @Test func patterns() {
        func fits(_ name: ArraySlice<Character>, _ pattern: ArraySlice<Character>) -> Bool {
            guard let first = pattern.first else { return name.isEmpty }
            if first == "*" {
                return (0...name.count).contains { fits(name.dropFirst($0), pattern.dropFirst()) }
            }
            guard let letter = name.first, first == "?" || first == letter else { return false }
            return fits(name.dropFirst(), pattern.dropFirst())
        }
        func words(_ letters: [Character], _ length: Int) -> [[Character]] {
            length == 0 ? [[]] : words(letters, length - 1).flatMap { word in letters.map { word + [$0] } }
        }
        let names = (0...4).flatMap { words(["a", "b"], $0) }, patterns = (0...5).flatMap { words(["a", "*", "?"], $0) }
        for name in names {
            for pattern in patterns {
                #expect(matches(String(name), String(pattern)) == fits(name[...], pattern[...]), "\(name) \(pattern)")
            }
        }
    }

    @Test func findingTensors() throws {
        try file("/m.safetensors", [("layers.0.q.weight", .uint8, [1]), ("layers.1.q.weight", .uint8, [1]),
                                    ("norm.weight", .uint8, [1])])
        let archive = try open("/m.safetensors")
        #expect(try archive.tensors(matching: "layers.*.weight").count == 2)
        #expect(try archive.tensor("norm.weight").name == "norm.weight")
        let meant = "/m.safetensors has no tensor norm.wieght; did you mean norm.weight?"
        #expect(throws: CheckpointError.notFound(meant)) { try archive.tensor("norm.wieght") }
        #expect(throws: CheckpointError.notFound("/m.safetensors has no tensor whose name matches x*; it has 3, for "
            + "example layers.0.q.weight")) { try archive.tensors(matching: "x*") }
    }

    /// Parts of a tensor against their definition: the elements whose every index is in its range, in order.
    @Test func slices() throws {
        for shape in [[7], [3, 4], [2, 3, 4], [2, 1, 3, 2]] {
            let texts = ["", "0:1", "1:2,:", ":,1:3", "-1", "0:2,0", ":,:1", ":,0:1,1:3", "-2:,0"]
            for text in texts {
                guard let part = try? SliceExpression(text, of: shape) else { continue }
                var expected: [Int] = []
                for index in 0..<shape.reduce(1, *) {
                    var rest = index, isIn = true
                    for (size, range) in zip(shape, part.ranges).reversed() {
                        isIn = isIn && range.contains(rest % size)
                        rest /= size
                    }
                    if isIn { expected.append(index) }
                }
                #expect(part.runs(in: shape).flatMap { Array($0) } == expected, "\(text) of \(shape)")
                #expect(part.count == expected.count)
            }
        }
        #expect(try SliceExpression("0:2,5", of: [4, 6]).ranges == [0..<2, 5..<6])
        #expect(try SliceExpression("-3:-1, :2", of: [4, 6]).ranges == [1..<3, 0..<2])
        #expect(try SliceExpression("4:4", of: [4, 6]).runs(in: [4, 6]) == [])
        let wrong = ["5", "0:5", "-5", "3:1", "a", "1:2:3", ",", "1,", "0,0,0", "9223372036854775807",
                     "0:99999999999999999999"]
        for text in wrong {
            let error = #expect(throws: BadInput.self, "\(text)") { try SliceExpression(text, of: [4, 6]) }
            #expect(error?.description.hasPrefix("--slice") == true)
        }
    }

    @Test func histograms() {
        var histogram = Histogram(-2...2, parts: 4)
        histogram.add([-2, -1.5, -1, 0, 0.5, 1.999, 2, .nan, .infinity])
        #expect(histogram.counts == [2, 1, 2, 2])
        #expect(histogram.text == "█▅██")
        var widest = Histogram(-Double.greatestFiniteMagnitude...Double.greatestFiniteMagnitude, parts: 2)
        widest.add([-1e300, 1e300, .greatestFiniteMagnitude])
        #expect(widest.counts == [1, 2] && widest.text == "▅█")
        var point = Histogram(3...3, parts: 3)
        point.add([3, 3])
        #expect(point.counts == [2, 0, 0] && point.text == "█  ")
    }
}
