import Base
import Checkpoint
import Foundation
import Recipe
import Tensor
import Testing
import Trainer

/// Smooth-SwiGLU, merged into the weights of a model that leaves.
@Suite struct SmoothExportTests {
    private static func weights(_ path: String, _ name: String) throws -> [Float] {
        let archive = try TensorArchive.open(path).archive, tensor = try archive.tensor(name)
        var values = [Float](repeating: 0, count: tensor.count)
        try unsafe values.withUnsafeMutableBytes {
            try unsafe archive.reader().read(tensor, 0..<tensor.count, into: $0)
        }
        return values
    }

    /// Rows of up and columns of down move by the same powers of two, no other weight does, and the exported model,
    /// read back by its config and files, has the checkpoint's logits to the bit; in BF16 those of its rounded weights.
    @Test(arguments: [ElementType.float32, .bfloat16]) func factorsAreMerged(type: ElementType) throws {
        let sandbox = try Sandbox(), silence = unsafe open("/dev/null", O_WRONLY)
        defer { close(silence) }
        let flags = ["--precision.recipe", "fp8-paper", "--training.steps", "12", "--job.name", "a"]
        try TrainingRun(sandbox.recipe(flags), output: silence).run()
        let source = sandbox.path + "/a/checkpoint/step-12", folder = sandbox.path + "/out"
        let pool = Pool(threads: 1)
        defer { pool.close() }
        let model = try LoadedModel(path: source)
        // `run` compares the logits, and throws where they differ.
        let report = try ModelExport(model, to: folder, type: type, shardBytes: 1 << 30).run(pool: pool)
        let merged = try #require(report.merged)
        #expect(merged.lowerBound < merged.upperBound && (report.difference == 0) == (type == .float32))
        guard type == .float32 else { return }
        let (width, dim) = (model.recipe.model.hiddenDim, model.recipe.model.dim)
        for layer in 0..<2 {
            let prefix = "model.layers.\(layer).mlp."
            func both(_ name: String) throws -> (own: [Float], new: [Float]) {
                (try Self.weights(source, prefix + name), try Self.weights(folder, prefix + name))
            }
            let (up, newUp) = try both("up_proj.weight")
            let (down, newDown) = try both("down_proj.weight")
            let factors = (0..<width).map { newUp[$0 * dim] / up[$0 * dim] }
            #expect(factors.allSatisfy { $0.significand == 1 && merged.contains($0) } && Set(factors).count > 1)
            #expect(up.indices.allSatisfy { newUp[$0] == up[$0] * factors[$0 / dim] })
            #expect(down.indices.allSatisfy { newDown[$0] == down[$0] / factors[$0 % width] })
            let (gate, newGate) = try both("gate_proj.weight")
            #expect(gate == newGate)
        }
        let again = try ModelExport(model, to: sandbox.path + "/again", type: type, shardBytes: 1 << 30).run(pool: pool)
        #expect(again.merged == merged)
    }

    /// A model that was trained without it leaves as it is.
    @Test func othersStayAsTheyAre() throws {
        let sandbox = try Sandbox(), silence = unsafe open("/dev/null", O_WRONLY)
        defer { close(silence) }
        try TrainingRun(sandbox.recipe(["--training.steps", "2", "--job.name", "a"]), output: silence).run()
        let pool = Pool(threads: 1)
        defer { pool.close() }
        let report = try ModelExport(LoadedModel(path: sandbox.path + "/a"), to: sandbox.path + "/out", type: .float32,
                                     shardBytes: 1 << 30).run(pool: pool)
        #expect(report.merged == nil && report.difference == 0)
    }
}
