import Tensor

/// The sizes that kernels are made for.
public struct KernelSize: Sendable {
    public var rows, width, hidden, vocabulary, heads, keyHeads: Int
    public var headDim: Int { width / heads }

    /// A layer of the 26 M model, 2,048 tokens: far beyond the caches.
    public static let large = KernelSize(rows: 2_048, width: 512, hidden: 1_408, vocabulary: 8_192, heads: 8,
                                         keyHeads: 8)
    /// Odd everywhere: no whole lanes, no whole blocks, grouped heads.
    public static let small = KernelSize(rows: 5, width: 36, hidden: 21, vocabulary: 19, heads: 6, keyHeads: 2)
}

extension Kernel {
    public static func all(_ size: KernelSize) throws -> [Kernel] {
        [gemm(size), rmsNorm(size), try rotary(size), swiGLU(size), crossEntropy(size), embedding(size),
         try attention(size), adamW(size), gradientNorm(size)]
    }

    /// Token ids that visit all of the vocabulary in no order.
    private static func id(_ row: Int, _ size: KernelSize) -> Int { (row * 7_919 + 3) % size.vocabulary }

    private static func ids(_ size: KernelSize) -> [Int32] { (0..<size.rows).map { Int32(id($0, size)) } }

    private static func pass(_ outputs: [Operand], _ bytes: Int, _ flops: Int,
                             _ run: @escaping @Sendable (Operands) -> Void) -> Pass {
        Pass(outputs: outputs, bytes: Double(bytes), flops: Double(flops), run: run)
    }

    static func gemm(_ size: KernelSize) -> Kernel {
        let (m, n, k) = (size.rows, size.hidden, size.width)
        let bytes = 4 * (m * k + n * k + m * n), flops = 2 * m * n * k
        let input = [Operand(m, k, .normal(1)), Operand(n, k, .normal(1)), Operand(m, n, .normal(1))]
        return Kernel(
            name: "gemm", inputs: input,
            forward: pass([Operand(m, n)], bytes, flops) {
                Gemm.timesTransposed($0.outputs[0], $0.inputs[0], $0.inputs[1])
            },
            reference: { [DoubleReference.product($0[0], $0[1], k: k)] },
            backward: Backward(of: [0, 1], seed: 2, pass: pass([Operand(m, k), Operand(n, k)], 2 * bytes, 2 * flops) {
                Gemm.times($0.gradients[0], $0.inputs[2], $0.inputs[1])
                Gemm.transposedTimes($0.gradients[1], $0.inputs[2], $0.inputs[0])
            }))
    }

    static func rmsNorm(_ size: KernelSize) -> Kernel {
        let (rows, width) = (size.rows, size.width), count = rows * width
        let epsilon: Float = 1e-3
        let x = Operand(rows, width, .normal(1))
        return Kernel(
            name: "rmsNorm", inputs: [x, Operand(1, width, .normal(1)), x],
            forward: pass([Operand(rows, width), Operand(1, rows)], 4 * 2 * count, 5 * count) {
                Tensor.rmsNorm($0.outputs[0], inverse: $0.outputs[1].row(0), x: $0.inputs[0],
                               gain: $0.inputs[1].row(0), epsilon: epsilon)
            },
            reference: { [DoubleReference.rmsNorm($0[0], $0[1], epsilon: Double(epsilon))] },
            // The gradient of x is added to what is there, which is one more read.
            backward: Backward(of: [0, 1], seed: 2, pass: pass([Operand(rows, width), Operand(1, width)],
                                                               4 * 4 * count, 12 * count) {
                rmsNormBackward($0.gradients[0], dGain: $0.gradients[1].row(0), dOut: $0.inputs[2], x: $0.inputs[0],
                                inverse: $0.outputs[1].row(0), gain: $0.inputs[1].row(0))
            }))
    }

    static func rotary(_ size: KernelSize) throws -> Kernel {
        let (rows, width, headDim) = (size.rows, size.width, size.headDim)
        let theta = 500.0
        let arena = try Arena(name: "angles", capacity: RotaryTable.floats(positions: rows, headDim: headDim))
        let table = RotaryTable(arena, positions: rows, headDim: headDim, theta: theta)
        let x = Operand(rows, width, .normal(1)), bytes = 4 * (2 * rows * width + rows * headDim)
        return Kernel(
            name: "rotary", inputs: [x, x],
            forward: pass([Operand(rows, width, .copy(0))], bytes, 3 * rows * width) { operands in
                withExtendedLifetime(arena) {
                    Tensor.rotary(operands.outputs[0], table: table, headDim: headDim, firstPosition: 0, period: rows)
                }
            },
            reference: { [DoubleReference.rotary($0[0], columns: width, headDim: headDim, theta: theta)] },
            backward: Backward(of: [0], seed: 1, pass: pass([Operand(rows, width, .copy(1))], bytes, 3 * rows * width) {
                Tensor.rotary($0.gradients[0], table: table, headDim: headDim, firstPosition: 0, period: rows,
                              inverse: true)
            }))
    }

    static func swiGLU(_ size: KernelSize) -> Kernel {
        let (rows, width) = (size.rows, size.hidden), count = rows * width
        return Kernel(
            name: "swiGLU", inputs: [Operand(rows, 2 * width, .normal(2)), Operand(rows, width, .normal(1))],
            forward: pass([Operand(rows, width)], 4 * 3 * count, 20 * count) {
                Tensor.swiGLU($0.outputs[0], gateUp: $0.inputs[0])
            },
            reference: { [DoubleReference.swiGLU($0[0], width: width)] },
            // The forward's result is made again beside the gradient.
            backward: Backward(of: [0], seed: 1, pass: pass([Operand(rows, 2 * width)], 4 * 6 * count, 26 * count) {
                swiGLUBackward($0.gradients[0], recomputed: $0.outputs[0], dH: $0.inputs[1], gateUp: $0.inputs[0])
            }))
    }

    static func crossEntropy(_ size: KernelSize) -> Kernel {
        let (rows, vocabulary) = (size.rows, size.vocabulary), count = rows * vocabulary
        let ids = ids(size)
        @Sendable func loss(_ logits: Matrix, _ scale: Float?) -> Float {
            Float(Targets.lend(ids, count: rows) {
                Tensor.crossEntropy(logits, targets: $0, gradientScale: scale)
            })
        }
        return Kernel(
            name: "crossEntropy", inputs: [Operand(rows, vocabulary, .normal(2)), Operand(1, 1, .normal(1))],
            forward: pass([Operand(1, 1)], 4 * count, 18 * count) {
                $0.outputs[0].row(0)[0] = loss($0.inputs[0], nil)
            },
            reference: { values in
                [[DoubleReference.crossEntropy(values[0], vocabulary: vocabulary) { id($0, size) }]]
            },
            // In place, as the head uses it: logits become their own gradient.
            backward: Backward(of: [0], seed: 1, pass: pass([Operand(rows, vocabulary, .copy(0))], 8 * count,
                                                            19 * count) {
                _ = loss($0.gradients[0], $0.inputs[1].row(0)[0])
            }))
    }

    static func embedding(_ size: KernelSize) -> Kernel {
        let (rows, width) = (size.rows, size.width), count = rows * width
        let ids = ids(size)
        return Kernel(
            name: "embedding", inputs: [Operand(size.vocabulary, width, .normal(1)), Operand(rows, width, .normal(1))],
            forward: pass([Operand(rows, width)], 8 * count, 0) { operands in
                Targets.lend(ids, count: rows) {
                    gatherRows(operands.outputs[0], table: operands.inputs[0], tokens: $0)
                }
            },
            reference: { values in
                [(0..<rows).flatMap { row in values[0][(id(row, size) * width)..<((id(row, size) + 1) * width)] }]
            },
            backward: Backward(of: [0], seed: 1, pass: pass([Operand(size.vocabulary, width)], 12 * count,
                                                            count) { all in
                Targets.lend(ids, count: rows) {
                    scatterRows(all.gradients[0], dOut: all.inputs[1], tokens: $0, columns: 0..<width)
                }
            }))
    }
}
