import Tensor
import Testing
import TestSupport

@Suite struct CrossEntropyTests {
    /// Five rows; the second and the last have no target.
    private func ids(_ vocabulary: Int) -> [Int] { [vocabulary - 1, -1, 0, vocabulary / 2, -100] }

    @Test(arguments: oddLengths + [1_000]) func lossAndGradient(vocabulary: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let logits = normals(5 * vocabulary, seed: vocabulary, size: 4), ids = ids(vocabulary)
        let scale: Float = 0.125
        func onTape(_ x: [Double]) -> (Tape, Tape.Value, Tape.Value) {
            let tape = Tape()
            let value = tape.input(x, rows: 5, columns: vocabulary)
            return (tape, value, tape.crossEntropy(value, targets: ids))
        }
        let (tape, value, lossValue) = onTape(doubles(logits))
        let want = tape[lossValue][0]
        let matrix = memory.matrix(logits, 5, vocabulary, gap: 3)
        let loss = crossEntropy(matrix, targets: targets(ids), gradientScale: nil)
        #expect(abs(loss - want) <= 1e-6 * max(1, want))
        #expect(matrix.values == logits)
        #expect(crossEntropy(matrix, targets: targets(ids), gradientScale: scale) == loss)
        tape.backward(lossValue, seed: [Double(scale)])
        guard vocabulary > 1 else {
            #expect(loss == 0)
            #expect(matrix.values.allSatisfy { $0 == 0 })
            return
        }
        #expect(relativeError(matrix.values, tape.gradient(value)) < 1e-6)
        for row in [1, 4] { #expect(matrix.row(row).array.allSatisfy { $0 == 0 }) }
        guard vocabulary <= 100 else { return }
        let slopes = gradient(of: { x in
            let (tape, _, loss) = onTape(x)
            return tape[loss][0] * Double(scale)
        }, at: doubles(logits))
        #expect(relativeError(matrix.values, slopes) < 1e-6)
    }

    /// A shift of all logits changes nothing, however large; the largest may be anywhere in the row.
    @Test func largeLogits() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let vocabulary = 35
        for peak in 0..<vocabulary {
            for shift in [Float(-3e4), 0, 3e4] {
                let row = (0..<vocabulary).map { shift + ($0 == peak ? 64 : 0) }
                let hit = crossEntropy(memory.matrix(row, 1, vocabulary), targets: targets([peak]), gradientScale: 1)
                #expect(abs(hit) < 1e-12)
                let logits = memory.matrix(row, 1, vocabulary)
                let other = (peak + 1) % vocabulary
                let miss = crossEntropy(logits, targets: targets([other]), gradientScale: 1)
                #expect(abs(miss - 64) < 1e-5)
                #expect(logits.row(0)[other] == -1)
                #expect(abs(logits.row(0)[peak] - 1) < 1e-6)
            }
        }
    }

    /// Rows are independent: the loss of a matrix is the sum of its rows' losses, in order, exactly.
    @Test func rowsAdd() {
        let memory = FencedMemory()
        let logits = normals(5 * 40, seed: 9), ids = ids(40)
        let matrix = memory.matrix(logits, 5, 40)
        let whole = crossEntropy(matrix, targets: targets(ids), gradientScale: nil)
        let parts = (0..<5).reduce(0.0) { sum, row in
            sum + crossEntropy(matrix.rows(row, 1), targets: targets([ids[row]]), gradientScale: nil)
        }
        #expect(whole == parts)
    }

    @Test func aTargetOutsideTheVocabularyTraps() async {
        await #expect(processExitsWith: .failure) {
            let matrix = FencedMemory().matrix([1, 2, 3], 1, 3)
            _ = crossEntropy(matrix, targets: targets([3]), gradientScale: nil)
        }
    }
}
