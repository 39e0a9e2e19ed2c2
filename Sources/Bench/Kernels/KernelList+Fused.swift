import Tensor

extension Kernel {
    /// One causal segment. FLOPs are what an exact algorithm without recomputation multiplies and adds: two products
    /// forward and four backward, over half of the square.
    static func attention(_ size: KernelSize) throws -> Kernel {
        let shape = AttentionShape(heads: size.heads, keyHeads: size.keyHeads, headDim: size.headDim)
        let (rows, wide, fused) = (size.rows, size.width, shape.fusedColumns)
        let arena = try Arena(name: "attention scratch", capacity: Arena.padded(shape.scratchFloats(segment: rows)))
        let scratch = arena.take(rows: 1, columns: shape.scratchFloats(segment: rows))
        let pool = Pool(threads: 1)
        let starts = [0, Int32(rows)]
        let flops = 2 * rows * rows * wide
        return Kernel(
            name: "attention", inputs: [Operand(rows, fused, .normal(1)), Operand(rows, wide, .normal(1))],
            forward: Pass(outputs: [Operand(rows, wide), Operand(size.heads, rows)],
                          bytes: Double(4 * rows * (fused + wide)), flops: Double(flops)) { operands in
                Targets.lend(starts, count: 2) {
                    Tensor.attention(operands.outputs[0], logSum: operands.outputs[1], qkv: operands.inputs[0],
                                     shape: shape, segments: Segments($0), scratch: scratch, pool: pool)
                }
                withExtendedLifetime(arena) {}
            },
            reference: {
                [DoubleReference.attention($0[0], heads: size.heads, keyHeads: size.keyHeads, headDim: size.headDim)]
            },
            backward: Backward(of: [0], seed: 1, pass: Pass(
                outputs: [Operand(rows, fused)], bytes: Double(4 * rows * (2 * fused + 2 * wide)),
                flops: Double(2 * flops)) { operands in
                Targets.lend(starts, count: 2) {
                    attentionBackward(operands.gradients[0], dOut: operands.inputs[1], out: operands.outputs[0],
                                      logSum: operands.outputs[1], qkv: operands.inputs[0], shape: shape,
                                      segments: Segments($0), scratch: scratch, pool: pool)
                }
            }))
    }

    /// An update is nobody's forward, so there is nothing to differentiate.
    static func adamW(_ size: KernelSize) -> Kernel {
        let count = size.rows * size.width
        let step = AdamWStep(learningRate: 0.01, beta1: 0.75, beta2: 0.5, epsilon: 0.125, weightDecay: 0.25,
                             correction1: 0.25, correction2: 0.5, gradientScale: 1)
        let input = Operand(1, count, .normal(1)), positive = Operand(1, count, .zero)
        return Kernel(
            name: "adamW", inputs: [input, input, positive, input],
            forward: Pass(outputs: (0..<3).map { Operand(1, count, .copy($0)) },
                          bytes: Double(28 * count), flops: Double(14 * count)) {
                Tensor.adamW($0.outputs[0].row(0), momentum: $0.outputs[1].row(0), variance: $0.outputs[2].row(0),
                             gradient: $0.inputs[3].row(0), step)
            },
            reference: {
                DoubleReference.adamW($0, rate: Double(step.learningRate), beta1: 0.75, beta2: 0.5, epsilon: 0.125,
                                      decay: 0.25, correction1: 0.25, correction2: 0.5)
            },
            backward: nil)
    }

    static func gradientNorm(_ size: KernelSize) -> Kernel {
        let count = size.rows * size.width
        return Kernel(
            name: "gradientNorm", inputs: [Operand(1, count, .normal(1))],
            forward: Pass(outputs: [Operand(1, 1)], bytes: Double(4 * count), flops: Double(2 * count)) {
                $0.outputs[0].row(0)[0] = Float(sumOfSquares($0.inputs[0].row(0)))
            },
            reference: { [[$0[0].reduce(0) { $0 + $1 * $1 }]] }, backward: nil)
    }
}
