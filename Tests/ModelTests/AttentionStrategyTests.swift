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

    /// Attention by one rank, of rows and heads that are made and wanted in parts; `out` and `dQKV` are only there when
    /// they have been asked for.
    private final class InParts: AttentionStrategy {
        private let memory: Arena
        private let local: LocalAttention
        private let held: (out: Matrix, dQKV: Matrix)
        let parts: Int
        let headGroups: Int
        let wantsKeysFirst: Bool
        private(set) var calls: [String] = []

        init(_ each: ModelCase, _ pool: Pool, parts: Int, groups: Int, keysFirst: Bool) throws {
            let model = each.table.shape, tokens = each.batch.inputs.count
            let shape = AttentionShape(heads: model.heads, keyHeads: model.keyHeads, headDim: model.headDim)
            let wide = model.heads * model.headDim
            memory = try Arena(name: "test", capacity: LocalAttention.floats(shape: shape, longest: each.batch.sequence,
                                                                             threads: pool.threads)
                + Arena.padded(tokens * wide) + Arena.padded(tokens * shape.fusedColumns))
            local = LocalAttention(shape: shape, longest: each.batch.sequence, pool: pool, memory: memory)
            held = (memory.take(rows: tokens, columns: wide), memory.take(rows: tokens, columns: shape.fusedColumns))
            self.parts = parts
            headGroups = groups
            wantsKeysFirst = keysFirst
        }

        let keptFloats = 0

        func keysMade(_ qkv: Matrix) { calls.append("keys") }
        func made(_ part: Int, _ group: Int, qkv: Matrix, kept: Row) { calls.append("made \(part) of \(group)") }
        func made(_ part: Int, dOut: Matrix) { calls.append("slopes \(part)") }

        func arrived(_ part: Int, _ group: Int, out: Matrix) {
            calls.append("arrived \(part) of \(group)")
            let rows = rowPart(part, of: parts, rows: out.rows), width = out.columns / headGroups
            out.rows(rows.lowerBound, rows.count).columns(group * width, width)
                .copy(held.out.rows(rows.lowerBound, rows.count).columns(group * width, width))
        }

        func finish(_ dQKV: Matrix) {
            calls.append("finish")
            dQKV.copy(held.dQKV)
        }

        func forward(_ out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix, shape: AttentionShape,
                     segments: Segments) {
            calls.append("forward")
            out.fill(.nan)
            local.forward(held.out, logSum: logSum, kept: kept, qkv: qkv, shape: shape, segments: segments)
        }

        func backward(_ dQKV: Matrix, dOut: Matrix, out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix,
                      shape: AttentionShape, segments: Segments) {
            calls.append("backward")
            dQKV.fill(.nan)
            local.backward(held.dQKV, dOut: dOut, out: out, logSum: logSum, kept: kept, qkv: qkv, shape: shape,
                           segments: segments)
        }
    }

    /// Wide enough heads that each of four, and each key head of two, is a tile of packed columns.
    private static let wide = ModelCase("wide heads", dim: 96, layers: 2, heads: 4, keyHeads: 2, ffn: 40,
                                        vocabulary: 37, rows: 3, sequence: 70, documents: [17]) {
        $0.headWidth = 64
        $0.hasBias = true
    }

    /// Rows are told of once each and in order, before what needs them; heads group by group, or keys first, where
    /// products can be cut, else row by row; and cutting them changes no bit.
    @Test(arguments: [1, 2, 3], [(1, false), (2, false), (1, true)])
    func rowsAndHeadsComeInParts(parts: Int, cut: (groups: Int, keysFirst: Bool)) throws {
        let (groups, keysFirst) = cut
        for (each, isCut) in [(TransformerTests.cases[2], false), (Self.wide, true)] {
            var strategy: InParts?
            let got = try each.run(threads: 2, attention: { pool in
                strategy = try InParts(each, pool, parts: parts, groups: groups, keysFirst: keysFirst)
                return strategy
            })
            let want = try each.run(threads: 1)
            #expect(got.losses == want.losses)
            #expect(mismatch(got.gradients, want.gradients) == nil)
            let layers = each.table.shape.layers
            func calls(_ name: String) -> [String] {
                isCut ? (0..<groups).flatMap { group in (0..<parts).map { "\(name) \($0) of \(group)" } }
                    : (0..<parts).flatMap { part in (0..<groups).map { "\(name) \(part) of \($0)" } }
            }
            let made = keysFirst && isCut ? ["keys"] + calls("made") : calls("made") + ["keys"]
            let forward = made + ["forward"] + calls("arrived")
            let backward = ["keys"] + (0..<parts).map { "slopes \($0)" } + ["backward", "finish"]
            #expect(strategy?.calls == Array(repeating: forward, count: layers).flatMap { $0 }
                + Array(repeating: backward, count: layers).flatMap { $0 })
        }
    }
}
