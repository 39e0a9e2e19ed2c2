import Recipe
import Tensor

/// out = middle + down(swiGLU(gateUp(norm(middle)))): the second half of a block.
struct FeedForwardLayer {
    let epsilon: Float
    let pool: Pool
    let matmul: Recipe.Matmul

    /// Reads saved.middle; writes saved.middleInverse, saved.gateUp and `out`.
    func forward(_ out: Matrix, _ saved: LayerSaved, _ weights: Parameters.Layer, _ scratch: Scratch) {
        let tiles = Tiles(tokens: out.rows)
        let epsilon = epsilon
        let gateUpLinear = Linear(weight: weights.gateUp, matmul: matmul)
        let downLinear = Linear(weight: weights.down, matmul: matmul)
        var memory = PackingMemory(scratch.packedWeights)
        let gateUpProduct = gateUpLinear.forward(&memory), downProduct = downLinear.forward(&memory)
        pack(gateUpProduct, downProduct, pool: pool)
        let flops = gateUpLinear.flops(tokens: out.rows) + downLinear.flops(tokens: out.rows)
        pool.run(tiles.count, stage: "mlp", flops: flops) { tile, _ in
            let (start, count) = tiles.range(tile)
            let normed = scratch.normed.rows(start, count), gateUp = saved.gateUp.rows(start, count)
            let hidden = scratch.hidden.rows(start, count), middle = saved.middle.rows(start, count)
            rmsNorm(normed, inverse: saved.middleInverse.slice(start, count), x: middle,
                    gain: weights.middleGain, epsilon: epsilon)
            gateUpProduct.multiply(gateUp, normed)
            swiGLU(hidden, gateUp: gateUp)
            let out = out.rows(start, count)
            out.copy(middle)
            downProduct.multiply(out, hidden, accumulate: true)
        }
    }

    /// scratch.dResidual holds d(out) and becomes d(middle). Weight gradients are added to `gradients`.
    ///
    /// Reads saved.middle, and saved.gateUp unless it is told to make it again; there the gradient of gateUp takes
    /// its place.
    ///
    /// The down projection's gradient needs d(out), which the same pass over the tiles turns into d(middle); so
    /// the norm's backward, which does that, comes after the weight gradients.
    func backward(_ saved: LayerSaved, _ weights: Parameters.Layer, _ gradients: Parameters.Layer, _ scratch: Scratch,
                  makingAgain: Bool) {
        let tiles = Tiles(tokens: scratch.dResidual.rows)
        let epsilon = epsilon
        let gateUpLinear = Linear(weight: weights.gateUp, matmul: matmul)
        let downLinear = Linear(weight: weights.down, matmul: matmul)
        var memory = PackingMemory(scratch.packedWeights)
        let again = makingAgain ? gateUpLinear.forward(&memory) : nil
        let dHidden = downLinear.inputGradient(&memory), dNormed = gateUpLinear.inputGradient(&memory)
        pack(dHidden, dNormed, again, pool: pool)
        let tokens = scratch.dResidual.rows
        let flops = downLinear.flops(tokens: tokens) + gateUpLinear.flops(tokens: tokens) * (makingAgain ? 2 : 1)
        pool.run(tiles.count, stage: "mlp backward", flops: flops) { tile, _ in
            let (start, count) = tiles.range(tile)
            let hidden = scratch.hidden.rows(start, count), gateUp = saved.gateUp.rows(start, count)
            let normed = scratch.normed.rows(start, count), middle = saved.middle.rows(start, count)
            let inverse = saved.middleInverse.slice(start, count)
            if let again {
                rmsNorm(normed, inverse: inverse, x: middle, gain: weights.middleGain, epsilon: epsilon)
                again.multiply(gateUp, normed)
            } else {
                rmsNormScale(normed, x: middle, inverse: inverse, gain: weights.middleGain)
            }
            dHidden.multiply(hidden, scratch.dResidual.rows(start, count))
            swiGLUBackward(gateUp, recomputed: hidden, dH: hidden, gateUp: gateUp)
            dNormed.multiply(scratch.dNormed.rows(start, count), gateUp)
        }
        downLinear.weightGradient(gradients.down, dY: scratch.dResidual, x: scratch.hidden,
                                  packedInput: scratch.packedInput).run(pool: pool, stage: "mlp weight gradients")
        gateUpLinear.weightGradient(gradients.gateUp, dY: saved.gateUp, x: scratch.normed,
                                    packedInput: scratch.packedInput).run(pool: pool, stage: "mlp weight gradients")
        pool.run(tiles.count, stage: "mlp norm backward") { tile, _ in
            let (start, count) = tiles.range(tile)
            let share = scratch.dGains.row(tile)
            share.fill(0)
            rmsNormBackward(scratch.dResidual.rows(start, count), dGain: share,
                            dOut: scratch.dNormed.rows(start, count), x: saved.middle.rows(start, count),
                            inverse: saved.middleInverse.slice(start, count), gain: weights.middleGain)
        }
        addShares(gradients.middleGain, scratch.dGains)
    }
}
