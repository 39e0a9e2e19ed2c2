#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Softmax cross-entropy whose words come in blocks, each on any thread: `crossEntropy` for a vocabulary too large for
/// one tile.
///
/// Each block's visit leaves every row's maximum m_b and sum s_b = sum e^(x - m_b) within the block. Merged in the
/// order of blocks, with M the largest m_b,
///
///     sum = s_0 e^(m_0 - M) + s_1 e^(m_1 - M) + ...          loss = log sum - (x_target - M)
///
/// (Milakov and Gimelshein, 1805.02867, without the running order of an online softmax: which thread came first does
/// not matter.) The gradient needs no second exponential: what a block has left is multiplied by
/// scale e^(m_b - M) / sum. With one block everything is `crossEntropy`'s, bit for bit.
public struct CrossEntropyBlocks: Sendable {
    private let peaks: Matrix        // [T, B] m_b
    private let sums: Matrix         // [T, B] s_b, and after the merge the factor of the gradient
    private let chosen: Row          // [T] the target's logit
    private let targets: Targets

    /// targets: T ids, a negative one is no target. `memory` has T (2 blocks + 1) floats.
    public init(targets: Targets, blocks: Int, memory: Row) {
        let rows = targets.count
        self.targets = targets
        peaks = Matrix(memory.slice(0, rows * blocks), rows: rows, columns: blocks)
        sums = Matrix(memory.slice(rows * blocks, rows * blocks), rows: rows, columns: blocks)
        chosen = memory.slice(2 * rows * blocks, rows)
    }

    /// The first visit of a block: logits [n, W] of the rows from `start` on and the words from `word` on. With
    /// `keeping` they become e^(x - m_b); else they are left as they are.
    public func visit(_ logits_NW: Matrix, rows start: Int, block: Int, word: Int, keeping: Bool) {
        for row in 0..<logits_NW.rows {
            let (logits, t) = (logits_NW.row(row), start + row)
            let target = targets[t]
            guard target >= 0 else { continue }
            if target >= word, target < word + logits.count { chosen[t] = logits[target - word] }
            let largest = maximum(logits)
            peaks.row(t)[block] = largest
            sums.row(t)[block] = keeping ? exponentials(logits, minus: largest) : exponentialSum(logits, minus: largest)
        }
    }

    /// The sum of the losses of rows, in nats, after the first visit of all their blocks. With `gradientScale` it
    /// prepares the second one.
    public func merge(rows: Range<Int>, gradientScale: Float?) -> Double {
        var loss = 0.0
        for t in rows where targets[t] >= 0 {
            let peaks = peaks.row(t), sums = sums.row(t)
            var largest = -Float.infinity
            // What is not a number must come out, whatever it is compared with.
            for block in 0..<peaks.count where !(peaks[block] <= largest) { largest = peaks[block] }
            var sum = 0.0
            for block in 0..<peaks.count { sum += Double(sums[block]) * share(peaks[block], largest) }
            loss += log(sum) - Double(chosen[t] - largest)
            guard let gradientScale else { continue }
            for block in 0..<peaks.count {
                sums[block] = Float(Double(gradientScale) * share(peaks[block], largest) / sum)
            }
        }
        return loss
    }

    /// e^(m_b - M), exactly 1 for the largest.
    private func share(_ peak: Float, _ largest: Float) -> Double {
        peak == largest ? 1 : exp(Double(peak) - Double(largest))
    }

    /// The second visit: what the first one has kept becomes d(loss)/d(logits). Rows without a target become zeros.
    public func differentiate(_ kept_NW: Matrix, rows start: Int, block: Int, word: Int, gradientScale: Float) {
        for row in 0..<kept_NW.rows {
            let (kept, t) = (kept_NW.row(row), start + row)
            let target = targets[t]
            guard target >= 0 else {
                kept.fill(0)
                continue
            }
            let factor = sums.row(t)[block]
            for i in laneStarts(kept.count) { kept[lanes: i] = kept[lanes: i] * factor }
            if target >= word, target < word + kept.count { kept[target - word] -= gradientScale }
        }
    }
}
