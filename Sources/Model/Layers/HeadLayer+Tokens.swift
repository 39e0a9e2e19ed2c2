import Recipe
import Tensor

/// A small vocabulary: a tile is some tokens with all their words, so that one thread takes them from the residual
/// stream to its gradient while they are in its cache.
extension HeadLayer {
    func run(_ chunk: Chunk, _ whole: WholeHead, _ gradientScale: Float?) -> Double {
        let tiles = Tiles(tokens: chunk.rows)
        let (epsilon, losses, vocabulary) = (epsilon, losses, cut.vocabulary)
        let all = Matrix(chunk.logits, rows: chunk.rows, columns: vocabulary)
        let flops = chunk.linear.flops(tokens: chunk.rows) * (gradientScale == nil ? 1 : 2)
        pool.run(tiles.count, stage: "head", flops: flops) { tile, _ in
            let (start, count) = tiles.range(tile)
            let normed = chunk.normed.rows(start, count), logits = all.rows(start, count)
            rmsNorm(normed, inverse: chunk.inverse.slice(start, count), x: chunk.final.rows(start, count),
                    gain: chunk.gain, epsilon: epsilon)
            whole.logits.multiply(logits, normed)
            losses[tile] = crossEntropy(logits, targets: chunk.targets.slice(start, count),
                                        gradientScale: gradientScale)
            guard let product = whole.dNormed else { return }
            product.multiply(chunk.dNormed.rows(start, count), logits)
            chunk.normBackward(start, count, share: chunk.dGains.row(tile))
        }
        if gradientScale != nil {
            addShares(chunk.dGain, chunk.dGains.rows(0, tiles.count))
            chunk.linear.weightGradient(chunk.dHead, dY: all, x: chunk.normed, packedInput: chunk.packedInput)
                .run(pool: pool, stage: "head weight gradients")
        }
        return total(tiles)
    }
}
