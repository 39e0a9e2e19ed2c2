import Recipe
import Tensor

/// middle = input + output(attention(rotary(qkv(norm(input))))): the first half of a block.
struct AttentionLayer {
    let shape: AttentionShape
    let rotaryTable: RotaryTable
    let epsilon: Float
    let pool: Pool
    let linears: Linears
    let strategy: any AttentionStrategy

    /// Reads saved.input; writes the other attention slots of `saved`, and saved.middle.
    func forward(_ saved: LayerSaved, _ weights: Parameters.Layer, _ batch: MicroBatch, _ scratch: Scratch) {
        let tiles = Tiles(tokens: batch.tokens)
        let epsilon = epsilon, turn = Turn(shape: shape, table: rotaryTable)
        let qkvLinear = linears.make(.qkv, saved, weights.qkv)
        let outputLinear = linears.make(.output, saved, weights.output)
        var memory = PackingMemory(scratch.packedWeights, tokens: batch.tokens, pool: pool)
        let groups = HeadGroups(shape, strategy, isCuttable: qkvLinear.isCuttable && outputLinear.isCuttable)
        let qkvProduct = qkvLinear.forward(&memory)
        let outputProduct = outputLinear.forward(&memory, pieces: groups.count)
        pack(qkvProduct, outputProduct, pool: pool)
        // A function and not a closure, which would be made on the heap.
        @Sendable func norm(_ tile: Int) {
            let (start, count) = tiles.range(tile)
            rmsNorm(scratch.normed.rows(start, count), inverse: saved.inputInverse.slice(start, count),
                    x: saved.input.rows(start, count), gain: weights.inputGain, epsilon: epsilon)
        }
        let isSplit = qkvProduct.needsWhole
        if isSplit {
            pool.run(tiles.count, stage: "qkv") { tile, _ in norm(tile) }
            qkvProduct.measure(scratch.normed, pool: pool)
        }
        for stage in 0..<groups.stages {
            inParts(tiles, "qkv", qkvLinear, share: groups.stages, after: { part in
                guard !groups.isKeysFirst || stage == 1 else { return }
                for group in groups.exchanged(with: groups.isKeysFirst ? 0 : stage) {
                    strategy.made(part, group, qkv: saved.qkv, kept: saved.exchanged)
                }
            }) { tile, worker in
                if !isSplit, stage == 0 { norm(tile) }
                let (start, count) = tiles.range(tile)
                for strip in 0..<groups.strips {
                    let (first, width, turned) = groups.columns(strip, of: stage)
                    let product = groups.stages == 1 ? qkvProduct : qkvProduct.columns(first, width)
                    let qkv = saved.qkv.rows(start, count).columns(first, width)
                    product.multiply(qkv, scratch.normed.rows(start, count), at: start, worker: worker)
                    if let bias = weights.qkvBias { addToRows(qkv, bias.slice(first, width)) }
                    if turned > 0 { turn(qkv.columns(0, turned), batch, from: start) }
                }
            }
            if stage == 0, groups.isKeysFirst { strategy.keysMade(saved.qkv) }
        }
        if !groups.isKeysFirst { strategy.keysMade(saved.qkv) }
        strategy.forward(saved.attended, logSum: saved.logSum, kept: saved.exchanged, qkv: saved.qkv, shape: shape,
                         segments: batch.segments)
        forwardOutput(groups, outputLinear, outputProduct, saved, tiles)
    }

    /// middle = input + output(attended).
    private func forwardOutput(_ groups: HeadGroups, _ linear: Linear, _ product: LinearProduct, _ saved: LayerSaved,
                               _ tiles: Tiles) {
        func arrive(_ part: Int, _ group: Int) {
            for awaited in groups.exchanged(with: group) { strategy.arrived(part, awaited, out: saved.attended) }
        }
        let isWhole = product.needsWhole, width = saved.attended.columns / groups.count
        if isWhole {
            for part in 0..<strategy.parts { arrive(part, 0) }
            product.measure(saved.attended, pool: pool)
        }
        for group in 0..<groups.count {
            inParts(tiles, "attention output", linear, share: groups.count, before: { part in
                if !isWhole { arrive(part, group) }
            }) { tile, worker in
                let (start, count) = tiles.range(tile)
                let middle = saved.middle.rows(start, count)
                if group == 0 { middle.copy(saved.input.rows(start, count)) }
                product.piece(group).multiply(middle, saved.attended.rows(start, count).columns(group * width, width),
                                              at: start, worker: worker, accumulate: true)
            }
        }
    }

    /// A stage over all tiles, in the parts in which the strategy exchanges their rows. It is one of `share` parts of a
    /// product.
    private func inParts(_ tiles: Tiles, _ stage: StaticString, _ linear: Linear, share: Int = 1,
                         before: (Int) -> Void = { _ in }, after: (Int) -> Void = { _ in },
                         _ body: @Sendable (_ tile: Int, _ worker: Int) -> Void) {
        let parts = strategy.parts
        for part in 0..<parts {
            before(part)
            let own = tiles.part(part, of: parts)
            let tokens = own.isEmpty ? 0 : tiles.range(own.upperBound - 1).start + tiles.range(own.upperBound - 1).count
                - tiles.range(own.lowerBound).start
            pool.run(own.count, stage: stage, flops: linear.flops(tokens: tokens) / share) { tile, worker in
                body(own.lowerBound + tile, worker)
            }
            after(part)
        }
    }

    /// scratch.dResidual holds d(middle) and becomes d(input). Weight gradients are added to `gradients`. `left`: of
    /// the MLP behind, for which nothing waits; they are computed while gradients of attention are on their way.
    func backward(_ saved: LayerSaved, _ weights: Parameters.Layer, _ gradients: Parameters.Layer,
                  _ batch: MicroBatch, _ scratch: Scratch, left: (WeightGradient, WeightGradient)?) {
        let tiles = Tiles(tokens: batch.tokens)
        let turn = Turn(shape: shape, table: rotaryTable), turned = (shape.heads + shape.keyHeads) * shape.headDim
        let qkvLinear = linears.make(.qkv, saved, weights.qkv)
        let outputLinear = linears.make(.output, saved, weights.output)
        var memory = PackingMemory(scratch.packedWeights, tokens: batch.tokens, pool: pool)
        strategy.keysMade(saved.qkv)
        let qkvProduct = qkvLinear.inputGradient(&memory), outputProduct = outputLinear.inputGradient(&memory)
        pack(qkvProduct, outputProduct, pool: pool)
        outputProduct.measure(scratch.dResidual, pool: pool)
        inParts(tiles, "attention output backward", outputLinear, after: { part in
            strategy.made(part, dOut: scratch.dAttended)
        }) { tile, worker in
            let (start, count) = tiles.range(tile)
            outputProduct.multiply(scratch.dAttended.rows(start, count), scratch.dResidual.rows(start, count),
                                   at: start, worker: worker)
        }
        left?.0.run(pool: pool, stage: "mlp weight gradients")
        strategy.backward(scratch.dQKV, dOut: scratch.dAttended, out: saved.attended, logSum: saved.logSum,
                          kept: saved.exchanged, qkv: saved.qkv, shape: shape, segments: batch.segments)
        // Nothing waits for it, so gradients of queries, keys and values may be on their way meanwhile.
        outputLinear.weightGradient(gradients.output, dY: scratch.dResidual, x: saved.attended,
                                    packedInput: scratch.packedInput)
            .run(pool: pool, stage: "attention output weight gradients")
        left?.1.run(pool: pool, stage: "mlp weight gradients")
        strategy.finish(scratch.dQKV)
        pool.run(tiles.count, stage: "qkv backward", flops: qkvLinear.flops(tokens: batch.tokens),
                 split: qkvProduct.needsWhole) { tile, _ in
            let (start, count) = tiles.range(tile)
            turn(scratch.dQKV.rows(start, count).columns(0, turned), batch, from: start, inverse: true)
            if weights.qkvBias != nil { sumRows(scratch.dBiases.row(tile), scratch.dQKV.rows(start, count)) }
        } between: {
            qkvProduct.measure(scratch.dQKV, pool: pool)
        } _: { tile, worker in
            let (start, count) = tiles.range(tile)
            let input = saved.input.rows(start, count), inverse = saved.inputInverse.slice(start, count)
            let dNormed = scratch.dNormed.rows(start, count)
            qkvProduct.multiply(dNormed, scratch.dQKV.rows(start, count), at: start, worker: worker)
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
