import Recipe
import Tensor

/// middle = input + output(attention(rotary(qkv(norm(input))))): the first half of a block.
struct AttentionLayer {
    let shape: AttentionShape
    let rotaryTable: RotaryTable
    let epsilon: Float
    let pool: Pool
    let strategy: any AttentionStrategy

    /// Reads saved.input; writes the other attention slots of `saved`, and saved.middle.
    func forward(_ saved: LayerSaved, _ weights: Parameters.Layer, _ batch: MicroBatch, _ scratch: Scratch) {
        let tiles = Tiles(tokens: batch.tokens)
        let (shape, table, epsilon, period) = (shape, rotaryTable, epsilon, batch.sequence)
        pool.run(tiles.count, stage: "qkv", flops: weights.qkv.flops(tokens: batch.tokens)) { tile, _ in
            let (start, count) = tiles.range(tile)
            let normed = scratch.normed.rows(start, count), qkv = saved.qkv.rows(start, count)
            rmsNorm(normed, inverse: saved.inputInverse.slice(start, count), x: saved.input.rows(start, count),
                    gain: weights.inputGain, epsilon: epsilon)
            Gemm.timesTransposed(qkv, normed, weights.qkv)
            rotary(qkv.columns(0, (shape.heads + shape.keyHeads) * shape.headDim), table: table,
                   headDim: shape.headDim, firstPosition: start, period: period)
        }
        strategy.forward(saved.attended, logSum: saved.logSum, qkv: saved.qkv, shape: shape, segments: batch.segments)
        pool.run(tiles.count, stage: "attention output", flops: weights.output.flops(tokens: batch.tokens)) { tile, _ in
            let (start, count) = tiles.range(tile)
            let middle = saved.middle.rows(start, count)
            middle.copy(saved.input.rows(start, count))
            Gemm.timesTransposed(middle, saved.attended.rows(start, count), weights.output, accumulate: true)
        }
    }

    /// scratch.dResidual holds d(middle) and becomes d(input). Weight gradients are added to `gradients`.
    func backward(_ saved: LayerSaved, _ weights: Parameters.Layer, _ gradients: Parameters.Layer,
                  _ batch: MicroBatch, _ scratch: Scratch) {
        let tiles = Tiles(tokens: batch.tokens)
        let (shape, table, period) = (shape, rotaryTable, batch.sequence)
        let output = WeightGradient(dW: gradients.output, dY: scratch.dResidual, x: saved.attended)
        pool.run(tiles.count + output.tiles, stage: "attention output backward", flops: 2 * output.flops) { tile, _ in
            guard tile < tiles.count else { return output.run(tile - tiles.count) }
            let (start, count) = tiles.range(tile)
            Gemm.times(scratch.dAttended.rows(start, count), scratch.dResidual.rows(start, count), weights.output)
        }
        strategy.backward(scratch.dQKV, dOut: scratch.dAttended, out: saved.attended, logSum: saved.logSum,
                          qkv: saved.qkv, shape: shape, segments: batch.segments)
        pool.run(tiles.count, stage: "qkv backward", flops: weights.qkv.flops(tokens: batch.tokens)) { tile, _ in
            let (start, count) = tiles.range(tile)
            let dQKV = scratch.dQKV.rows(start, count), input = saved.input.rows(start, count)
            let inverse = saved.inputInverse.slice(start, count)
            rotary(dQKV.columns(0, (shape.heads + shape.keyHeads) * shape.headDim), table: table,
                   headDim: shape.headDim, firstPosition: start, period: period, inverse: true)
            let dNormed = scratch.dNormed.rows(start, count)
            Gemm.times(dNormed, dQKV, weights.qkv)
            rmsNormScale(scratch.normed.rows(start, count), x: input, inverse: inverse, gain: weights.inputGain)
            let share = scratch.dGains.row(tile)
            share.fill(0)
            rmsNormBackward(scratch.dResidual.rows(start, count), dGain: share, dOut: dNormed, x: input,
                            inverse: inverse, gain: weights.inputGain)
        }
        addShares(gradients.inputGain, scratch.dGains)
        WeightGradient(dW: gradients.qkv, dY: scratch.dQKV, x: scratch.normed)
            .run(pool: pool, stage: "qkv weight gradients")
    }
}
