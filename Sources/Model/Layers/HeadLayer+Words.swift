import Recipe
import Tensor

/// A large vocabulary: a tile is a block of words with all tokens of the chunk, so that every thread has work, and each
/// word's weight and gradient are touched once a chunk.
///
/// Logits lie block by block. A block's tile packs its own words, in the thread's own memory, and takes the tokens in
/// parts of a tile's rows. The input's gradient is a sum over all words; each group of blocks sums its own share, in
/// the order of its words, and shares are added in the order of groups.
extension HeadLayer {
    func runByWords(_ chunk: Chunk, _ gradientScale: Float?) -> Double {
        let tiles = Tiles(tokens: chunk.rows), words = cut.blocks
        let entropy = CrossEntropyBlocks(targets: chunk.targets, blocks: words, memory: chunk.sums)
        normalise(chunk, tiles)
        makeLogits(chunk, tiles, entropy, keeping: gradientScale != nil)
        let losses = losses
        pool.run(tiles.count, stage: "head softmax") { tile, _ in
            let (start, count) = tiles.range(tile)
            losses[tile] = entropy.merge(rows: start..<(start + count), gradientScale: gradientScale)
        }
        if let gradientScale { backward(chunk, tiles, entropy, gradientScale) }
        return total(tiles)
    }

    private func normalise(_ chunk: Chunk, _ tiles: Tiles) {
        let epsilon = epsilon
        pool.run(tiles.count, stage: "head norm") { tile, _ in
            let (start, count) = tiles.range(tile)
            rmsNorm(chunk.normed.rows(start, count), inverse: chunk.inverse.slice(start, count),
                    x: chunk.final.rows(start, count), gain: chunk.gain, epsilon: epsilon)
        }
    }

    private func makeLogits(_ chunk: Chunk, _ tiles: Tiles, _ entropy: CrossEntropyBlocks, keeping: Bool) {
        let (cut, workers) = (cut, workers)
        pool.run(cut.blocks, stage: "head", flops: chunk.linear.flops(tokens: chunk.rows)) { block, worker in
            let words = cut.words(block)
            var memory = PackingMemory(workers.row(worker))
            let product = chunk.linear.rows(words.start, words.count).forward(&memory)
            product.pack()
            for tile in 0..<tiles.count {
                let (start, count) = tiles.range(tile)
                let logits = chunk.block(words).rows(start, count)
                product.multiply(logits, chunk.normed.rows(start, count))
                entropy.visit(logits, rows: start, block: block, word: words.start, keeping: keeping)
            }
        }
    }

    private func backward(_ chunk: Chunk, _ tiles: Tiles, _ entropy: CrossEntropyBlocks, _ scale: Float) {
        let (cut, workers) = (cut, workers)
        let input = WeightInput(chunk.normed, memory: chunk.packedInput, matmul: matmul)
        input.pack(pool: pool)
        let flops = 2 * chunk.linear.flops(tokens: chunk.rows)
        pool.run(HeadCut.groups, stage: "head backward", flops: flops) { group, worker in
            let share = chunk.share(group)
            for index in 0..<cut.blocksPerGroup {
                let block = group * cut.blocksPerGroup + index, words = cut.words(block)
                var memory = PackingMemory(workers.row(worker))
                let linear = chunk.linear.rows(words.start, words.count)
                let product = linear.inputGradient(&memory)
                product.pack()
                let slopes = chunk.block(words)
                for tile in 0..<tiles.count {
                    let (start, count) = tiles.range(tile)
                    let rows = slopes.rows(start, count)
                    entropy.differentiate(rows, rows: start, block: block, word: words.start, gradientScale: scale)
                    product.multiply(share.rows(start, count), rows, accumulate: index > 0)
                }
                input.add(to: chunk.dHead.rows(words.start, words.count), dY: slopes)
            }
        }
        pool.run(tiles.count, stage: "head norm backward") { tile, _ in
            let (start, count) = tiles.range(tile)
            let dNormed = chunk.dNormed.rows(start, count)
            dNormed.copy(chunk.share(0).rows(start, count))
            for group in 1..<HeadCut.groups {
                let share = chunk.share(group)
                for row in 0..<count { add(dNormed.row(row), share.row(start + row)) }
            }
            chunk.normBackward(start, count, share: chunk.dGains.row(tile))
        }
        addShares(chunk.dGain, chunk.dGains.rows(0, tiles.count))
    }
}

extension HeadLayer.Chunk {
    /// [rows, words] of the logits, or of their gradient.
    fileprivate func block(_ words: (start: Int, count: Int)) -> Matrix {
        Matrix(logits.slice(rows * words.start, rows * words.count), rows: rows, columns: words.count)
    }

    /// [rows, D] a group's share of dNormed.
    fileprivate func share(_ group: Int) -> Matrix {
        let size = rows * normed.columns
        return Matrix(shares.slice(group * size, size), rows: rows, columns: normed.columns)
    }
}
