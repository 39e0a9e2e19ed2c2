import Tensor
import Testing
import TestSupport

/// Attention whose products have bf16 operands.
@Suite struct RoundedAttentionTests {
    static let cases = [
        AttentionCase(heads: 2, keyHeads: 1, headDim: 16, starts: [0, 64], isRounded: true),
        AttentionCase(heads: 3, keyHeads: 3, headDim: 10, starts: [0, 1, 66, 70, 134], isRounded: true),
        AttentionCase(heads: 4, keyHeads: 2, headDim: 32, starts: [0, 40, 290], isRounded: true),
        AttentionCase(heads: 1, keyHeads: 1, headDim: 6, starts: [0, 600], isRounded: true),
    ]

    /// Against the Double model that rounds the same operands; what rounding does is far more than what is left.
    @Test(arguments: cases) func equalsTheRoundedModel(_ each: AttentionCase) {
        let got = each.run(), (tape, inputs, exact) = each.onTape(doubles(each.qkv))
        let out = tape.roundedAttention(q: inputs[0], k: inputs[1], v: inputs[2], heads: each.heads,
                                        keyHeads: each.keyHeads, starts: each.starts) {
            Double(NumberFormat.bf16.rounded(Float($0)))
        }
        let (error, rounding) = (relativeError(got.out, tape[out]), relativeError(tape[out], tape[exact]))
        #expect(rounding > 1e-3 && error < 0.1 * rounding, "\(error) beside \(rounding)")
        tape.backward(exact, seed: doubles(each.dOut))
        let plain = each.fused(inputs.map { tape.gradient($0) })
        tape.backward(out, seed: doubles(each.dOut))
        let want = each.fused(inputs.map { tape.gradient($0) })
        let (slopeError, slopeRounding) = (relativeError(got.dQKV, want), relativeError(want, plain))
        #expect(slopeRounding > 1e-3 && slopeError < 0.1 * slopeRounding, "\(slopeError) beside \(slopeRounding)")
    }

    @Test(arguments: cases, [2, 3]) func threadsDoNotChangeBits(_ each: AttentionCase, threads: Int) {
        let one = each.run(), several = each.run(threads: threads)
        #expect(several.out == one.out && several.dQKV == one.dQKV && several.logSum == one.logSum)
    }

    /// Queries, keys and values that are no whole blocks, heads that are no whole strips: every path has the same bits.
    @Test(arguments: cases) func pathsHaveTheSameBits(_ each: AttentionCase) {
        var other = each
        other.path = .portable
        let portable = other.run()
        for path in [DotPath.model, .best] {
            other.path = path
            let got = other.run()
            #expect(got.out == portable.out && got.dQKV == portable.dQKV && got.logSum == portable.logSum, "\(path)")
        }
    }

    /// Where every operand is a bf16 number already, nothing is lost: one token attends to itself with weight 1.
    @Test func whatFitsStays() {
        let memory = FencedMemory(), shape = AttentionShape(heads: 1, keyHeads: 1, headDim: 4, isRounded: true)
        let qkv = memory.matrix([1, 2, 3, 4, 5, 6, 7, 8, 0.5, -255, 0x1p-100, 1.0078125], 1, 12)
        let out = memory.matrix(1, 4), scratch = memory.matrix(1, shape.scratchFloats(segment: 1))
        attention(out, logSum: memory.matrix(1, 1), qkv: qkv, shape: shape, segments: Segments(targets([0, 1])),
                  scratch: scratch, pool: Pool(threads: 1))
        #expect(out.values == [0.5, -255, 0x1p-100, 1.0078125])
        qkv.row(0)[11] = 1.00390625 + 0x1p-20
        attention(out, logSum: memory.matrix(1, 1), qkv: qkv, shape: shape, segments: Segments(targets([0, 1])),
                  scratch: scratch, pool: Pool(threads: 1))
        #expect(out.values[3] == 1.0078125, "above the middle of 1 and 1.0078125")
        #expect(memory.isIntact)
    }
}
