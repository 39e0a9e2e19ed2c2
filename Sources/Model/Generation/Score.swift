import Recipe
import Tensor

/// What a model says of one token that follows others.
public struct TokenScore: Sendable, Equatable {
    /// The natural logarithm of the token's probability: minus its loss.
    public var logProbability: Double
    /// No other token is likelier.
    public var isLikeliest: Bool

    public init(logProbability: Double, isLikeliest: Bool) {
        self.logProbability = logProbability
        self.isLikeliest = isLikeliest
    }
}

extension Decoder {
    /// Rows of logits that a thread has at a time.
    static let scoredRows = 16

    /// Floats that scoring takes beside `floats`.
    public static func scoringFloats(_ table: ParameterTable, threads: Int) -> Int {
        threads * Arena.padded(scoredRows * table.vocabulary)
    }

    /// Reads tokens before all others, as `read` does, and says of each how likely `targets` makes the one behind it.
    /// targets: as many ids; a negative one is not asked for, and comes back as zero. The losses have the trainer's
    /// bits, where its head is not cut by words. Takes a decoder that was made for scoring.
    public func score(_ tokens: [Int], targets: [Int]) -> [TokenScore] {
        precondition(targets.count == tokens.count, "a target for each token")
        guard let scoring else { preconditionFailure("this decoder was not made for scoring") }
        stream(tokens)
        let tiles = Tiles(tokens: tokens.count), (shape, prompt) = (shape, prompt)
        let (head, gain) = (model.head, model.finalGain)
        let losses = Doubles(count: tokens.count), ranks = Doubles(count: tokens.count)
        let ids = targets.map { Int32($0) }, flops = 2 * tokens.count * head.rows * head.columns
        Targets.lend(ids, count: ids.count) { ids in
            pool.run(tiles.count, stage: "head", flops: flops) { tile, worker in
                let (start, count) = tiles.range(tile)
                let own = prompt.worker(worker, shape, count)
                rmsNorm(own.normed, inverse: own.inverse, x: prompt.residual.rows(start, count), gain: gain,
                        epsilon: Float(shape.normEpsilon))
                for first in stride(from: 0, to: count, by: Decoder.scoredRows) {
                    let rows = min(Decoder.scoredRows, count - first)
                    let logits = Matrix(scoring.row(worker), rows: rows, columns: head.columns)
                    Gemm.times(logits, own.normed.rows(first, rows), head)
                    for row in 0..<rows where ids[start + first + row] >= 0 {
                        let place = start + first + row
                        losses[place] = crossEntropy(logits.rows(row, 1), targets: ids.slice(place, 1),
                                                     gradientScale: nil)
                        ranks[place] = logits.row(row)[ids[place]] >= maximum(logits.row(row)) ? 1 : 0
                    }
                }
            }
        }
        return tokens.indices.map { TokenScore(logProbability: -losses[$0], isLikeliest: ranks[$0] == 1) }
    }
}
