import Base
import Checkpoint
import Storage
import Testing

/// A checkpoint small enough to try every byte of. Its values are a function of the step.
struct Fixture {
    struct Tensor {
        let spec: TensorSpec
        let bytes: [UInt8]
    }

    static let folder = "/run/checkpoint"
    static let recipe = "[model]\ndim = 3\n"
    static let tokenizer = "{\"kind\":\"bytes\",\"end\":256}"

    let step: Int
    var model: [Tensor]
    var optimizer: [Tensor]

    init(step: Int) {
        self.step = step
        func tensor(_ name: String, _ type: ElementType, _ shape: [Int]) -> Tensor {
            let spec = TensorSpec(name, type, shape)
            let rng = CounterRNG(seed: UInt64(step), stream: UInt64(name.utf8.count))
            return Tensor(spec: spec, bytes: (0..<spec.byteCount).map {
                UInt8(truncatingIfNeeded: rng.bits(at: UInt64($0)))
            })
        }
        model = [tensor("scale", .bfloat16, [5]), tensor("embed.weight", .float32, [4, 3]),
                 tensor("none", .float32, [0, 3]), tensor("norm.weight", .float32, [3])]
        optimizer = [tensor("embed.weight.exp_avg", .float32, [4, 3]), tensor("count", .int64, [])]
    }

    var manifest: Manifest {
        Manifest(step: step, tokens: step * 64, worldSize: 2,
                 data: SavedPosition(fingerprint: "f00d", seed: .max, row: UInt64(step) * 8,
                                     position: (0..<64).map { UInt8($0 * 4) }),
                 rng: RNGState(seed: .max - 1, counters: ["dropout": 7]),
                 state: ["amax": .numbers([0.1, .infinity]), "rate": .number(1), "name": .text("nan"),
                         "steps": .integer(step)])
    }

    /// By one process, or by `ranks` that take turns on one disk: tensor i belongs to rank i mod ranks.
    @discardableResult
    func save(on disk: any Disk, in folder: String = Fixture.folder, ranks: Int = 1,
              options: SaveOptions = SaveOptions()) throws(CheckpointError) -> String {
        let writer = CheckpointWriter(folder: folder, options: options, disk: disk)
        return try withSources { models, moments throws(CheckpointError) in
            try save(models, moments, with: writer, ranks)
        }
    }

    /// The tensors as they are handed to a writer.
    func withSources<T, E>(_ body: (_ model: [TensorSource], _ optimizer: [TensorSource]) throws(E) -> T) throws(E)
        -> T {
        let bytes = (model + optimizer).flatMap(\.bytes)
        // One buffer for all: the sources point into it.
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
        defer { unsafe buffer.deallocate() }
        unsafe buffer.copyBytes(from: bytes)
        var offset = 0
        func sources(_ tensors: [Tensor]) -> [TensorSource] {
            tensors.map { tensor in
                defer { offset += tensor.bytes.count }
                let part = unsafe UnsafeRawBufferPointer(
                    rebasing: buffer[offset..<(offset + tensor.bytes.count)])
                return unsafe TensorSource(tensor.spec.name, tensor.spec.type, tensor.spec.shape, bytes: part)
            }
        }
        return try body(sources(model), sources(optimizer))
    }

    private func save(_ models: [TensorSource], _ moments: [TensorSource], with writer: CheckpointWriter, _ ranks: Int)
        throws(CheckpointError) -> String {
        if ranks == 1 {
            return try writer.write(manifest, recipe: Fixture.recipe, tokenizer: Fixture.tokenizer,
                                    model: models, optimizer: moments)
        }
        try writer.begin(step: step)
        var records: [[UInt8]] = []
        for rank in 0..<ranks {
            func own(_ all: [TensorSource]) -> [TensorSource] {
                all.enumerated().filter { $0.offset % ranks == rank }.map(\.element)
            }
            records.append(try writer.writePart(step: step, rank, of: ranks, model: own(models),
                                                optimizer: own(moments)))
        }
        return try writer.commit(manifest, recipe: Fixture.recipe, tokenizer: Fixture.tokenizer, records: records)
    }

    /// Everything comes back as it was saved.
    func expectEqual(_ checkpoint: Checkpoint, _ comment: Comment? = nil) throws {
        var expected = manifest, found = checkpoint.manifest
        expected = Manifest(step: step, tokens: expected.tokens, worldSize: expected.worldSize,
                            data: expected.data, rng: expected.rng, state: expected.state)
        found = Manifest(step: found.step, tokens: found.tokens, worldSize: found.worldSize,
                         data: found.data, rng: found.rng, state: found.state)
        #expect(found == expected, comment)
        #expect(try checkpoint.recipe() == Fixture.recipe, comment)
        #expect(try checkpoint.tokenizer() == Fixture.tokenizer, comment)
        try checkpoint.requireModel(model.map(\.spec))
        try checkpoint.requireOptimizer(optimizer.map(\.spec))
        for tensor in model + optimizer {
            #expect(try checkpoint.readBytes(tensor.spec) == tensor.bytes, comment)
        }
        #expect(checkpoint.verify() == [], comment)
    }
}

extension Checkpoint {
    func readBytes(_ spec: TensorSpec, _ elements: Range<Int>? = nil, with reader: TensorReader? = nil)
        throws(CheckpointError) -> [UInt8] {
        let count = elements.map { $0.count * spec.type.width } ?? spec.byteCount
        var bytes = [UInt8](repeating: 0xAA, count: count)
        var span = bytes.mutableSpan
        try unsafe span.withUnsafeMutableBytes { buffer throws(CheckpointError) in
            try unsafe read(spec, elements, into: buffer, with: reader)
        }
        return bytes
    }
}
