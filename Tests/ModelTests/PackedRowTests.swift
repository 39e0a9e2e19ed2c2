import Model
import Recipe
import Tensor
import TestSupport
import Testing

/// Packing without cross-contamination (2107.02027): a row of many documents is worth as much as its documents.
struct PackedRowTests {
    /// 16 documents of 1 to 300 tokens, most of which begin inside a block of attention.
    static let lengths = [300, 1, 64, 17, 130, 33, 2, 90, 63, 65, 128, 16, 47, 200, 5, 31]

    private static let each: ModelCase = {
        let starts = lengths.indices.dropFirst().map { lengths[..<$0].reduce(0, +) }
        return ModelCase("16 documents", dim: 64, layers: 2, heads: 4, keyHeads: 2, ffn: 128, vocabulary: 61,
                         rows: 1, sequence: lengths.reduce(0, +), documents: starts)
    }()

    @Test(arguments: [1, 3]) func aPackedRowEqualsItsDocumentsOneByOne(threads: Int) throws {
        let each = Self.each, table = each.table
        let packed = try each.run(threads: threads)
        let memory = FencedMemory()
        let pool = Pool(threads: threads, spin: false)
        defer { pool.close() }
        let longest = Self.lengths.max() ?? 0
        let model = try Transformer(table, maxTokens: longest, sequence: longest, pool: pool)
        let weights = Parameters(table, flat: memory.row(each.weights))
        let gradients = Parameters(table, flat: memory.row([Float](repeating: 0, count: table.count)))
        var loss = 0.0
        for document in each.batch.documents {
            let task = document.task
            model.forward(task, weights: weights)
            loss += model.backward(task, weights: weights, gradients: gradients, scale: each.scale)
        }
        #expect(each.batch.documents.map(\.sequence) == Self.lengths)
        #expect(abs(packed.losses[0] - loss) < 1e-6 * loss)
        #expect(relativeError(packed.gradients, doubles(gradients.flat.array)) < 1e-6)
        #expect(memory.isIntact)
    }
}
