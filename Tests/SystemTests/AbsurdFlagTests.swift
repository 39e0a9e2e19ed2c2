import Foundation
import Testing

/// Numbers that nobody means, for every flag that takes one: code 2 and one line that names the flag, at once, whatever
/// the number would have been multiplied with.
@Suite struct AbsurdFlagTests {
    private static let huge = "9223372036854775807"

    private static let commands: [(command: [String], flags: [String], valid: [String])] = [
        (["generate", "nowhere"], ["--tokens", "--top-k", "--seed"], ["--tokens", "--top-k", "--seed"]),
        (["launch", "-n", "1"], ["-n"], []),
        (["data", "prepare", "x.txt", "--out", "out"],
         ["--threads", "--shard-mib", "--shard-bytes", "--vocab-size"], []),
        (["plan", "run.toml"], ["--ranks", "--flops", "--link-gbit", "--degree"], []),
        (["plan", "run.toml", "--lengths", "x.txt", "--link-gbit", "1"], ["--ranks", "--flops", "--degree"], []),
        (["bench", "gemm"], ["--m", "--n", "--k", "--threads", "--rounds"], []),
        (["bench", "attention"], ["--sequence", "--heads", "--kv-heads", "--head-dim", "--threads", "--rounds"], []),
        (["bench", "kernels"], ["--rounds"], []),
        (["bench", "step", "--config", "run.toml"], ["--rounds"], []),
        (["bench", "data", "x.txt"], ["--rounds", "--step", "--seq-len"], []),
        (["bench", "plan"], ["--ranks", "--sequences", "--batches"], []),
        (["bench", "collectives"], ["--ranks", "--bytes", "--rounds"], []),
        (["experiment", "lengths", "--out", "out", "x.txt"], ["--tokens"], []),
    ]

    private func expectRefusal(_ arguments: [String], naming flag: String, in place: borrowing Workplace) throws {
        let outcome = try Program.run(arguments, in: place.path)
        #expect(outcome.code == 2, "\(arguments): \(outcome.error)")
        #expect(outcome.errorLines.count == 1 && outcome.error.contains(flag), "\(arguments): \(outcome.error)")
    }

    @Test(arguments: commands.indices) func flagsOfCommands(_ index: Int) throws {
        let place = try Workplace()
        try place.write("x.txt", String(repeating: "some text. ", count: 400))
        let (command, flags, valid) = Self.commands[index]
        for flag in flags {
            for text in ["-1", Self.huge, "9223372036854775808", "-9223372036854775808", "nan", "x", "", "1e300"]
            where !(valid.contains(flag) && text == Self.huge) {
                try expectRefusal(command + [flag, text], naming: flag.trimmingCharacters(in: ["-"]), in: place)
            }
        }
    }

    /// Products of numbers that are allowed one by one.
    @Test func productsOfRecipes() throws {
        let place = try Workplace()
        let cases: [[String]] = [
            ["--model.dim", "65536", "--model.n_layers", "1000", "--model.n_heads", "1024"],
            ["--model.ffn_dim", "1048576", "--model.n_layers", "1000"],
            ["--training.seq_len", "16777216"],
            ["--training.local_batch_size", "1000000", "--training.max_tokens_per_task", Self.huge],
            ["--training.global_batch_size", "1000000", "--training.local_batch_size", "1000000"],
            ["--training.threads", "4096", "--training.seq_len", "16777216"],
            ["--model.dim", "65536", "--model.n_heads", "2"],
        ]
        for flags in cases {
            for command in [["train", "run.toml"], ["plan", "run.toml"], ["bench", "step", "--config", "run.toml"]] {
                let outcome = try Program.run(command + flags, in: place.path)
                // `plan` may well have an answer; nothing else may run, and nothing may end by a signal.
                #expect(outcome.code == 2 || command[0] == "plan" && outcome.code == 0, "\(command + flags)")
                if outcome.code == 2 { #expect(outcome.errorLines.count == 1, "\(outcome.error)") }
            }
        }
    }
}
