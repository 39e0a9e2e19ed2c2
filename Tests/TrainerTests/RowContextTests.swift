import Base
import Corpus
import Recipe
import Testing
import Trainer

@Suite struct RowContextTests {
    /// Against the segments of an epoch's batches, row by row, for every way to cut documents into rows.
    @Test(arguments: ["concatenate", "best_fit", "spfhp", "nnlshp", "padded", "grow_p2", "random", "quota"])
    func theMeanOfAnEpoch(layout: String) throws {
        let sandbox = try Sandbox()
        let recipe = try sandbox.recipe(sandbox.layout(layout)).recipe
        let corpus = try openCorpus(recipe)
        var sum = 0.0, inputs = 0
        for bucket in 0..<corpus.bucketCount where corpus.rowsPerEpoch(inBucket: bucket) > 0 {
            let rows = corpus.rowsPerEpoch(inBucket: bucket)
            let batch = Batch(rows: rows, sequence: corpus.sequence(ofBucket: bucket))
            corpus.fill(batch, bucket: bucket, rows: 0..<rows)
            let bounds = batch.documentStarts[..<batch.documentStartCount].map { Int($0) }
            for (start, end) in zip(bounds, bounds.dropFirst()) { sum += Double((end - start) * (end - start - 1)) / 2 }
            inputs += batch.tokenCount
        }
        let mean = try #require(try meanContext(recipe, textBytes: 1))
        #expect(abs(mean - sum / Double(inputs)) < 1e-9 * mean)
        #expect(mean < 32)
    }

    /// Where every row is one segment its length says all; and what would take long is not looked at.
    @Test func whatIsNotLookedAt() throws {
        let sandbox = try Sandbox()
        func context(_ flags: [String], textBytes: Int = 1) throws -> Double? {
            try meanContext(try sandbox.recipe(flags).recipe, textBytes: textBytes)
        }
        #expect(try context(["--data.document_mask", "false"]) == nil)
        #expect(try context(["--data.paths", ""]) == nil)
        #expect(try context(["--data.paths", sandbox.documents], textBytes: 1 << 30) == nil)
        #expect(try context(["--data.paths", sandbox.documents, "--data.weights", "1"]) == nil)
        #expect(try context(["--data.paths", sandbox.documents]) != nil)
    }
}
