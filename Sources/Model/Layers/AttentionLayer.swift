import Recipe
import Tensor

/// middle = input + output(attention(rotary(qkv(norm(input))))): the first half of a block.
struct AttentionLayer {
    let shape: AttentionShape
    let rotaryTable: RotaryTable
    let epsilon: Float
    let pool: Pool
    let matmul: Recipe.Matmul
    let strategy: any AttentionStrategy

    /// Reads saved.input; writes the other attention slots of `saved`, and saved.middle.
    func forward(_ saved: LayerSaved, _ weights: Parameters.Layer, _ batch: MicroBatch, _ scratch: Scratch) {
        let tiles = Tiles(tokens: batch.tokens)
        let (shape, table, epsilon, period) = (shape, rotaryTable, epsilon, batch.sequence)
        let qkvLinear = Linear(weight: weights.qkv, matmul: matmul)
        let outputLinear = Linear(weight: weights.output, matmul: matmul)
        var memory = PackingMemory(scratch.packedWeights)
        let qkvProduct = qkvLinear.forward(&memory), outputProduct = outputLinear.forward(&memory)
        pack(qkvProduct, outputProduct, pool: pool)
        pool.run(tiles.count, stage: "qkv", flops: qkvLinear.flops(tokens: batch.tokens)) { tile, _ in
            let (start, count) = tiles.range(tile)
            let normed = scratch.normed.rows(start, count), qkv = saved.qkv.rows(start, count)
            rmsNorm(normed, inverse: saved.inputInverse.slice(start, count), x: saved.input.rows(start, count),
                    gain: weights.inputGain, epsilon: epsilon)
            qkvProduct.multiply(qkv, normed)
            if let bias = weights.qkvBias { addToRows(qkv, bias) }
            rotary(qkv.columns(0, (shape.heads + shape.keyHeads) * shape.headDim), table: table,
                   headDim: shape.headDim, firstPosition: start, period: period)
        }
        strategy.forward(saved.attended, logSum: saved.logSum, qkv: saved.qkv, shape: shape, segments: batch.segments)
        pool.run(tiles.count, stage: "attention output",
                 flops: outputLinear.flops(tokens: batch.tokens)) { tile, _ in
            let (start, count) = tiles.range(tile)
            let middle = saved.middle.rows(start, count)
            middle.copy(saved.input.rows(start, count))
            outputProduct.multiply(middle, saved.attended.rows(start, count), accumulate: true)
        }
    }

    /// scratch.dResidual holds d(middle) and becomes d(input). Weight gradients are added to `gradients`.
    func backward(_ saved: LayerSaved, _ weights: Parameters.Layer, _ gradients: Parameters.Layer,
                  _ batch: MicroBatch, _ scratch: Scratch) {
        let tiles = Tiles(tokens: batch.tokens)
        let (shape, table, period) = (shape, rotaryTable, batch.sequence)
        let qkvLinear = Linear(weight: weights.qkv, matmul: matmul)
        let outputLinear = Linear(weight: weights.output, matmul: matmul)
        var memory = PackingMemory(scratch.packedWeights)
        let qkvProduct = qkvLinear.inputGradient(&memory), outputProduct = outputLinear.inputGradient(&memory)
        pack(qkvProduct, outputProduct, pool: pool)
        pool.run(tiles.count, stage: "attention output backward",
                 flops: outputLinear.flops(tokens: batch.tokens)) { tile, _ in
            let (start, count) = tiles.range(tile)
            outputProduct.multiply(scratch.dAttended.rows(start, count), scratch.dResidual.rows(start, count))
        }
        outputLinear.weightGradient(gradients.output, dY: scratch.dResidual, x: saved.attended,
                                    packedInput: scratch.packedInput)
            .run(pool: pool, stage: "attention output weight gradients")
        strategy.backward(scratch.dQKV, dOut: scratch.dAttended, out: saved.attended, logSum: saved.logSum,
                          qkv: saved.qkv, shape: shape, segments: batch.segments)
        pool.run(tiles.count, stage: "qkv backward", flops: qkvLinear.flops(tokens: batch.tokens)) { tile, _ in
            let (start, count) = tiles.range(tile)
            let dQKV = scratch.dQKV.rows(start, count), input = saved.input.rows(start, count)
            let inverse = saved.inputInverse.slice(start, count)
            rotary(dQKV.columns(0, (shape.heads + shape.keyHeads) * shape.headDim), table: table,
                   headDim: shape.headDim, firstPosition: start, period: period, inverse: true)
            if weights.qkvBias != nil { sumRows(scratch.dBiases.row(tile), dQKV) }
            let dNormed = scratch.dNormed.rows(start, count)
            qkvProduct.multiply(dNormed, dQKV)
            rmsNormScale(scratch.normed.rows(start, count), x: input, inverse: inverse, gain: weights.inputGain)
            let share = scratch.dGains.row(tile)
            share.fill(0)
            rmsNormBackward(scratch.dResidual.rows(start, count), dGain: share, dOut: dNormed, x: input,
                            inverse: inverse, gain: weights.inputGain)
        }
        addShares(gradients.inputGain, scratch.dGains)
        if let bias = gradients.qkvBias { addShares(bias, scratch.dBiases) }
        qkvLinear.weightGradient(gradients.qkv, dY: scratch.dQKV, x: scratch.normed, packedInput: scratch.packedInput)
            .run(pool: pool, stage: "qkv weight gradients")
    }
}
