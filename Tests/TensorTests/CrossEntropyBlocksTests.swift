import Tensor
import Testing
import TestSupport

@Suite struct CrossEntropyBlocksTests {
    /// Loss and slopes of rows in blocks of `words`, the blocks visited in an order of their own.
    private func run(_ logits: [Float], rows: Int, words: Int, ids: [Int], scale: Float?,
                     _ memory: FencedMemory) -> (loss: Double, slopes: [Float]) {
        let vocabulary = logits.count / rows, blocks = (vocabulary + words - 1) / words
        let entropy = CrossEntropyBlocks(targets: targets(ids), blocks: blocks,
                                         memory: memory.row([Float](repeating: .nan, count: rows * (2 * blocks + 1))))
        let parts = (0..<blocks).map { block in
            let start = block * words, count = min(words, vocabulary - start)
            return memory.matrix((0..<(rows * count)).map { logits[$0 / count * vocabulary + start + $0 % count] },
                                 rows, count, gap: 1)
        }
        let half = rows / 2
        for block in (0..<blocks).reversed() {
            for (start, count) in [(half, rows - half), (0, half)] {
                entropy.visit(parts[block].rows(start, count), rows: start, block: block, word: block * words,
                              keeping: scale != nil)
            }
        }
        let loss = entropy.merge(rows: 0..<rows, gradientScale: scale)
        if let scale {
            for block in 0..<blocks {
                entropy.differentiate(parts[block], rows: 0, block: block, word: block * words, gradientScale: scale)
            }
        }
        var slopes = [Float](repeating: 0, count: logits.count)
        for block in 0..<blocks {
            let values = parts[block].values, width = parts[block].columns
            for index in values.indices {
                slopes[index / width * vocabulary + block * words + index % width] = values[index]
            }
        }
        return (loss, slopes)
    }

    @Test(arguments: [1, 7, 16, 48, 100, 1_000]) func lossAndGradient(words: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let rows = 6, vocabulary = 100, scale: Float = 0.125
        // Rows of very different size, so that blocks differ by many powers of e.
        let logits = normals(rows * vocabulary, seed: words, size: 8), ids = [99, -1, 0, 47, 48, -100]
        let tape = Tape()
        let value = tape.input(doubles(logits), rows: rows, columns: vocabulary)
        let lossValue = tape.crossEntropy(value, targets: ids)
        tape.backward(lossValue, seed: [Double(scale)])
        let alone = run(logits, rows: rows, words: words, ids: ids, scale: nil, memory)
        #expect(abs(alone.loss - tape[lossValue][0]) < 1e-6 * tape[lossValue][0])
        #expect(alone.slopes == logits)
        let both = run(logits, rows: rows, words: words, ids: ids, scale: scale, memory)
        #expect(both.loss == alone.loss)
        #expect(relativeError(both.slopes, tape.gradient(value)) < 1e-6)
        for row in [1, 5] { #expect(both.slopes[(row * vocabulary)..<((row + 1) * vocabulary)].allSatisfy { $0 == 0 }) }
    }

    /// One block is `crossEntropy`, bit for bit.
    @Test func oneBlockIsTheWhole() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        for vocabulary in [1, 15, 16, 33, 257] {
            let logits = normals(4 * vocabulary, seed: vocabulary, size: 5)
            let ids = [0, vocabulary - 1, -1, vocabulary / 2]
            let matrix = memory.matrix(logits, 4, vocabulary)
            let want = crossEntropy(matrix, targets: targets(ids), gradientScale: 0.3)
            let got = run(logits, rows: 4, words: vocabulary, ids: ids, scale: 0.3, memory)
            #expect(got.loss == want)
            #expect(mismatch(got.slopes, matrix.values) == nil)
        }
    }

    /// A shift of all logits changes nothing, a block may be of no weight at all, and what is not a number is not lost.
    @Test func extremes() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        for shift in [Float(-3e4), 0, 3e4] {
            let logits = (0..<40).map { shift + ($0 == 21 ? 200 : 0) }
            let got = run(logits, rows: 1, words: 10, ids: [21], scale: 1, memory)
            #expect(abs(got.loss) < 1e-12 && got.slopes.allSatisfy { abs($0) < 1e-6 })
            let miss = run(logits, rows: 1, words: 10, ids: [3], scale: 1, memory)
            #expect(abs(miss.loss - 200) < 1e-4 && miss.slopes[3] == -1 && abs(miss.slopes[21] - 1) < 1e-6)
        }
        for place in [0, 15, 39] {
            var logits = normals(40, seed: 3)
            logits[place] = .infinity
            #expect(!run(logits, rows: 1, words: 10, ids: [7], scale: nil, memory).loss.isFinite)
        }
    }
}
