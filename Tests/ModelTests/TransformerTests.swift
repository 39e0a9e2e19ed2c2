import Base
import Model
import Recipe
import Tensor
import Testing
import TestSupport

@Suite struct TransformerTests {
    static let cases = [
        ModelCase("one head", dim: 8, layers: 1, heads: 1, keyHeads: 1, ffn: 12, vocabulary: 11, rows: 1, sequence: 5),
        ModelCase("one token", dim: 8, layers: 1, heads: 2, keyHeads: 1, ffn: 12, vocabulary: 11, rows: 3, sequence: 1),
        ModelCase("grouped queries, documents", dim: 24, layers: 2, heads: 4, keyHeads: 2, ffn: 40, vocabulary: 257,
                  rows: 3, sequence: 33, documents: [1, 20]),
        ModelCase("tied head", dim: 24, layers: 2, heads: 4, keyHeads: 1, ffn: 17, vocabulary: 257, tied: true,
                  rows: 2, sequence: 40),
        ModelCase("width of no whole lanes", dim: 30, layers: 3, heads: 3, keyHeads: 3, ffn: 21, vocabulary: 19,
                  rows: 2, sequence: 17, documents: [9]),
        ModelCase("several token tiles", dim: 16, layers: 2, heads: 2, keyHeads: 1, ffn: 150, vocabulary: 300,
                  rows: 5, sequence: 130, documents: [70]),
        ModelCase("several chunks of logits", dim: 8, layers: 1, heads: 2, keyHeads: 1, ffn: 16, vocabulary: 33_001,
                  rows: 3, sequence: 50),
        ModelCase("several chunks of a large vocabulary", dim: 16, layers: 1, heads: 2, keyHeads: 1, ffn: 16,
                  vocabulary: 16_641, rows: 5, sequence: 130),
        ModelCase("tied, several chunks", dim: 8, layers: 1, heads: 2, keyHeads: 2, ffn: 16, vocabulary: 33_001,
                  tied: true, rows: 2, sequence: 60),
    ] + others

    /// What other families have: heads of another width, biases, scaled rotations.
    static let others = [
        ModelCase("wide heads, Llama 3's scaling", dim: 16, layers: 2, heads: 4, keyHeads: 2, ffn: 20, vocabulary: 37,
                  rows: 2, sequence: 70, documents: [11]) {
            ($0.headWidth, $0.ropeScaling, $0.ropeOriginalLength) = (10, .llama3, 40)
        },
        ModelCase("biases, linear scaling", dim: 24, layers: 3, heads: 4, keyHeads: 2, ffn: 40, vocabulary: 41,
                  tied: true, rows: 3, sequence: 50, documents: [7]) {
            ($0.hasBias, $0.ropeScaling, $0.ropeFactor) = (true, .linear, 3)
        },
        ModelCase("narrow heads, biases", dim: 32, layers: 1, heads: 4, keyHeads: 1, ffn: 24, vocabulary: 23, rows: 2,
                  sequence: 9) { ($0.headWidth, $0.hasBias) = (2, true) },
    ]

    /// The loss, and the gradient of every parameter on its own. The padding stays zero.
    @Test(arguments: cases) func lossAndGradientsEqualTheTape(_ each: ModelCase) throws {
        let got = try each.run()
        let (loss, gradient) = DoubleTransformer(table: each.table).lossAndGradient(doubles(each.weights), each.batch)
        #expect(abs(got.losses[0] - loss) < 1e-6 * loss)
        var isParameter = [Bool](repeating: false, count: each.table.count)
        for parameter in each.table.parameters {
            let want = gradient[parameter.range].map { $0 * Double(each.scale) }
            let error = relativeError(Array(got.gradients[parameter.range]), want)
            // A single token attends to itself alone: what decides where to look has no gradient.
            let looks = parameter.name.contains("q_proj") || parameter.name.contains("k_proj")
            if each.batch.sequence == 1, looks {
                #expect(got.gradients[parameter.range].allSatisfy { abs($0) < 1e-6 })
            } else {
                #expect(error < 1e-5, "\(parameter.name): \(error)")
            }
            for index in parameter.range { isParameter[index] = true }
        }
        for index in isParameter.indices where !isParameter[index] { #expect(got.gradients[index] == 0) }
    }

    /// The tape's gradients, and so ours, against central differences of the Double model: a few elements of
    /// each parameter of each kind.
    @Test(arguments: cases[2...4] + others) func gradientsEqualDifferences(_ each: ModelCase) throws {
        let got = try each.run().gradients
        let oracle = DoubleTransformer(table: each.table)
        let weights = doubles(each.weights)
        let rng = CounterRNG(seed: 5, stream: 5)
        for (number, parameter) in each.table.parameters.enumerated() {
            let picks = (0..<4).map { draw in
                parameter.offset + rng.integer(below: parameter.count, at: UInt64(4 * number + draw))
            }
            let slopes = picks.map { index in
                slope(of: { oracle.loss($0, each.batch) }, at: weights, index: index) * Double(each.scale)
            }
            #expect(relativeError(picks.map { got[$0] }, slopes) < 1e-4, "\(parameter.name)")
        }
    }

    /// `loss` alone gives the backward's loss, bit for bit, and both again the second time: nothing of one task
    /// is left in the next.
    @Test(arguments: cases) func lossAloneAndTwice(_ each: ModelCase) throws {
        let memory = FencedMemory()
        let pool = Pool(threads: 1)
        let model = try Transformer(each.table, maxTokens: each.batch.inputs.count, sequence: each.batch.sequence,
                                    pool: pool)
        let weights = Parameters(each.table, flat: memory.row(each.weights))
        let task = each.batch.task
        var gradients: [[Float]] = [], losses: [Double] = []
        for _ in 0..<2 {
            let gradient = Parameters(each.table, flat: memory.row([Float](repeating: 0, count: each.table.count)))
            model.forward(task, weights: weights)
            losses.append(model.loss(task, weights: weights))
            losses.append(model.backward(task, weights: weights, gradients: gradient, scale: each.scale))
            gradients.append(gradient.flat.array)
        }
        #expect(Set(losses).count == 1)
        #expect(mismatch(gradients[0], gradients[1]) == nil)
        #expect(memory.isIntact)
    }

    @Test(arguments: cases) func threadsDoNotChangeBits(_ each: ModelCase) throws {
        let one = try each.run(threads: 1)
        for threads in [2, 3, 16] {
            let several = try each.run(threads: threads)
            #expect(several.losses == one.losses, "\(threads) threads")
            #expect(mismatch(several.gradients, one.gradients) == nil, "\(threads) threads")
        }
    }

    /// Any cut into micro-batches gives the batch's gradient, since the loss is a sum with one denominator: the
    /// last one may be smaller than the memory is made for.
    @Test(arguments: cases[2...5]) func microBatchesAddUp(_ each: ModelCase) throws {
        let whole = try each.run()
        for microRows in 1..<each.rows {
            let parts = try each.run(microRows: microRows)
            #expect(abs(parts.losses.reduce(0, +) - whole.losses[0]) < 1e-6 * whole.losses[0])
            for parameter in each.table.parameters {
                let error = relativeError(Array(parts.gradients[parameter.range]),
                                          doubles(Array(whole.gradients[parameter.range])))
                #expect(error < 2e-6, "\(microRows) rows, \(parameter.name): \(error)")
            }
        }
    }

    /// Gradients are added to what is there.
    @Test func gradientsAccumulate() throws {
        let each = Self.cases[3]
        let before = normals(each.table.count, seed: 8)
        let alone = try each.run(), added = try each.run(initial: before)
        #expect(relativeError(added.gradients, zip(doubles(before), doubles(alone.gradients)).map(+)) < 1e-6)
    }

    /// The activations' arena is exactly as large as the slots, the angles and the attention's scratch memory
    /// that the recipe counts: it is built without trapping and nothing is left over.
    @Test(arguments: cases, [1, 3]) func theArenaIsExactlyUsed(_ each: ModelCase, threads: Int) throws {
        let pool = Pool(threads: threads, spin: false)
        defer { pool.close() }
        for tokens in [each.batch.sequence, 7 * each.batch.sequence] {
            let model = try Transformer(each.table, maxTokens: tokens, sequence: each.batch.sequence, pool: pool)
            #expect(model.arena.used == model.arena.capacity)
            let slots = ActivationSlots(each.table.shape, vocabulary: each.table.vocabulary, tokens: tokens)
            let shape = AttentionShape(heads: each.table.shape.heads, keyHeads: each.table.shape.keyHeads,
                                       headDim: each.table.shape.headDim)
            #expect(model.arena.capacity == slots.totalFloats
                + RotaryTable.floats(positions: each.batch.sequence, headDim: shape.headDim)
                + LocalAttention.floats(shape: shape, longest: each.batch.sequence, threads: threads)
                + Arena.padded(threads * slots.head.packed(dim: each.table.shape.dim)))
        }
    }

    @Test func tasksThatDoNotFitTrap() async {
        await #expect(processExitsWith: .failure) {
            let each = TransformerTests.cases[0]
            let model = try Transformer(each.table, maxTokens: 4, sequence: 5, pool: Pool(threads: 1))
            let weights = Parameters(each.table, flat: FencedMemory().row(each.weights))
            model.forward(each.batch.task, weights: weights)
        }
        await #expect(processExitsWith: .failure) {
            let ids = targets([1, 2, 3])
            _ = MicroBatch(inputs: ids, targets: ids, segments: Segments(targets([0, 3])), sequence: 2)
        }
    }
}
