import Recipe
import Tensor

/// out = middle + down(swiGLU(gateUp(norm(middle)))): the second half of a block.
struct FeedForwardLayer {
    let epsilon: Float
    let pool: Pool
    let linears: Linears

    /// Reads saved.middle; writes saved.middleInverse, saved.gateUp and `out`.
    func forward(_ out: Matrix, _ saved: LayerSaved, _ weights: Parameters.Layer, _ scratch: Scratch) {
        let tiles = Tiles(tokens: out.rows)
        let epsilon = epsilon
        let gateUpLinear = linears.make(.gateUp, saved, weights.gateUp)
        let downLinear = linears.make(.down, saved, weights.down)
        linears.watch(saved, weights.gateUp, pool: pool)
        var memory = PackingMemory(scratch.packedWeights, tokens: out.rows, pool: pool)
        let gateUpProduct = gateUpLinear.forward(&memory), downProduct = downLinear.forward(&memory)
        pack(gateUpProduct, downProduct, pool: pool)
        let flops = gateUpLinear.flops(tokens: out.rows) + downLinear.flops(tokens: out.rows)
        pool.run(tiles.count, stage: "mlp", flops: flops,
                 splits: (gateUpProduct.needsWhole, downProduct.needsWhole)) { tile, _ in
            let (start, count) = tiles.range(tile)
            rmsNorm(scratch.normed.rows(start, count), inverse: saved.middleInverse.slice(start, count),
                    x: saved.middle.rows(start, count), gain: weights.middleGain, epsilon: epsilon)
        } between: {
            gateUpProduct.measure(scratch.normed, pool: pool)
        } _: { tile, worker in
            let (start, count) = tiles.range(tile)
            let gateUp = saved.gateUp.rows(start, count)
            gateUpProduct.multiply(gateUp, scratch.normed.rows(start, count), at: start, worker: worker)
            swiGLU(scratch.hidden.rows(start, count), gateUp: gateUp)
        } between: {
            let width = scratch.hidden.columns
            downProduct.measure(scratch.hidden, up: saved.gateUp.columns(width, width), pool: pool)
        } _: { tile, worker in
            let (start, count) = tiles.range(tile)
            let out = out.rows(start, count)
            out.copy(saved.middle.rows(start, count))
            downProduct.multiply(out, scratch.hidden.rows(start, count), at: start, worker: worker, accumulate: true)
        }
    }

    /// scratch.dResidual holds d(out) and becomes d(middle). Weight gradients are added to `gradients`.
    ///
    /// Reads saved.middle, and saved.gateUp unless it is told to make it again; there the gradient of gateUp takes
    /// its place.
    ///
    /// The down projection's gradient needs d(out), which the same pass over the tiles turns into d(middle); so
    /// the norm's backward, which does that, comes after that weight gradient. The other one waits for nothing and
    /// nothing for it: where it can be cut it is returned, to be run while attention exchanges.
    func backward(_ saved: LayerSaved, _ weights: Parameters.Layer, _ gradients: Parameters.Layer, _ scratch: Scratch,
                  makingAgain: Bool) -> (WeightGradient, WeightGradient)? {
        let tiles = Tiles(tokens: scratch.dResidual.rows)
        let epsilon = epsilon
        let gateUpLinear = linears.make(.gateUp, saved, weights.gateUp)
        let downLinear = linears.make(.down, saved, weights.down)
        var memory = PackingMemory(scratch.packedWeights, tokens: scratch.dResidual.rows, pool: pool)
        let again = makingAgain ? gateUpLinear.forward(&memory) : nil
        let dHidden = downLinear.inputGradient(&memory), dNormed = gateUpLinear.inputGradient(&memory)
        pack(dHidden, dNormed, again, pool: pool)
        let tokens = scratch.dResidual.rows
        let flops = downLinear.flops(tokens: tokens) + gateUpLinear.flops(tokens: tokens) * (makingAgain ? 2 : 1)
        dHidden.measure(scratch.dResidual, pool: pool)
        pool.run(tiles.count, stage: "mlp backward", flops: flops,
                 splits: (again?.needsWhole ?? false, dNormed.needsWhole)) { tile, _ in
            let (start, count) = tiles.range(tile)
            let normed = scratch.normed.rows(start, count), middle = saved.middle.rows(start, count)
            let inverse = saved.middleInverse.slice(start, count)
            if makingAgain {
                rmsNorm(normed, inverse: inverse, x: middle, gain: weights.middleGain, epsilon: epsilon)
            } else {
                rmsNormScale(normed, x: middle, inverse: inverse, gain: weights.middleGain)
            }
        } between: {
            again?.measure(scratch.normed, pool: pool)
        } _: { tile, worker in
            let (start, count) = tiles.range(tile)
            let hidden = scratch.hidden.rows(start, count), gateUp = saved.gateUp.rows(start, count)
            again?.multiply(gateUp, scratch.normed.rows(start, count), at: start, worker: worker)
            dHidden.multiply(hidden, scratch.dResidual.rows(start, count), at: start, worker: worker)
            swiGLUBackward(gateUp, recomputed: hidden, dH: hidden, gateUp: gateUp)
        } between: {
            dNormed.measure(saved.gateUp, pool: pool)
        } _: { tile, worker in
            let (start, count) = tiles.range(tile)
            dNormed.multiply(scratch.dNormed.rows(start, count), saved.gateUp.rows(start, count), at: start,
                             worker: worker)
        }
        downLinear.weightGradient(gradients.down, dY: scratch.dResidual, x: scratch.hidden,
                                  packedInput: scratch.packedInput).run(pool: pool, stage: "mlp weight gradients")
        let last = gateUpLinear.weightGradient(gradients.gateUp, dY: saved.gateUp, x: scratch.normed,
                                               packedInput: scratch.packedInput)
        let left = last.halves
        if left == nil { last.run(pool: pool, stage: "mlp weight gradients") }
        pool.run(tiles.count, stage: "mlp norm backward") { tile, _ in
            let (start, count) = tiles.range(tile)
            let share = scratch.dGains.row(tile)
            share.fill(0)
            rmsNormBackward(scratch.dResidual.rows(start, count), dGain: share,
                            dOut: scratch.dNormed.rows(start, count), x: saved.middle.rows(start, count),
                            inverse: saved.middleInverse.slice(start, count), gain: weights.middleGain)
        }
        addShares(gradients.middleGain, scratch.dGains)
        return left
    }
}
