import Base
import Bench
import Recipe
import Testing

@Suite struct BenchTests {
    @Test func medianOfTheTimedRounds() {
        var rounds: [Int] = []
        let seconds = medianSeconds(rounds: 4) { rounds.append($0) }
        #expect(rounds == [0, 1, 2, 3, 4])
        #expect(seconds >= 0)
    }

    @Test func aLineIsOneObject() {
        var line = BenchLine(bench: "x", threads: 2, seconds: 0.5)
        line.add("op", "sum")
        line.add("bytes", 12)
        line.add("rate", Double.infinity)
        #expect(line.json.hasPrefix("{\"bench\":\"x\",\"threads\":2,\"ranks\":1,\"core\":\""))
        #expect(line.json.hasSuffix("\"seconds\":0.5,\"op\":\"sum\",\"bytes\":12,\"rate\":null}"))
    }

    /// The rate is the work over the seconds that are printed beside it.
    @Test func gemmCountsItsWork() throws {
        let line = try benchGemm(m: 48, n: 32, k: 16, threads: 2, rounds: 3)
        var values: [String: Double] = [:]
        for field in line.fields {
            if case .number(let value) = field.value { values[field.name] = value }
        }
        let expected = 2.0 * 48 * 32 * 16 * 2 / values["seconds"]! / 1e9
        #expect(abs(values["gflops"]! / expected - 1) < 1e-9)
    }
}
