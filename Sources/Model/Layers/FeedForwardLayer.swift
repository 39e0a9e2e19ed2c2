import Recipe
import Tensor

/// out = middle + down(swiGLU(gateUp(norm(middle)))): the second half of a block.
struct FeedForwardLayer {
    let epsilon: Float
    let pool: Pool

    /// Reads saved.middle; writes saved.middleInverse, saved.gateUp and `out`.
    func forward(_ out: Matrix, _ saved: LayerSaved, _ weights: Parameters.Layer, _ scratch: Scratch) {
        let tiles = Tiles(tokens: out.rows)
        let epsilon = epsilon
        let flops = weights.gateUp.flops(tokens: out.rows) + weights.down.flops(tokens: out.rows)
        pool.run(tiles.count, stage: "mlp", flops: flops) { tile, _ in
            let (start, count) = tiles.range(tile)
            let normed = scratch.normed.rows(start, count), gateUp = saved.gateUp.rows(start, count)
            let hidden = scratch.hidden.rows(start, count), middle = saved.middle.rows(start, count)
            rmsNorm(normed, inverse: saved.middleInverse.slice(start, count), x: middle,
                    gain: weights.middleGain, epsilon: epsilon)
            Gemm.timesTransposed(gateUp, normed, weights.gateUp)
            swiGLU(hidden, gateUp: gateUp)
            let out = out.rows(start, count)
            out.copy(middle)
            Gemm.timesTransposed(out, hidden, weights.down, accumulate: true)
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
        let dGateUp = WeightGradient(dW: gradients.gateUp, dY: saved.gateUp, x: scratch.normed)
        let dDown = WeightGradient(dW: gradients.down, dY: scratch.dResidual, x: scratch.hidden)
        let flops = dDown.flops + dGateUp.flops * (makingAgain ? 2 : 1)
        pool.run(tiles.count, stage: "mlp backward", flops: flops) { tile, _ in
            let (start, count) = tiles.range(tile)
            let hidden = scratch.hidden.rows(start, count), gateUp = saved.gateUp.rows(start, count)
            let normed = scratch.normed.rows(start, count), middle = saved.middle.rows(start, count)
            let inverse = saved.middleInverse.slice(start, count)
            if makingAgain {
                rmsNorm(normed, inverse: inverse, x: middle, gain: weights.middleGain, epsilon: epsilon)
                Gemm.timesTransposed(gateUp, normed, weights.gateUp)
            } else {
                rmsNormScale(normed, x: middle, inverse: inverse, gain: weights.middleGain)
            }
            Gemm.times(hidden, scratch.dResidual.rows(start, count), weights.down)
            swiGLUBackward(gateUp, recomputed: hidden, dH: hidden, gateUp: gateUp)
            Gemm.times(scratch.dNormed.rows(start, count), gateUp, weights.gateUp)
        }
        dDown.run(with: dGateUp, pool: pool, stage: "mlp weight gradients")
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
