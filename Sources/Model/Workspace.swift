import Recipe
import Tensor

/// What a forward leaves for its backward in one layer. T tokens of the micro-batch at hand. With recomputation, layers
/// share the slots that the backward makes again.
struct LayerSaved {
    let index: Int               // of the layer
    let input: Matrix            // [T, D] the residual stream before the layer
    let inputInverse: Row        // [T]    RMSNorm's 1 / root
    let qkv: Matrix              // [T, C] rotated queries and keys, values
    let exchanged: Row           // what the attention strategy keeps
    let attended: Matrix         // [T, H * headDim]
    let logSum: Matrix           // [H, T]
    let middle: Matrix           // [T, D] the residual stream between attention and MLP
    let middleInverse: Row       // [T]
    let gateUp: Matrix           // [T, 2F] in the backward it becomes its own gradient
    let smoothing: Row           // what Smoothing keeps of channels or tokens, where the MLP's product is smoothed
}

/// What a forward leaves for its backward in the whole model: named slots of one arena.
public struct Saved {
    var layers: [LayerSaved]
    var final: Matrix            // [T, D] the residual stream after the last layer
    var finalInverse: Row        // [T]
}

/// Memory that one layer after the other uses, and nobody keeps.
struct Scratch {
    let normed: Matrix           // [T, D] normalised activations; made again in the backward
    let hidden: Matrix           // [T, F] SwiGLU's output; in the backward first its gradient, then itself
    let dResidual: Matrix        // [T, D] gradient of the residual stream, from the head down to the embedding
    let dNormed: Matrix          // [T, D]
    let dQKV: Matrix             // [T, C]
    let dAttended: Matrix        // [T, H * headDim]
    let dGains: Matrix           // [tiles, D] each tile's share of a gain's gradient
    let dBiases: Matrix          // [tiles, C] the same of the biases; no columns in a model without
    let packedWeights: Row       // of one stage; a part of logits where the head is cut by words
    let packedInput: Row         // of one weight's gradient
    let headShares: Row          // [groups, chunkRows, D] each group of words' share of the head's dNormed
    let headSums: Row            // [chunkRows, 2 blocks + 1]
    let logits: Row              // chunkRows x V
}

/// The activations' memory, carved once for the largest micro-batch; a micro-batch of fewer tokens uses the first rows.
struct Workspace {
    let slots: ActivationSlots
    private let saved: Saved
    private let scratch: Scratch

    init(_ slots: ActivationSlots, shape: Recipe.ModelShape, memory: Arena) {
        self.slots = slots
        var perLayer = [[String: Row]](repeating: [:], count: shape.layers), once: [String: Row] = [:]
        for slot in slots.slots {
            if slot.isPerLayer {
                for layer in 0..<slot.copies { perLayer[layer][slot.name] = memory.take(slot.floats) }
            } else {
                once[slot.name] = memory.take(slot.floats)
            }
        }
        func matrix(_ row: Row?, _ rows: Int, _ columns: Int) -> Matrix {
            guard let row else { preconditionFailure("a slot is missing") }
            return Matrix(row, rows: rows, columns: columns)
        }
        func row(_ name: String) -> Row { matrix(once[name], 1, slots.floats(name)).row(0) }
        let tokens = slots.tokens, dim = shape.dim, heads = shape.heads * shape.headDim
        let fused = (shape.heads + 2 * shape.keyHeads) * shape.headDim
        let tiles = (tokens + ActivationSlots.tileRows - 1) / ActivationSlots.tileRows
        let layers = perLayer.enumerated().map { index, own in
            let slot = once.merging(own) { _, own in own }
            return LayerSaved(
                index: index, input: matrix(slot["input"], tokens, dim),
                inputInverse: matrix(slot["inputInverse"], 1, tokens).row(0),
                qkv: matrix(slot["qkv"], tokens, fused),
                exchanged: slot["exchanged"] ?? memory.take(0),
                attended: matrix(slot["attended"], tokens, heads),
                logSum: matrix(slot["logSum"], shape.heads, tokens),
                middle: matrix(slot["middle"], tokens, dim),
                middleInverse: matrix(slot["middleInverse"], 1, tokens).row(0),
                gateUp: matrix(slot["gateUp"], tokens, 2 * shape.hiddenDim),
                smoothing: slot["smoothing"] ?? memory.take(0))
        }
        saved = Saved(layers: layers, final: matrix(once["final"], tokens, dim),
                      finalInverse: matrix(once["finalInverse"], 1, tokens).row(0))
        let logits = row("logits"), inLogits = slots.weightsInLogits
        scratch = Scratch(
            normed: matrix(once["normed"], tokens, dim),
            hidden: matrix(once["hidden"], tokens, shape.hiddenDim),
            dResidual: matrix(once["dResidual"], tokens, dim),
            dNormed: matrix(once["dNormed"], tokens, dim),
            dQKV: matrix(once["dQKV"], tokens, fused),
            dAttended: matrix(once["dAttended"], tokens, heads),
            dGains: matrix(once["dGains"], tiles, dim),
            dBiases: matrix(once["dBiases"] ?? once["dGains"], tiles, shape.hasBias ? fused : 0),
            packedWeights: inLogits > 0 ? logits.slice(0, inLogits) : row("packedWeights"),
            packedInput: row("packedInput"), headShares: row("headShares"), headSums: row("headSums"), logits: logits)
    }

    /// Views of everything, for the largest micro-batch.
    var whole: (Saved, Scratch) {
        (Saved(layers: saved.layers.map { $0.first(slots.tokens) }, final: saved.final,
               finalInverse: saved.finalInverse), scratch)
    }

    /// Makes the views those of `tokens` tokens. Allocates nothing as long as nobody else holds `views`:
    /// lengths may change from step to step.
    func resize(_ views: inout (saved: Saved, scratch: Scratch), to tokens: Int) {
        for layer in saved.layers.indices { views.saved.layers[layer] = saved.layers[layer].first(tokens) }
        views.saved.final = saved.final.rows(0, tokens)
        views.saved.finalInverse = saved.finalInverse.slice(0, tokens)
        views.scratch = scratch.first(tokens)
    }
}

extension LayerSaved {
    func first(_ tokens: Int) -> LayerSaved {
        LayerSaved(index: index, input: input.rows(0, tokens), inputInverse: inputInverse.slice(0, tokens),
                   qkv: qkv.rows(0, tokens), exchanged: exchanged, attended: attended.rows(0, tokens),
                   logSum: Matrix(logSum.all.slice(0, logSum.rows * tokens), rows: logSum.rows, columns: tokens),
                   middle: middle.rows(0, tokens), middleInverse: middleInverse.slice(0, tokens),
                   gateUp: gateUp.rows(0, tokens), smoothing: smoothing)
    }
}

extension Scratch {
    func first(_ tokens: Int) -> Scratch {
        let tiles = (tokens + ActivationSlots.tileRows - 1) / ActivationSlots.tileRows
        return Scratch(normed: normed.rows(0, tokens), hidden: hidden.rows(0, tokens),
                       dResidual: dResidual.rows(0, tokens), dNormed: dNormed.rows(0, tokens),
                       dQKV: dQKV.rows(0, tokens), dAttended: dAttended.rows(0, tokens),
                       dGains: dGains.rows(0, tiles), dBiases: dBiases.rows(0, tiles), packedWeights: packedWeights,
                       packedInput: packedInput, headShares: headShares, headSums: headSums, logits: logits)
    }
}
