import Base
import Model
import Recipe
import Tensor

/// Everything that an optimizer step changes: weights, their gradients and AdamW's moments, each one flat vector
/// laid out by the parameter table.
public final class TrainingState {
    public let table: ParameterTable
    public let weights: Parameters
    public let gradients: Parameters
    public let momentum: Parameters
    public let variance: Parameters
    private let arena: Arena

    public init(_ table: ParameterTable) throws(OutOfMemory) {
        self.table = table
        arena = try Arena(name: "weights, gradients and moments", capacity: 4 * Arena.padded(table.count))
        weights = Parameters(table, flat: arena.take(table.count))
        gradients = Parameters(table, flat: arena.take(table.count))
        momentum = Parameters(table, flat: arena.take(table.count))
        variance = Parameters(table, flat: arena.take(table.count))
    }
}

/// AdamW with clipping by the global norm, over fixed chunks of the flat vector.
struct Optimizer: Sendable {
    /// A run of elements of one parameter. Small enough to balance threads, large enough to stream.
    struct Chunk: Sendable {
        let range: Range<Int>
        let decays: Bool
    }

    static let chunkSize = 65_536
    let chunks: [Chunk]
    private let squares: Doubles
    private let rootSums: Doubles
    private let rootPeaks: Doubles

    init(_ table: ParameterTable) {
        var chunks: [Chunk] = []
        for parameter in table.parameters {
            for start in stride(from: 0, to: parameter.count, by: Self.chunkSize) {
                let first = parameter.offset + start
                chunks.append(Chunk(range: first..<(first + min(Self.chunkSize, parameter.count - start)),
                                    decays: parameter.decays))
            }
        }
        self.chunks = chunks
        squares = Doubles(count: chunks.count)
        rootSums = Doubles(count: chunks.count)
        rootPeaks = Doubles(count: chunks.count)
    }

    /// The Euclidean norm of the whole gradient, in Double, chunks in ascending order.
    func norm(_ gradients: Parameters, pool: Pool) -> Double {
        let (chunks, squares) = (chunks, squares)
        pool.run(chunks.count, stage: "gradient norm") { index, _ in
            let range = chunks[index].range
            squares[index] = sumOfSquares(gradients.flat.slice(range.lowerBound, range.count))
        }
        return (0..<chunks.count).reduce(0) { $0 + squares[$1] }.squareRoot()
    }

    /// Updates weights and moments. `step` counts from 0; `norm` is the gradient's, for clipping. Returns the sum of
    /// the roots of the second moment, chunks in ascending order, and the largest of them.
    func update(_ state: TrainingState, recipe: Recipe, step: Int, rate: Double, norm: Double,
                pool: Pool) -> VarianceRoots {
        let settings = recipe.optimizer
        let clip = recipe.training.maxNorm > 0 && norm > recipe.training.maxNorm
            ? recipe.training.maxNorm / norm : 1
        var adam = AdamWStep(
            learningRate: Float(rate), beta1: Float(settings.beta1),
            beta2: Float(settings.beta2), epsilon: Float(settings.epsilon),
            weightDecay: Float(settings.weightDecay),
            correction1: Float(1 - power(settings.beta1, step + 1)),
            correction2: Float(1 - power(settings.beta2, step + 1)), gradientScale: Float(clip))
        let decaying = adam
        adam.weightDecay = 0
        let plain = adam
        let (chunks, weights, gradients) = (chunks, state.weights.flat, state.gradients.flat)
        let (momentum, variance) = (state.momentum.flat, state.variance.flat)
        let (sums, peaks) = (rootSums, rootPeaks)
        pool.run(chunks.count, stage: "optimizer") { index, _ in
            let chunk = chunks[index]
            func part(_ row: Row) -> Row { row.slice(chunk.range.lowerBound, chunk.range.count) }
            let roots = adamW(part(weights), momentum: part(momentum), variance: part(variance),
                              gradient: part(gradients), chunk.decays ? decaying : plain)
            sums[index] = roots.sum
            peaks[index] = Double(roots.max)
        }
        var roots = VarianceRoots(sum: 0, max: 0)
        for index in chunks.indices {
            roots.sum += sums[index]
            roots.max = max(roots.max, Float(peaks[index]))
        }
        return roots
    }

    func clear(_ gradients: Parameters, pool: Pool) {
        let size = Self.chunkSize
        let flat = gradients.flat
        pool.run((flat.count + size - 1) / size, stage: "clear gradients") { index, _ in
            flat.slice(index * size, min(size, flat.count - index * size)).fill(0)
        }
    }

    /// base^exponent by squaring, so that the correction is the same on every C library.
    private func power(_ base: Double, _ exponent: Int) -> Double {
        var (result, factor, rest) = (1.0, base, exponent)
        while rest > 0 {
            if rest & 1 == 1 { result *= factor }
            factor *= factor
            rest >>= 1
        }
        return result
    }
}
