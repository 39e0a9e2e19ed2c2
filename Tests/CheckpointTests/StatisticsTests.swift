import Base
import Checkpoint
import Storage
import Testing

@Suite struct StatisticsTests {
    @Test func byHand() {
        var statistics = TensorStatistics()
        #expect(statistics.mean == nil && statistics.standardDeviation == nil && statistics.minimum == nil)
        statistics.add([])
        statistics.add([.nan, .infinity])
        #expect(statistics.count == 2 && statistics.nonFinite == 2 && statistics.mean == nil)
        statistics.add([2, 4, 4, -.infinity, 4])
        statistics.add([5, 5, 7, 9])
        #expect(statistics.count == 11 && statistics.nonFinite == 3)
        #expect(statistics.minimum == 2 && statistics.maximum == 9)
        #expect(statistics.mean == 5 && statistics.standardDeviation == 2)
        #expect(statistics.rootMeanSquare == 29.0.squareRoot() && statistics.zeros == 0)
        statistics.add([0, -0.0])
        #expect(statistics.zeros == 2 && statistics.minimum == 0)
    }

    /// Any split into blocks gives the same, also far from zero where squares would drown.
    @Test func anySplit() {
        let rng = CounterRNG(seed: 5, stream: 1)
        let values = (0..<200).map { 1e9 + rng.normalPair(at: UInt64($0)).0 }
        let mean = values.reduce(0) { $0 + ($1 - 1e9) } / 200
        let variance = values.reduce(0) { $0 + ($1 - 1e9 - mean) * ($1 - 1e9 - mean) } / 200
        for block in 1...200 {
            var statistics = TensorStatistics()
            for start in stride(from: 0, to: 200, by: block) {
                statistics.add(Array(values[start..<min(start + block, 200)]))
            }
            #expect(abs(statistics.mean! - 1e9 - mean) < 1e-6)
            #expect(abs(statistics.standardDeviation! / variance.squareRoot() - 1) < 1e-6)
            #expect(statistics.minimum == values.min() && statistics.maximum == values.max())
        }
    }

    /// A tensor of several read blocks, and every dtype through a checkpoint.
    @Test func ofACheckpoint() throws {
        let disk = FaultyDisk(), count = 3 << 20
        var fixture = Fixture(step: 1)
        let ramp = (0..<count).flatMap { index -> [UInt8] in
            let bits = Float(index).bitPattern
            return [UInt8(truncatingIfNeeded: bits), UInt8(truncatingIfNeeded: bits >> 8),
                    UInt8(truncatingIfNeeded: bits >> 16), UInt8(truncatingIfNeeded: bits >> 24)]
        }
        fixture.model = [.init(spec: TensorSpec("ramp", .float32, [count]), bytes: ramp)]
        for type in ElementType.allCases {
            fixture.model.append(.init(spec: TensorSpec("\(type)", type, [2]),
                                       bytes: [UInt8](repeating: 0, count: 2 * type.width)))
        }
        let checkpoint = try Checkpoint.open(try fixture.save(on: disk), disk: disk)
        try fixture.expectEqual(checkpoint)
        let archive = TensorArchive(checkpoint), reader = archive.reader(), n = Double(count)
        func statistics(_ name: String) throws -> (TensorStatistics, Histogram?) {
            try archive.statistics(of: archive.tensor(name), with: reader)
        }
        let (own, histogram) = try statistics("ramp")
        let counts = try #require(histogram).counts
        #expect(counts.reduce(0, +) == count && counts.allSatisfy { abs($0 - count / 16) <= 1 })
        #expect(own.count == count && own.nonFinite == 0)
        #expect(own.minimum == 0 && own.maximum == n - 1)
        #expect(abs(own.mean! - (n - 1) / 2) < 1e-6)
        #expect(abs(own.standardDeviation! / ((n * n - 1) / 12).squareRoot() - 1) < 1e-12)
        for type in ElementType.allCases {
            let (found, _) = try statistics("\(type)")
            #expect(found.mean == 0 && found.zeros == 2 && found.rootMeanSquare == 0)
        }
        #expect(throws: CheckpointError.notFound(
            "\(checkpoint.path) has no tensor romp; did you mean ramp?")) {
            try archive.tensor("romp")
        }
    }
}
