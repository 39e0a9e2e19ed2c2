import Recipe
import TestSupport

/// The transformer on the Double tape, written from the names and shapes of the parameter table and from
/// Hugging Face's Llama: q, k and v, gate and up apart, the whole batch at once, no tiles, no chunks.
struct DoubleTransformer {
    let table: ParameterTable

    /// The sum of the token losses, and its gradient in the flat vector's layout (zero in the padding).
    func lossAndGradient(_ weights: [Double], _ batch: Batch) -> (loss: Double, gradient: [Double]) {
        let tape = Tape()
        let (loss, parameters) = forward(tape, weights, batch)
        tape.backward(loss, seed: [1])
        var gradient = [Double](repeating: 0, count: table.count)
        for parameter in table.parameters {
            guard let value = parameters[parameter.name] else { continue }
            gradient.replaceSubrange(parameter.range, with: tape.gradient(value))
        }
        return (tape[loss][0], gradient)
    }

    func loss(_ weights: [Double], _ batch: Batch) -> Double {
        let tape = Tape()
        return tape[forward(tape, weights, batch).loss][0]
    }

    private func forward(_ tape: Tape, _ weights: [Double], _ batch: Batch)
        -> (loss: Tape.Value, parameters: [String: Tape.Value]) {
        let shape = table.shape
        var leaves: [String: Tape.Value] = [:]
        for parameter in table.parameters {
            let rows = parameter.shape.count == 1 ? 1 : parameter.shape[0]
            leaves[parameter.name] = tape.input(Array(weights[parameter.range]), rows: rows,
                                                columns: parameter.shape.last ?? 0)
        }
        func leaf(_ name: String) -> Tape.Value {
            guard let value = leaves[name] else { preconditionFailure("no parameter \(name)") }
            return value
        }
        func linear(_ x: Tape.Value, _ name: String) -> Tape.Value { tape.matmul(x, leaf(name), transposeB: true) }
        func norm(_ x: Tape.Value, _ name: String) -> Tape.Value {
            tape.rmsNorm(x, gain: leaf(name), epsilon: shape.normEpsilon)
        }
        func turned(_ x: Tape.Value) -> Tape.Value {
            tape.rotary(x, headDim: shape.headDim, theta: shape.ropeTheta, period: batch.sequence, scaled: scaled)
        }
        let ones = tape.input([Double](repeating: 1, count: batch.inputs.count), rows: batch.inputs.count, columns: 1)
        func biased(_ x: Tape.Value, _ name: String) -> Tape.Value {
            leaves[name].map { tape.add(x, tape.matmul(ones, $0)) } ?? x
        }
        var residual = tape.gather(leaf("model.embed_tokens.weight"), tokens: batch.inputs)
        for layer in 0..<shape.layers {
            let prefix = "model.layers.\(layer)."
            let normed = norm(residual, prefix + "input_layernorm.weight")
            func projected(_ name: String) -> Tape.Value {
                biased(linear(normed, "\(prefix)self_attn.\(name).weight"), "\(prefix)self_attn.\(name).bias")
            }
            let attended = tape.attention(q: turned(projected("q_proj")), k: turned(projected("k_proj")),
                                          v: projected("v_proj"),
                                          heads: shape.heads, keyHeads: shape.keyHeads, starts: batch.starts)
            residual = tape.add(residual, linear(attended, prefix + "self_attn.o_proj.weight"))
            let middle = norm(residual, prefix + "post_attention_layernorm.weight")
            let hidden = tape.swiGLU(gate: linear(middle, prefix + "mlp.gate_proj.weight"),
                                     up: linear(middle, prefix + "mlp.up_proj.weight"))
            residual = tape.add(residual, linear(hidden, prefix + "mlp.down_proj.weight"))
        }
        let head = shape.tieEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"
        let logits = linear(norm(residual, "model.norm.weight"), head)
        return (tape.crossEntropy(logits, targets: batch.targets), leaves)
    }

    /// A frequency as the model's scaling leaves it, by wavelengths, as Hugging Face's modeling_rope_utils tells it.
    private func scaled(_ frequency: Double) -> Double {
        let shape = table.shape, length = Double(shape.ropeOriginalLength)
        switch shape.ropeScaling {
        case .none: return frequency
        case .linear: return frequency / shape.ropeFactor
        case .llama3:
            let wavelength = 2 * Double.pi / frequency
            if wavelength < length / shape.ropeHighFactor { return frequency }
            if wavelength > length / shape.ropeLowFactor { return frequency / shape.ropeFactor }
            let smooth = (length / wavelength - shape.ropeLowFactor) / (shape.ropeHighFactor - shape.ropeLowFactor)
            return frequency / shape.ropeFactor * (1 - smooth) + frequency * smooth
        }
    }
}
