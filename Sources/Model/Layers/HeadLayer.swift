import Recipe
import Tensor

/// loss = sum of cross-entropies of head(norm(final)) against the targets.
///
/// Forward and backward are one visit: logits are made for a chunk of rows, turned into their own gradient, used
/// twice, and forgotten, so a vocabulary of 50,257 never exists for all tokens at once. That is possible
/// because the loss is a sum whose scale (1 over the global count of targets) is known before the forward.
struct HeadLayer {
    let epsilon: Float
    let pool: Pool
    let losses: Doubles          // [tiles] each tile's share of the loss

    /// Returns the sum of the losses in nats, unscaled. With `gradientScale`, also overwrites scratch.dResidual
    /// with d(final), and adds to the gradients of the final gain and the head.
    func run(_ saved: Saved, _ weights: Parameters, _ gradients: Parameters, _ batch: MicroBatch, _ scratch: Scratch,
             chunkRows: Int, gradientScale: Float?) -> Double {
        var loss = 0.0
        for start in stride(from: 0, to: batch.tokens, by: chunkRows) {
            let chunk = Chunk(start: start, count: min(chunkRows, batch.tokens - start), saved: saved,
                              weights: weights, gradients: gradients, targets: batch.targets, scratch: scratch)
            loss += run(chunk, gradientScale)
        }
        return loss
    }

    private struct Chunk: Sendable {
        let normed, dNormed, dResidual, final, logits, dGains, head, dHead: Matrix
        let inverse, gain, dGain: Row
        let targets: Targets

        init(start: Int, count: Int, saved: Saved, weights: Parameters, gradients: Parameters, targets: Targets,
             scratch: Scratch) {
            normed = scratch.normed.rows(start, count)
            dNormed = scratch.dNormed.rows(start, count)
            dResidual = scratch.dResidual.rows(start, count)
            final = saved.final.rows(start, count)
            logits = Matrix(scratch.logits, rows: count, columns: weights.head.rows)
            dGains = scratch.dGains
            head = weights.head
            dHead = gradients.head
            inverse = saved.finalInverse.slice(start, count)
            gain = weights.finalGain
            dGain = gradients.finalGain
            self.targets = targets.slice(start, count)
        }
    }

    private func run(_ chunk: Chunk, _ gradientScale: Float?) -> Double {
        let tiles = Tiles(tokens: chunk.normed.rows)
        let (epsilon, losses) = (epsilon, losses)
        let flops = chunk.head.flops(tokens: chunk.normed.rows) * (gradientScale == nil ? 1 : 2)
        pool.run(tiles.count, stage: "head", flops: flops) { tile, _ in
            let (start, count) = tiles.range(tile)
            let normed = chunk.normed.rows(start, count), logits = chunk.logits.rows(start, count)
            let final = chunk.final.rows(start, count), inverse = chunk.inverse.slice(start, count)
            rmsNorm(normed, inverse: inverse, x: final, gain: chunk.gain, epsilon: epsilon)
            Gemm.timesTransposed(logits, normed, chunk.head)
            let targets = chunk.targets.slice(start, count)
            losses[tile] = crossEntropy(logits, targets: targets, gradientScale: gradientScale)
            guard gradientScale != nil else { return }
            let dNormed = chunk.dNormed.rows(start, count), dResidual = chunk.dResidual.rows(start, count)
            Gemm.times(dNormed, logits, chunk.head)
            let share = chunk.dGains.row(tile)
            share.fill(0)
            dResidual.fill(0)
            rmsNormBackward(dResidual, dGain: share, dOut: dNormed, x: final, inverse: inverse, gain: chunk.gain)
        }
        if gradientScale != nil {
            addShares(chunk.dGain, chunk.dGains.rows(0, tiles.count))
            WeightGradient(dW: chunk.dHead, dY: chunk.logits, x: chunk.normed)
                .run(pool: pool, stage: "head weight gradients")
        }
        return (0..<tiles.count).reduce(0) { $0 + losses[$1] }
    }
}
