import Model
import Tensor
import Testing
import TestSupport

@Suite struct AttentionStrategyTests {
    /// Attention by one rank, as the model would choose by itself, that notes how it is called.
    private final class Recorder: AttentionStrategy {
        private let memory: Arena
        private let local: LocalAttention
        private let layers: Int
        private(set) var calls: [String] = []

        init(_ each: ModelCase, _ pool: Pool) throws {
            let model = each.table.shape
            layers = model.layers
            let shape = AttentionShape(heads: model.heads, keyHeads: model.keyHeads, headDim: model.headDim)
            let longest = each.batch.sequence
            memory = try Arena(name: "test", capacity: LocalAttention.floats(shape: shape, longest: longest,
                                                                             threads: pool.threads))
            local = LocalAttention(shape: shape, longest: longest, pool: pool, memory: memory)
        }

        let keptFloats = 7

        func forward(_ out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix, shape: AttentionShape,
                     segments: Segments) {
            #expect(kept.count == 7)
            kept.fill(Float(calls.count))
            calls.append("forward of \(qkv.rows), \(segments.count) segments")
            local.forward(out, logSum: logSum, kept: kept, qkv: qkv, shape: shape, segments: segments)
        }

        func backward(_ dQKV: Matrix, dOut: Matrix, out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix,
                      shape: AttentionShape, segments: Segments) {
            // Each layer keeps its own.
            #expect(kept.array == [Float](repeating: Float(2 * layers - 1 - calls.count), count: 7))
            calls.append("backward of \(qkv.rows), \(segments.count) segments")
            // The contract says overwritten: what was there must not matter.
            dQKV.fill(.nan)
            local.backward(dQKV, dOut: dOut, out: out, logSum: logSum, kept: kept, qkv: qkv, shape: shape,
                           segments: segments)
        }
    }

    /// Whoever computes attention is asked once a layer each way, and nothing else depends on who it is.
    @Test(arguments: [1, 2]) func aStrategyReplacesTheLocalOne(threads: Int) throws {
        let each = TransformerTests.cases[2]
        var recorder: Recorder?
        let got = try each.run(threads: threads, attention: { pool in
            recorder = try Recorder(each, pool)
            return recorder
        })
        let want = try each.run(threads: threads)
        #expect(got.losses == want.losses)
        #expect(mismatch(got.gradients, want.gradients) == nil)
        let suffix = "of \(each.batch.inputs.count), \(each.batch.starts.count - 1) segments"
        let layers = each.table.shape.layers
        #expect(recorder?.calls == [String](repeating: "forward " + suffix, count: layers)
            + [String](repeating: "backward " + suffix, count: layers))
    }
}
