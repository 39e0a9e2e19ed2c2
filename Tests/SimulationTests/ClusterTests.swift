import Base
import Simulation
import Testing

/// Whole jobs in virtual time.
@Suite struct ClusterTests {
    @Test func aThousandSeeds() {
        var strangers = 0
        var ends: [Misfortune: (finished: Int, startsFailed: Int, failed: Int)] = [:]
        let seeds = seeds(1000)
        for seed in seeds {
            let report = Cluster(seed: seed).run()
            strangers += report.strangers
            #expect(report.wrongs.isEmpty, "\(report.description.replacing("\n", with: " | "))")
            var end = ends[report.misfortune] ?? (0, 0, 0)
            end.finished += report.finished
            end.startsFailed += report.startsFailed
            end.failed += report.failed
            ends[report.misfortune] = end
        }
        // Each of them strikes often enough, before and after the start, to show something.
        guard seeds.count >= 1000 else { return }
        #expect(strangers > 100)
        for misfortune in [Misfortune.killed, .stopped, .cutOff, .disconnected, .damaged] {
            let end = ends[misfortune] ?? (0, 0, 0)
            #expect(end.failed > 10 && end.finished > 10, "\(misfortune): \(end)")
            if misfortune != .damaged { #expect(end.startsFailed > 10, "\(misfortune): \(end)") }
        }
        #expect(ends[.absent]?.startsFailed ?? 0 > 10 && ends[.absent]?.finished == 0)
    }

    /// Jobs whose survivors agree on how to go on: nobody hangs, and of all that agree on something one group at most
    /// can meet.
    @Test func aThousandSeedsOfSurvivors() {
        var ends: [Misfortune: (goOn: Int, end: Int)] = [:]
        let seeds = seeds(1000)
        for seed in seeds {
            let report = Cluster(seed: seed, survives: true).run()
            #expect(report.wrongs.isEmpty, "\(report.description.replacing("\n", with: " | "))")
            var end = ends[report.misfortune] ?? (0, 0)
            end.goOn += report.goOn
            end.end += report.retired
            ends[report.misfortune] = end
        }
        guard seeds.count >= 1000 else { return }
        for misfortune in [Misfortune.killed, .stopped, .cutOff, .disconnected, .damaged] {
            #expect(ends[misfortune]?.goOn ?? 0 > 50, "\(misfortune): \(ends)")
        }
        #expect(ends[.stopped]?.end ?? 0 > 10 && ends[.cutOff]?.end ?? 0 > 10, "\(ends)")
    }

    @Test func aSeedOfSurvivorsReplays() {
        for seed in 0..<12 {
            let first = Cluster(seed: seed, survives: true).run(), second = Cluster(seed: seed, survives: true).run()
            #expect(first == second, "\(first.description)\n\(second.description)")
        }
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
