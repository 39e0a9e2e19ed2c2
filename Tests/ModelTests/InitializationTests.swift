import Model
import Recipe
import Tensor
import Testing
import TestSupport

@Suite struct InitializationTests {
    private let each = ModelCase("", dim: 65, layers: 3, heads: 5, keyHeads: 5, ffn: 97, vocabulary: 257,
                                 rows: 1, sequence: 2)

    private func drawn(seed: Int) -> [Float] {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let parameters = Parameters(each.table, flat: memory.row([Float](repeating: 0, count: each.table.count)))
        parameters.initialize(seed: seed)
        return parameters.flat.array
    }

    /// Gains are one; matrices have mean 0, the declared deviation and a normal's fourth moment, each within five
    /// standard deviations of its estimate.
    @Test func statistics() {
        let flat = drawn(seed: 1)
        for parameter in each.table.parameters {
            let values = doubles(Array(flat[parameter.range])), n = Double(parameter.count)
            guard case .normal(let deviation) = parameter.initial else {
                #expect(values.allSatisfy { $0 == 1 })
                continue
            }
            let scaled = values.map { $0 / deviation }
            func moment(_ order: Int) -> Double {
                scaled.reduce(0) { sum, x in sum + (0..<order).reduce(1.0) { power, _ in power * x } } / n
            }
            #expect(abs(moment(1)) < 5 * (1 / n).squareRoot(), "\(parameter.name)")
            #expect(abs(moment(2) - 1) < 5 * (2 / n).squareRoot(), "\(parameter.name)")
            #expect(abs(moment(4) - 3) < 5 * (96 / n).squareRoot(), "\(parameter.name)")
        }
    }

    /// What writes to the residual stream starts smaller by the root of 2 x layers; everything else at 0.02.
    @Test func deviations() {
        for parameter in each.table.parameters where parameter.decays {
            let writes = parameter.name.contains("o_proj") || parameter.name.contains("down_proj")
            let want = writes ? 0.02 / 6.0.squareRoot() : 0.02
            guard case .normal(let deviation) = parameter.initial else {
                Issue.record("\(parameter.name) is a matrix of ones")
                continue
            }
            #expect(abs(deviation - want) < 1e-15, "\(parameter.name)")
        }
    }

    @Test func seedsRepeatAndDiffer() {
        let first = drawn(seed: 1)
        #expect(mismatch(drawn(seed: 1), first) == nil)
        let second = drawn(seed: 2)
        var heads: Set<Float> = []
        for parameter in each.table.parameters where parameter.decays {
            #expect(second[parameter.offset] != first[parameter.offset])
            heads.insert(first[parameter.offset])
        }
        // No two parameters share a stream.
        #expect(heads.count == each.table.parameters.count { $0.decays })
        // The padding is left alone.
        let used = each.table.parameters.reduce(into: Set<Int>()) { $0.formUnion($1.range) }
        for index in 0..<each.table.count where !used.contains(index) { #expect(first[index] == 0) }
    }
}
