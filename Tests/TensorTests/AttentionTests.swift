#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
import Tensor
import Testing
import TestSupport

/// One problem for attention: shapes, where segments start, and inputs drawn from a seed.
struct AttentionCase: Sendable, CustomStringConvertible {
    let heads, keyHeads, headDim: Int
    let starts: [Int]

    var tokens: Int { starts[starts.count - 1] }
    var isRounded = false
    var path = DotPath.best
    var shape: AttentionShape {
        AttentionShape(heads: heads, keyHeads: keyHeads, headDim: headDim, isRounded: isRounded, path: path)
    }
    var longest: Int { zip(starts, starts.dropFirst()).map { $1 - $0 }.reduce(0, max) }
    var qkv: [Float] { normals(tokens * shape.fusedColumns, seed: tokens, size: 1.5) }
    var dOut: [Float] { normals(tokens * heads * headDim, seed: tokens + 1) }
    var description: String { "\(heads)/\(keyHeads) heads of \(headDim), segments \(starts)" }

    /// What one run of the kernels leaves: out, logSum and dQKV.
    struct Result {
        let out, logSum, dQKV: [Float]
    }

    /// `rows`: the segments to run, of all. Everything lies in matrices with gaps and begins as not-a-number.
    func run(threads: Int = 1, tokens range: Range<Int>? = nil) -> Result {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let range = range ?? 0..<tokens
        let local = starts.filter { $0 >= range.lowerBound && $0 <= range.upperBound }.map { $0 - range.lowerBound }
        let columns = shape.fusedColumns, wide = heads * headDim
        let pool = Pool(threads: threads, spin: false)
        defer { pool.close() }
        func part(_ values: [Float], _ width: Int) -> [Float] {
            Array(values[(range.lowerBound * width)..<(range.upperBound * width)])
        }
        let qkv = memory.matrix(part(qkv, columns), range.count, columns, gap: 3)
        let out = memory.matrix(range.count, wide, gap: 1), logSum = memory.matrix(heads, range.count, gap: 2)
        let scratch = memory.matrix(threads, shape.scratchFloats(segment: longest))
        let segments = Segments(targets(local))
        attention(out, logSum: logSum, qkv: qkv, shape: shape, segments: segments, scratch: scratch, pool: pool)
        let dQKV = memory.matrix(range.count, columns, gap: 5)
        scratch.fill(.nan)
        attentionBackward(dQKV, dOut: memory.matrix(part(dOut, wide), range.count, wide, gap: 2), out: out,
                          logSum: logSum, qkv: qkv, shape: shape, segments: segments, scratch: scratch, pool: pool)
        return Result(out: out.values, logSum: logSum.values, dQKV: dQKV.values)
    }

    /// The tape, over q, k and v cut out of `qkv`.
    func onTape(_ qkv: [Double]) -> (tape: Tape, inputs: [Tape.Value], out: Tape.Value) {
        let tape = Tape()
        var start = 0
        let inputs = [heads, keyHeads, keyHeads].map { count in
            let columns = start..<(start + count * headDim)
            start = columns.upperBound
            let part = (0..<tokens).flatMap { row in columns.map { qkv[row * shape.fusedColumns + $0] } }
            return tape.input(part, rows: tokens, columns: columns.count)
        }
        return (tape, inputs, tape.attention(q: inputs[0], k: inputs[1], v: inputs[2], heads: heads,
                                             keyHeads: keyHeads, starts: starts))
    }

    /// The gradients of q, k and v side by side, as dQKV has them.
    func fused(_ parts: [[Double]]) -> [Double] {
        (0..<tokens).flatMap { row in
            parts.flatMap { part in
                let width = part.count / tokens
                return part[(row * width)..<(row * width + width)]
            }
        }
    }
}

@Suite struct AttentionTests {
    static let headCounts = [(1, 1), (2, 1), (2, 2), (3, 1), (3, 3), (4, 1), (4, 2), (4, 4)]

    /// Every length around a block's edge for every head dimension; then every combination of heads; then
    /// segments of mixed lengths; then a document long enough to be shared by several tasks of the forward.
    static let cases = [1, 2, 63, 64, 65, 130].flatMap { length in
        [2, 6, 16, 32, 64].map { AttentionCase(heads: 2, keyHeads: 1, headDim: $0, starts: [0, length]) }
    } + headCounts.flatMap { heads, keyHeads in
        [6, 16].map { AttentionCase(heads: heads, keyHeads: keyHeads, headDim: $0, starts: [0, 1, 66, 70, 134, 264]) }
    } + [
        AttentionCase(heads: 3, keyHeads: 1, headDim: 10, starts: [0, 1, 2, 3, 10, 73]),
        AttentionCase(heads: 1, keyHeads: 1, headDim: 80, starts: [0, 100]),
        AttentionCase(heads: 2, keyHeads: 1, headDim: 6, starts: [0, 40, 640]),
    ]

    @Test(arguments: cases) func forwardAndBackwardEqualTheTape(_ each: AttentionCase) {
        let got = each.run()
        let (tape, inputs, out) = each.onTape(doubles(each.qkv))
        #expect(relativeError(got.out, tape[out]) < 2e-6)
        tape.backward(out, seed: doubles(each.dOut))
        let parts = inputs.map { tape.gradient($0) }
        #expect(relativeError(got.dQKV, each.fused(parts)) < 5e-6)
        // Each of dQ, dK and dV on its own, so that a small one cannot hide behind a large one.
        let columns = each.shape.fusedColumns
        var start = 0
        for part in parts {
            let width = part.count / each.tokens
            let cut = (0..<each.tokens).flatMap { row in
                got.dQKV[(row * columns + start)..<(row * columns + start + width)]
            }
            // A segment of one token has no gradient but dV's: compared by size and not by ratio.
            let size = part.reduce(0) { max($0, abs($1)) }
            #expect(size < 1e-12 ? cut.allSatisfy { abs($0) < 1e-5 } : relativeError(Array(cut), part) < 1e-5)
            start += width
        }
    }

    @Test(arguments: [
        AttentionCase(heads: 2, keyHeads: 1, headDim: 4, starts: [0, 1, 6, 9]),
        AttentionCase(heads: 3, keyHeads: 3, headDim: 2, starts: [0, 11]),
        AttentionCase(heads: 2, keyHeads: 2, headDim: 2, starts: [0, 67]),
    ]) func backwardEqualsDifferences(_ each: AttentionCase) {
        let slopes = gradient(of: { qkv in
            let (tape, _, out) = each.onTape(qkv)
            return weighted(tape[out], by: doubles(each.dOut))
        }, at: doubles(each.qkv))
        #expect(relativeError(each.run().dQKV, slopes) < 5e-6)
    }

    /// logSum is the logarithm of the softmax's denominator to base 2, shift included.
    @Test func logSums() {
        let each = AttentionCase(heads: 4, keyHeads: 2, headDim: 6, starts: [0, 3, 73])
        let got = each.run().logSum, qkv = each.qkv, columns = each.shape.fusedColumns
        for (start, end) in zip(each.starts, each.starts.dropFirst()) {
            for token in start..<end {
                for head in 0..<each.heads {
                    let sum = (start...token).reduce(0.0) { sum, other in
                        let score = (0..<each.headDim).reduce(0.0) { score, i in
                            let key = other * columns + (each.heads + head / 2) * each.headDim + i
                            return score + Double(qkv[token * columns + head * each.headDim + i]) * Double(qkv[key])
                        }
                        return sum + exp(score / Double(each.headDim).squareRoot())
                    }
                    #expect(abs(Double(got[head * each.tokens + token]) - log2(sum)) < 1e-5)
                }
            }
        }
    }

    /// Packing without cross-contamination (2107.02027): a segment in a packed row has the bits it has alone.
    @Test(arguments: [
        AttentionCase(heads: 4, keyHeads: 2, headDim: 16, starts: [0, 1, 66, 70, 134, 264]),
        AttentionCase(heads: 3, keyHeads: 1, headDim: 6, starts: [0, 63, 127, 192, 722, 723]),
    ]) func packedSegmentsEqualSegmentsAlone(_ each: AttentionCase) {
        let packed = each.run()
        let columns = each.shape.fusedColumns, wide = each.heads * each.headDim
        for (start, end) in zip(each.starts, each.starts.dropFirst()) {
            let alone = each.run(tokens: start..<end)
            #expect(mismatch(alone.out, Array(packed.out[(start * wide)..<(end * wide)])) == nil)
            #expect(mismatch(alone.dQKV, Array(packed.dQKV[(start * columns)..<(end * columns)])) == nil)
            let logSums = (0..<each.heads).flatMap { head in
                packed.logSum[(head * each.tokens + start)..<(head * each.tokens + end)]
            }
            #expect(mismatch(alone.logSum, logSums) == nil)
        }
    }

    @Test(arguments: [
        AttentionCase(heads: 4, keyHeads: 2, headDim: 16, starts: [0, 1, 66, 70, 134, 264]),
        AttentionCase(heads: 2, keyHeads: 1, headDim: 6, starts: [0, 40, 1_140]),
    ]) func threadsDoNotChangeBits(_ each: AttentionCase) {
        let one = each.run(threads: 1)
        for threads in [2, 3] {
            let several = each.run(threads: threads)
            #expect(mismatch(several.out, one.out) == nil, "\(threads) threads")
            #expect(mismatch(several.logSum, one.logSum) == nil, "\(threads) threads")
            #expect(mismatch(several.dQKV, one.dQKV) == nil, "\(threads) threads")
        }
    }

    /// Causality, bit by bit: what comes later changes nothing earlier, forwards.
    @Test func theFutureIsHidden() {
        let short = AttentionCase(heads: 2, keyHeads: 1, headDim: 16, starts: [0, 130])
        let wide = 32
        let whole = short.run()
        for end in [1, 5, 64, 65, 100] {
            #expect(mismatch(outputs(of: short, end: end), Array(whole.out[..<(end * wide)])) == nil)
        }
    }

    /// Scores too large for an exponential, first falling and then rising along the keys.
    @Test func largeScores() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let shape = AttentionShape(heads: 1, keyHeads: 1, headDim: 2), tokens = 140
        for direction in [Float(1), -1] {
            let qkv = (0..<tokens).flatMap { token -> [Float] in
                [30, 0, direction * 20 * Float(token - 70), 0, Float(token), 1]
            }
            let pool = Pool(threads: 1)
            let out = memory.matrix(tokens, 2), logSum = memory.matrix(1, tokens), dQKV = memory.matrix(tokens, 6)
            let input = memory.matrix(qkv, tokens, 6), scratch = memory.matrix(1, shape.scratchFloats(segment: tokens))
            attention(out, logSum: logSum, qkv: input, shape: shape, segments: Segments(targets([0, tokens])),
                      scratch: scratch, pool: pool)
            // One key wins everything: the last one, or the first one.
            for token in 0..<tokens { #expect(out.row(token).array == [direction > 0 ? Float(token) : 0, 1]) }
            attentionBackward(dQKV, dOut: memory.matrix(normals(tokens * 2, seed: 1), tokens, 2), out: out,
                              logSum: logSum, qkv: input, shape: shape, segments: Segments(targets([0, tokens])),
                              scratch: scratch, pool: pool)
            #expect(dQKV.values.allSatisfy { $0.isFinite })
        }
    }
}

/// The output of the first `end` tokens of a case of one segment.
private func outputs(of each: AttentionCase, end: Int) -> [Float] {
    let memory = FencedMemory()
    defer { #expect(memory.isIntact) }
    let columns = each.shape.fusedColumns
    let out = memory.matrix(end, each.heads * each.headDim)
    let pool = Pool(threads: 1)
    let qkv = memory.matrix(Array(each.qkv[..<(end * columns)]), end, columns)
    let scratch = memory.matrix(1, each.shape.scratchFloats(segment: end))
    attention(out, logSum: memory.matrix(each.heads, end), qkv: qkv, shape: each.shape,
              segments: Segments(targets([0, end])), scratch: scratch, pool: pool)
    return out.values
}
