import Collectives
import Model
import Parallel
import Recipe
import Simulation
import Tensor
import Testing

/// The embedding's gradient, of which ranks send the rows of words that they have met.
@Suite struct SparseRowsTests {
    private static let vocabulary = 8_300, dim = 128

    private static func table(tied: Bool) -> ParameterTable {
        var shape = Recipe().model
        (shape.dim, shape.layers, shape.heads, shape.ffnDim, shape.tieEmbeddings) = (dim, 1, 2, 24, tied)
        return ParameterTable(shape, vocabulary: vocabulary)
    }

    /// Every `step`-th word and some at the edges.
    private static func words(rank: Int, batch: Int, step: Int) -> [Int32] {
        [0, vocabulary - 1, 31, 32].map { Int32($0) }
            + stride(from: rank * 3 + batch, to: vocabulary, by: step).map { Int32($0) }
    }

    struct Case: Sendable, CustomStringConvertible {
        let ranks, zero, step: Int
        var reproducible = false, wire = Recipe.GradientFormat.fp32, tied = false
        var description: String { "\(ranks) ranks, stage \(zero), every \(step)th word, \(wire), \(reproducible)" }
    }

    static let cases = [1, 2, 3, 4].flatMap { ranks in [0, 1].map { Case(ranks: ranks, zero: $0, step: 97) } }
        + [Case(ranks: 4, zero: 1, step: 97, reproducible: true), Case(ranks: 2, zero: 0, step: 97, reproducible: true),
           Case(ranks: 3, zero: 1, step: 97, wire: .bf16), Case(ranks: 2, zero: 1, step: 97, tied: true),
           Case(ranks: 3, zero: 1, step: 1), Case(ranks: 4, zero: 1, step: 5), Case(ranks: 2, zero: 2, step: 97)]

    /// Whole numbers, so that sums are exact: whoever answers for a float has the sum, zeros included, and where few
    /// words are met few bytes go.
    @Test(arguments: cases) func sumsAreComplete(_ each: Case) throws {
        var recipe = Recipe()
        (recipe.parallelism.zero, recipe.communication.gradients) = (each.zero, each.wire)
        recipe.training.reproducible = each.reproducible
        (recipe.training.localBatchSize, recipe.training.globalBatchSize) = (1, 2 * each.ranks)
        recipe.model = Self.table(tied: each.tied).shape
        let table = Self.table(tied: each.tied), batches = 2, setting = recipe
        let results = onThreads(ranks: each.ranks) { communicator -> (isRight: Bool, sent: Int) in
            let step = try ShardedStep(table, recipe: setting, pool: Pool(threads: 1), communicator: communicator)
            let before = communicator.statistics
            var isRight = true
            for number in 1...2 {
                Self.run(step, table, batches, number, each.step, communicator.rank)
                try step.finish()
                isRight = isRight && Self.isRight(step, table, each, batches, number)
            }
            return (isRight, communicator.statistics.since(before).bytesSent)
        }
        for result in results {
            let (isRight, sent) = try result.get()
            #expect(isRight, "\(each)")
            // The head alone is as large as the embedding: without its zero rows the step is half as long, or so.
            let dense = 2 * (each.zero == 0 ? 2 : 1) * 4 * table.count * (each.ranks - 1) / each.ranks
            let isSparse = each.step > 5 && each.zero < 2 && !each.tied && each.ranks > 1
            if isSparse { #expect(Double(sent) < 0.62 * Double(dense), "\(each): \(sent) of \(dense) bytes") }
        }
    }

    /// A gradient's row of a word that was met, and one everywhere else.
    private static func run(_ step: ShardedStep, _ table: ParameterTable, _ batches: Int, _ number: Int, _ every: Int,
                            _ rank: Int) {
        let last = table.blocks.count - 1
        for batch in 0..<batches {
            let words = words(rank: rank, batch: batch, step: every)
            Targets.lend(words, count: words.count) { tokens in
                step.beginForward(batch, of: batches, tokens: .these(tokens), uses: [])
            }
            let gradients = step.beginBackward(batch, of: batches)
            for block in table.blocks.indices.reversed() {
                step.gradients.begin(block)
                if block == 0 {
                    for word in words { add(gradients.blocks[0], Int(word), number) }
                    if table.shape.tieEmbeddings { gradients.blocks[0][5] += Float(number) }
                } else if block == last {
                    gradients.blocks[block][7] += Float(number)
                }
                step.gradients.ready(block)
            }
            step.endBackward(batch, of: batches)
        }
    }

    private static func add(_ rows: Row, _ word: Int, _ number: Int) {
        for column in 0..<dim { rows[word * dim + column] += Float(number * (1 + column % 3)) }
    }

    private static func isRight(_ step: ShardedStep, _ table: ParameterTable, _ each: Case, _ batches: Int,
                                _ number: Int) -> Bool {
        var wanted = [Float](repeating: 0, count: table.blocks[0].count)
        for rank in 0..<each.ranks {
            for batch in 0..<batches {
                for word in words(rank: rank, batch: batch, step: each.step) {
                    for column in 0..<dim { wanted[Int(word) * dim + column] += Float(number * (1 + column % 3)) }
                }
                if each.tied { wanted[5] += Float(number) }
            }
        }
        for (unit, range) in step.state.ownRanges.enumerated() {
            let sums = step.state.gradientShard.part(range, unit: unit)
            for (index, place) in range.enumerated() where place < wanted.count {
                guard sums[index] == wanted[place] else { return false }
            }
            for (index, place) in range.enumerated() where place == table.blocks.last!.lowerBound + 7 {
                guard sums[index] == Float(number * batches * each.ranks) else { return false }
            }
        }
        return true
    }
}
