import Collectives
import Simulation
import Testing

/// Eight bits on the wire.
@Suite struct NarrowTests {
    @Test func codesComeBack() {
        for code in UInt8.min...UInt8.max {
            let value = widenedE4M3(code)
            guard code & 0x7F != 0x7F else {
                #expect(value.isNaN && narrowedE4M3(value) == code)
                continue
            }
            #expect(Double(value.magnitude) == DocumentedOrder.magnitudes[Int(code & 0x7F)])
            #expect(value.sign == (code < 128 ? .plus : .minus))
            #expect(narrowedE4M3(value) == code)
        }
    }

    /// All numbers, the middles between them, and the floats beside both; beyond the largest; what is not finite.
    @Test func numbersAreRoundedToTheNearest() {
        var points: [Float] = [449, 464, 480, 1e9, .greatestFiniteMagnitude, .leastNonzeroMagnitude, 1e-30]
        for (low, high) in zip(DocumentedOrder.magnitudes, DocumentedOrder.magnitudes.dropFirst()) {
            points += [Float(low), Float((low + high) / 2)]
        }
        for point in points {
            for x in [point.nextDown, point, point.nextUp] where x.isFinite {
                for x in [x, -x] {
                    let found = widenedE4M3(narrowedE4M3(x)), expected = DocumentedOrder.e4m3(x)
                    #expect(found.bitPattern == expected.bitPattern, "\(x)")
                }
            }
        }
        for odd in [Float.infinity, -.infinity, .nan] { #expect(narrowedE4M3(odd) & 0x7F == 0x7F) }
    }

    /// What is beyond 448 is counted by whoever rounds it: in what it sends, and in its own part of what all get.
    @Test func saturationIsCounted() throws {
        for kind in [CollectiveKind.reduceScatter, .allReduce] {
            let counts = onThreads(ranks: 2) { communicator in
                // A hundred numbers of each half, on either rank, are too large for E4M3 alone, a hundred as sums.
                let row = Row((0..<10_000).map { $0 % 50 == 7 ? 500 : $0 % 50 == 9 ? 300 : 1 })
                let style = CollectiveStyle(wire: .e4m3)
                if kind == .allReduce {
                    try unsafe communicator.allReduce(row.floats, style: style).wait()
                } else {
                    try unsafe communicator.reduceScatter(row.floats, style: style).wait()
                }
                return communicator.statistics.saturated
            }
            for count in counts { #expect(try count.get() == (kind == .allReduce ? 300 : 100)) }
        }
    }
}
