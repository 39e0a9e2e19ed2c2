import Base
import Bench
import Foundation
import Recipe
import Testing

struct WarmupTests {
    private func log(ratios: [Double], maxima: [Double], loss: Double = 3) -> [[String: Double]] {
        zip(ratios, maxima).enumerated().map { index, pair in
            ["step": Double(index + 1), "n_tokens_seen": Double(100 * (index + 1)), "optim/variance_max": pair.1,
             "optim/variance_norm": 100 * pair.1, "loss_metrics/loss_ratio": pair.0,
             "loss_metrics/global_avg_loss": loss, "val/bpb": 4]
        }
    }

    /// The first third of the tokens, and all ratios.
    @Test func whatARunCameTo() {
        let result = WarmupResult(arm: .baseline, seed: 2,
                                  log: log(ratios: [1, 1.3, 1.2, 1, 1.9, 1], maxima: [0.1, 0.4, 9, 9, 9, 9]))
        #expect(result.largestLossRatio == 1.9 && result.stepsOver == 2)
        #expect(result.earlyMaximum == 0.4 && result.earlyNorm == 40 && result.finalBits == 4)
        let lost = WarmupResult(arm: .baseline, seed: 2, log: log(ratios: [1], maxima: [1], loss: .nan))
        #expect(lost.largestLossRatio == .infinity)
    }

    @Test func theTableComparesMaxima() {
        let results = [(0.8, 0.2), (0.4, 0.1)].enumerated().flatMap { seed, maxima in
            [WarmupResult(arm: .baseline, seed: seed, log: log(ratios: [1, 2, 1], maxima: [maxima.0, 0, 0])),
             WarmupResult(arm: .warmup, seed: seed, log: log(ratios: [1, 1, 1], maxima: [maxima.1, 0, 0]))]
        }
        let rows = warmupTable(results).split(separator: "\n")
        #expect(rows.count == 4)
        #expect(rows[2] == "| full length from the first step | 4.000 ± 0.000 | 2.00 ± 0.00 | 1.0 ± 0.0 | "
            + "0.600 ± 0.200 | 60 ± 20 | 1.00 |")
        #expect(rows[3] == "| length warm-up | 4.000 ± 0.000 | 1.00 ± 0.00 | 0.0 ± 0.0 | 0.150 ± 0.050 | 15 ± 5 | "
            + "4.00 |")
    }

    /// Equal inputs, to within one step of full length, and nothing else apart but the lengths.
    @Test(arguments: [[], ["--training.steps", "40"], ["--training.length_warmup", "reshape"],
                      ["--training.length_warmup_steps", "7", "--training.seq_len", "64"]])
    func armsTakeEquallyManyInputs(_ flags: [String]) throws {
        var experiment = WarmupExperiment(sources: ["a"], folder: "out")
        experiment.overrides = flags
        let (baseline, warmup) = (try experiment.recipe(.baseline, seed: 3).recipe,
                                  try experiment.recipe(.warmup, seed: 3).recipe)
        #expect(baseline.job.name == "baseline-seed3" && warmup.job.name == "warmup-seed3")
        #expect(baseline.training.lengthWarmup.method == .none && warmup.training.lengthWarmup.method != .none)
        let full = baseline.training.sequenceLength, keys = warmup.training.lengthWarmup
        let inputs = (0..<warmup.training.steps).reduce(0) { sum, step in
            guard keys.method == .truncate, step < keys.steps else { return sum + full }
            let length = keys.start + step * (full - keys.start) / keys.steps
            return sum + max(keys.start, length - length % keys.multiple)
        }
        #expect(inputs <= baseline.training.steps * full && inputs > (baseline.training.steps - 1) * full)
        var same = warmup
        same.job = baseline.job
        same.training.lengthWarmup = baseline.training.lengthWarmup
        same.training.steps = baseline.training.steps
        #expect(same.debug == baseline.debug && same.model == baseline.model && same.data == baseline.data)
        #expect(same.optimizer == baseline.optimizer && same.schedule == baseline.schedule)
        experiment.overrides = ["--training.length_warmup", "none"]
        #expect(throws: BadInput.self) { try experiment.recipe(.warmup, seed: 0) }
    }

    /// Tiny runs: trained once, read the second time, refused where something else is in their place.
    @Test func runsAreKept() throws {
        let folder = NSTemporaryDirectory() + "skein-warmup-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let text = (0..<4_000).map { "word \($0 * $0 % 97) " }.joined()
        try text.write(toFile: folder + "/text.txt", atomically: true, encoding: .utf8)
        var experiment = WarmupExperiment(sources: [folder + "/text.txt"], folder: folder + "/out")
        experiment.overrides = ["--model.dim", "16", "--model.n_layers", "1", "--model.ffn_dim", "32",
                                "--training.steps", "6", "--training.seq_len", "32",
                                "--training.length_warmup_steps", "8"]
        var begun: [String] = []
        let first = try #require(try experiment.run { begun.append($0) })
        #expect(begun.count == 2 && first.count == 2)
        for result in first {
            #expect(result.finalBits > 0 && result.finalBits < 9)
            #expect(result.earlyMaximum > 0 && result.earlyNorm > result.earlyMaximum)
        }
        let second = try #require(try experiment.run { begun.append($0) })
        #expect(begun.count == 2 && warmupTable(second) == warmupTable(first))
        experiment.overrides += ["--optimizer.lr", "0.001"]
        #expect(throws: BadInput.self) { try experiment.run { _ in } }
    }
}
