import Base
import Model
import Recipe
import Tensor

extension LayerTime {
    /// Measures one layer of the recipe's model, in its precision: forward and backward over a micro-batch of its rows,
    /// or as many of its tokens as take the pool a second or so. Nil where that would take over a quarter of
    /// `memory`, bytes.
    ///
    /// Twice, since the time is linear in the tokens that a token looks back at: in rows that are one segment each, and
    /// in rows of many. The best of three.
    public init?(of recipe: Recipe, pool: Pool, memory: Int) throws {
        var shape = recipe.model
        shape.layers = 1
        // A head of few words costs nothing; a run's is reckoned apart.
        let table = ParameterTable(shape, vocabulary: 16)
        let cap = Self.operations * Double(pool.threads) / table.flopsPerToken(sequence: recipe.training.sequenceLength)
        let tokens = max(Self.leastTokens, min(recipe.rowsPerTask * recipe.training.sequenceLength,
                                               Int(min(cap, 1e9)) / Self.leastTokens * Self.leastTokens))
        let sequence = min(tokens, recipe.training.sequenceLength), rows = tokens / sequence
        let formats = try LinearFormats.of(recipe)
        let slots = ActivationSlots(shape, vocabulary: table.vocabulary, tokens: rows * sequence,
                                    precision: formats?.setting)
        guard (2 * table.count + 2 * slots.totalFloats) < memory / 16 else { return nil }
        let arena = try Arena(name: "layer measurement", capacity: 2 * Arena.padded(table.count))
        defer { withExtendedLifetime(arena) {} }
        let weights = Parameters(table, flat: arena.take(table.count))
        let gradients = Parameters(table, flat: arena.take(table.count))
        weights.initialize(seed: recipe.debug.seed)
        gradients.flat.fill(0)
        let model = try Transformer(table, maxTokens: rows * sequence, sequence: sequence, pool: pool,
                                    matmul: recipe.training.matmul, formats: formats, seed: recipe.debug.seed)
        let short = max(1, sequence / 16)
        func measured(_ segment: Int) -> (context: Double, seconds: Double) {
            let seconds = Self.seconds(model, weights, gradients, rows: rows, sequence: sequence, segment: segment)
            return (Double(segment) / 2, seconds / Double(rows * sequence))
        }
        self.init(measured(short), measured(sequence))
    }

    /// Operations of one measurement for each thread: a fifth of a second of fp32 products.
    private static let operations = 20e9
    private static let leastTokens = 64

    /// The shortest of some rounds, after one that meets cold pages.
    private static func seconds(_ model: Transformer, _ weights: Parameters, _ gradients: Parameters, rows: Int,
                                sequence: Int, segment: Int) -> Double {
        let count = rows * sequence
        let words = (0..<count).map { Int32($0 &* 7_919 % 16) }
        let starts = stride(from: 0, to: count, by: sequence).flatMap { row in
            stride(from: row, to: row + sequence, by: segment).map { Int32($0) }
        } + [Int32(count)]
        return Targets.lend(words, count: count) { words in
            Targets.lend(starts, count: starts.count) { starts in
                let batch = MicroBatch(inputs: words, targets: words, segments: Segments(starts), sequence: sequence)
                return (0..<4).map { round in
                    let begin = MonotonicClock.seconds()
                    model.quantisation?.begin(step: round)
                    model.forward(batch, weights: weights)
                    _ = model.backward(batch, weights: weights, gradients: gradients, scale: 1 / Float(count))
                    model.quantisation?.finish { _ in }
                    return MonotonicClock.seconds() - begin
                }.dropFirst().min() ?? 0
            }
        }
    }
}
