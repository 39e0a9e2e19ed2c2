import Recipe
import Tensor

/// loss = sum of cross-entropies of head(norm(final)) against the targets.
///
/// Forward and backward are one visit: logits are made for a chunk of rows, turned into their own gradient, used
/// twice, and forgotten, so a vocabulary of 50,257 never exists for all tokens at once. That is possible
/// because the loss is a sum whose scale (1 over the global count of targets) is known before the forward.
///
/// How a chunk is cut is `HeadCut`'s matter: by tokens (`HeadLayer+Tokens`), or by words (`HeadLayer+Words`).
struct HeadLayer {
    let epsilon: Float
    let pool: Pool
    let matmul: Recipe.Matmul
    let cut: HeadCut
    let losses: Doubles          // [tiles] each tile's share of the loss
    let workers: Matrix          // [threads, packed words] of a head that is cut by words

    init(_ cut: HeadCut, epsilon: Float, pool: Pool, matmul: Recipe.Matmul, dim: Int, memory: Arena) {
        self.cut = cut
        self.epsilon = epsilon
        self.pool = pool
        self.matmul = matmul
        losses = Doubles(count: Tiles(tokens: cut.chunkRows).count)
        workers = memory.take(rows: pool.threads, columns: cut.packed(dim: dim))
    }

    static func floats(_ cut: HeadCut, dim: Int, threads: Int) -> Int {
        Arena.padded(threads * cut.packed(dim: dim))
    }

    /// Returns the sum of the losses in nats, unscaled. With `gradientScale`, also overwrites scratch.dResidual
    /// with d(final), and adds to the gradients of the final gain and the head.
    func run(_ saved: Saved, _ weights: Parameters, _ gradients: Parameters, _ batch: MicroBatch, _ scratch: Scratch,
             gradientScale: Float?) -> Double {
        let linear = Linear(weight: weights.head, matmul: matmul)
        var memory = PackingMemory(scratch.packedWeights)
        var whole: WholeHead?
        if !cut.isByWords {
            let logits = linear.forward(&memory)
            let product = WholeHead(logits: logits, dNormed: gradientScale == nil ? nil : linear.inputGradient(&memory))
            pack(product.logits, product.dNormed, pool: pool)
            whole = product
        }
        var loss = 0.0
        for start in stride(from: 0, to: batch.tokens, by: cut.chunkRows) {
            let chunk = Chunk(start: start, count: min(cut.chunkRows, batch.tokens - start), linear: linear,
                              saved: saved, weights: weights, gradients: gradients, targets: batch.targets,
                              scratch: scratch)
            if let whole { loss += run(chunk, whole, gradientScale) } else { loss += runByWords(chunk, gradientScale) }
        }
        return loss
    }

    /// The products of a head that is packed as a whole.
    struct WholeHead: Sendable {
        let logits: LinearProduct
        let dNormed: LinearProduct?
    }

    /// The rows of one chunk.
    struct Chunk: Sendable {
        let linear: Linear
        let normed, dNormed, dResidual, final, dGains, dHead: Matrix
        let inverse, gain, dGain, logits, packedInput, shares, sums: Row
        let targets: Targets

        init(start: Int, count: Int, linear: Linear, saved: Saved, weights: Parameters, gradients: Parameters,
             targets: Targets, scratch: Scratch) {
            self.linear = linear
            normed = scratch.normed.rows(start, count)
            dNormed = scratch.dNormed.rows(start, count)
            dResidual = scratch.dResidual.rows(start, count)
            final = saved.final.rows(start, count)
            dGains = scratch.dGains
            dHead = gradients.head
            inverse = saved.finalInverse.slice(start, count)
            gain = weights.finalGain
            dGain = gradients.finalGain
            logits = scratch.logits
            packedInput = scratch.packedInput
            shares = scratch.headShares
            sums = scratch.headSums
            self.targets = targets.slice(start, count)
        }

        var rows: Int { normed.rows }

        /// d(final) of some rows from their dNormed; `share` receives their part of the gain's gradient.
        func normBackward(_ start: Int, _ count: Int, share: Row) {
            let dResidual = dResidual.rows(start, count)
            share.fill(0)
            dResidual.fill(0)
            rmsNormBackward(dResidual, dGain: share, dOut: dNormed.rows(start, count), x: final.rows(start, count),
                            inverse: inverse.slice(start, count), gain: gain)
        }
    }

    /// The tiles' losses, in ascending order.
    func total(_ tiles: Tiles) -> Double { (0..<tiles.count).reduce(0) { $0 + losses[$1] } }
}
