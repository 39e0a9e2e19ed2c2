#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
import Model
import Recipe
import Tensor
import Testing
import TestSupport

@Suite struct LearningTests {
    /// A hundred steps of AdamW on one sentence said over and over: from a guess among 257 bytes to knowing it. Any
    /// wrong sign or lost term in the chain from loss to update shows here.
    @Test(arguments: [false, true]) func aRepeatedTextIsLearnt(tied: Bool) throws {
        let text = Array("a skein of geese flies in a line; ".utf8).map(Int.init)
        let (sequence, rows) = (48, 4)
        var recipe = Recipe()
        recipe.model.dim = 32
        recipe.model.layers = 2
        recipe.model.heads = 4
        recipe.model.keyValueHeads = 2
        recipe.model.tieEmbeddings = tied
        let table = ParameterTable(recipe.model, vocabulary: 257)
        let memory = FencedMemory()
        func zeros() -> Row { memory.row([Float](repeating: 0, count: table.count)) }
        let weights = Parameters(table, flat: zeros()), gradients = Parameters(table, flat: zeros())
        let momentum = zeros(), variance = zeros()
        weights.initialize(seed: 7)
        let pool = Pool(threads: 1)
        let model = try Transformer(table, maxTokens: rows * sequence, sequence: sequence, pool: pool)
        let starts = targets((0...rows).map { $0 * sequence })
        var losses: [Double] = []
        for step in 1...100 {
            let tokens = (0..<rows).map { row in (0...sequence).map { text[(row * 9 + step * 5 + $0) % text.count] } }
            let task = MicroBatch(inputs: targets(tokens.flatMap { $0.dropLast() }),
                            targets: targets(tokens.flatMap { $0.dropFirst() }),
                            segments: Segments(starts), sequence: sequence)
            gradients.flat.fill(0)
            model.forward(task, weights: weights)
            let scale = 1 / Float(task.tokens)
            let loss = model.backward(task, weights: weights, gradients: gradients, scale: scale)
            losses.append(loss * Double(scale))
            let norm = sumOfSquares(gradients.flat).squareRoot()
            for parameter in table.parameters {
                func part(_ row: Row) -> Row { row.slice(parameter.offset, parameter.count) }
                adamW(part(weights.flat), momentum: part(momentum), variance: part(variance),
                      gradient: part(gradients.flat), AdamWStep(
                        learningRate: 5e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8,
                        weightDecay: parameter.decays ? 0.1 : 0, correction1: Float(1 - pow(0.9, Double(step))),
                        correction2: Float(1 - pow(0.95, Double(step))), gradientScale: Float(min(1, 1 / norm))))
            }
        }
        #expect(abs(losses[0] - log(257)) < 0.1, "\(losses[0])")
        // Not zero: the first bytes of a row could come from several places of the sentence.
        #expect(losses[99] < 0.2, "\(losses[99])")
        #expect(memory.isIntact)
    }
}
