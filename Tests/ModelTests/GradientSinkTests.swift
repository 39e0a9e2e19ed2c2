import Model
import Tensor
import Testing
import TestSupport

@Suite struct GradientSinkTests {
    /// Notes the blocks and what their gradients hold when they are said to be ready.
    private final class Recorder: GradientSink {
        private let gradients: Parameters
        private(set) var begun: [Int] = []
        private(set) var blocks: [Int] = []
        private(set) var snapshots: [[Float]] = []

        init(_ gradients: Parameters) { self.gradients = gradients }

        /// Nothing has been added to it yet.
        func begin(_ block: Int) {
            let range = gradients.table.blocks[block]
            #expect(gradients.flat.slice(range.lowerBound, range.count).array.allSatisfy { $0 == 0 })
            begun.append(block)
        }

        func ready(_ block: Int) {
            #expect(begun.contains(block))
            let range = gradients.table.blocks[block]
            blocks.append(block)
            snapshots.append(gradients.flat.slice(range.lowerBound, range.count).array)
        }
    }

    /// Every block exactly once, the last first, and not written again afterwards: what a reducer sends while
    /// the backward goes on is the gradient.
    @Test(arguments: TransformerTests.cases, [1, 3])
    func blocksAreReadyInOrder(_ each: ModelCase, threads: Int) throws {
        var recorder: Recorder?
        let result = try each.run(threads: threads, sink: { gradients in
            recorder = Recorder(gradients)
            return recorder
        })
        let recorded = try #require(recorder)
        #expect(recorded.blocks == Array(each.table.blocks.indices.reversed()))
        #expect(recorded.begun.sorted() == Array(each.table.blocks.indices))
        for (block, snapshot) in zip(recorded.blocks, recorded.snapshots) {
            #expect(mismatch(snapshot, Array(result.gradients[each.table.blocks[block]])) == nil, "block \(block)")
        }
        // Listening changes nothing.
        #expect(mismatch(try each.run(threads: threads).gradients, result.gradients) == nil)
    }
}
