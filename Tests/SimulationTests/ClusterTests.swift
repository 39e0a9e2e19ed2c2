import Base
import Simulation
import Testing

/// Whole jobs in virtual time.
@Suite struct ClusterTests {
    @Test func aThousandSeeds() {
        var strangers = 0
        for seed in seeds(1000) {
            let report = Cluster(seed: seed).run()
            strangers += report.strangers
            #expect(report.wrongs.isEmpty, "\(report.description.replacing("\n", with: " | "))")
        }
        #expect(strangers > 0)
    }

    /// The same seed does the same, at the same moments.
    @Test func aSeedReplays() {
        for seed in 0..<26 {
            let first = Cluster(seed: seed).run(), second = Cluster(seed: seed).run()
            #expect(first == second, "\(first.description)\n\(second.description)")
        }
        #expect(Cluster(seed: 1).run().trace != Cluster(seed: 14).run().trace)
    }
}
