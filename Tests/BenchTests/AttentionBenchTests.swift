import Bench
import Tensor
import Testing

@Suite struct AttentionBenchTests {
    private func numbers(_ setting: AttentionSetting) throws -> [String: Double] {
        var values: [String: Double] = [:]
        for field in try benchAttention(setting).fields {
            switch field.value {
            case .number(let value): values[field.name] = value
            case .integer(let value): values[field.name] = Double(value)
            case .text: break
            }
        }
        return values
    }

    /// Packed documents count the squares of their own lengths, and are held against one document of that work.
    @Test func flopsAreTheSumOfSquares() throws {
        var setting = AttentionSetting()
        (setting.heads, setting.keyHeads, setting.headDim, setting.rounds) = (2, 1, 8, 1)
        setting.lengths = [3, 100, 41]
        let line = try numbers(setting)
        let flops = 6 * Double(9 + 10_000 + 1_681) * 16
        #expect(abs(line["gflops"]! * line["seconds"]! * 1e9 / flops - 1) < 1e-9)
        #expect(line["sequence"] == 144 && line["documents"] == 3)
        #expect(line["over_prediction"]! > 0 && line["materialised_ratio_1k"]! > 0)
        setting.lengths = []
        setting.sequence = 70
        let whole = try numbers(setting)
        #expect(whole["over_prediction"] == nil && whole["sequence"] == 70)
    }

    /// The count is the whole process's, and other tests run beside this one; so among many tries some are
    /// undisturbed and exact, and none counts too few.
    @Test func allocationsAreCounted() {
        #if canImport(Glibc)
        var idle: [Int?] = [], busy: [Int?] = []
        for _ in 0..<2_000 where !(idle.contains(0) && busy.contains(5)) {
            idle.append(countAllocations {})
            var held: [[Int]] = []
            held.reserveCapacity(8)
            busy.append(countAllocations { for size in 1...5 { held.append(Array(repeating: 1, count: 100 * size)) } })
            #expect(held.count == 5)
        }
        #expect(idle.compactMap { $0 }.min() == 0)
        #expect(busy.compactMap { $0 }.min() == 5)
        #endif
    }
}
