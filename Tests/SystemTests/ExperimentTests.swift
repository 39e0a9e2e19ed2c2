import Foundation
import Testing

/// `skein experiment lengths` on a model of a few thousand parameters.
@Suite struct ExperimentTests {
    private static let arms = ["concat", "dd-grow-p2-1"]

    private static let recipe = [
        "text.txt", "--model.dim", "16", "--model.n_layers", "1", "--model.ffn_dim", "32", "--training.seq_len", "64",
        "--data.min_length", "16", "--validation.interval", "3", "--checkpoint.interval", "3",
    ]

    /// `flags` after the recipe win over it.
    private func experiment(_ place: borrowing Workplace, tokens: Int = 1_024, arms: [String] = arms,
                            _ flags: [String] = []) throws -> Program.Outcome {
        try Program.run(["experiment", "lengths", "--out", "runs", "--tokens", "\(tokens)", "--arms",
                         arms.joined(separator: ",")] + Self.recipe + flags, in: place.path)
    }

    private func metrics(_ place: borrowing Workplace, _ arm: String) -> String { "runs/\(arm)-seed0/metrics.jsonl" }

    private func rows(_ outcome: Program.Outcome) -> [Substring] {
        outcome.out.split(separator: "\n").filter { $0.hasPrefix("| ") }
    }

    @Test func aTableThatIsOnlyReadTheSecondTime() throws {
        let place = try Workplace()
        let first = try experiment(place)
        #expect(first.code == 0, "\(first.error)")
        #expect(rows(first).map { $0.split(separator: " | ")[0] }
            == ["| Arm", "| concat-and-chunk", "| decomposition, grow-P2, 1 cycle"])
        // Bits a byte and tokens a second, of both arms.
        for row in rows(first).dropFirst() {
            for cell in row.split(separator: " | ").dropFirst().prefix(2) {
                #expect(try #require(Double(cell)) > 0, "\(row)")
            }
        }
        let before = try place.contents()
        #expect(before[metrics(place, "concat")]?.split(separator: UInt8(ascii: "\n")).count == 8)
        let second = try experiment(place)
        #expect(second.code == 0 && second.error.isEmpty, "\(second.error)")
        #expect(second.out.split(separator: "\n") == rows(first).inserting("|---|---|---|---|---|---|---|", at: 1))
        #expect(try place.contents() == before)
    }

    /// Once the second arm had saved step 3 and gone on to step 5, once it had saved nothing.
    @Test(arguments: [true, false]) func whatWasInterruptedGoesOn(saved: Bool) throws {
        let place = try Workplace()
        #expect(try experiment(place, ["--checkpoint.keep_latest_k", "9"]).code == 0)
        let whole = try place.contents(), arm = Self.arms[1], folder = "runs/\(arm)-seed0/"
        let lines = try #require(whole[metrics(place, arm)]).split(separator: UInt8(ascii: "\n"))
        try place.write(metrics(place, arm), lines[..<5].reduce(into: Data()) { $0 += $1 + Data("\n".utf8) })
        for step in [8, 6] + (saved ? [] : [3]) {
            try FileManager.default.removeItem(atPath: "\(place.path)/\(folder)checkpoint/step-\(step)")
        }
        let outcome = try experiment(place, ["--checkpoint.keep_latest_k", "9"])
        #expect(outcome.code == 0, "\(outcome.error)")
        #expect(outcome.error.contains("run 2 of 2") && !outcome.error.contains("run 1 of 2"), "\(outcome.error)")
        #expect(rows(outcome).count == 3)
        let weights = folder + "checkpoint/step-8/model.safetensors", after = try place.contents()
        #expect(whole[weights] != nil && after[weights] == whole[weights])
        let first = metrics(place, Self.arms[0])
        #expect(after[first] == whole[first])
    }

    /// One line and exit code 2 before anything is trained.
    /// Four rates of each arm on seed 0, and its best on another; then nothing is trained again.
    @Test func optimizersAreComparedAtTheirBestRates() throws {
        let place = try Workplace()
        let arguments = ["experiment", "optimizers", "--out", "runs", "--tokens", "8192", "--seeds", "1", "--arms",
                         "soap,adamw"] + Self.recipe.dropLast(4)
        let first = try Program.run(arguments, in: place.path)
        #expect(first.code == 0, "\(first.error)")
        let table = rows(first).map { $0.split(separator: " | ").map { $0.filter { $0 != "|" } } }
        #expect(table.map { $0[0].trimmingCharacters(in: .whitespaces) }
            == ["Arm", "AdamW", "SOAP", "Arm"] + Array(repeating: "SOAP", count: 4)
            + Array(repeating: "AdamW", count: 4))
        for arm in [1, 2] {
            let best = table[4...].filter { $0[0] == table[arm][0] }.min { Double($0[2]) ?? 99 < Double($1[2]) ?? 99 }
            #expect(table[arm][1] == best?[1])
        }
        let before = try place.contents()
        let again = try Program.run(arguments, in: place.path)
        #expect(again.code == 0 && again.error.isEmpty && rows(again) == rows(first), "\(again.error)")
        #expect(try place.contents() == before)
        for flags in [["--seeds", "0"], ["--arms", "adamw,other"], ["--tokens", "0"]] {
            let refused = try Program.run(["experiment", "optimizers", "--out", "new"] + flags + ["text.txt"],
                                          in: place.path)
            #expect(refused.code == 2 && refused.errorLines.count == 1, "\(flags): \(refused.error)")
        }
    }

    @Test func whatCannotRunIsRefusedAtOnce() throws {
        let place = try Workplace()
        #expect(try experiment(place, arms: ["concat"]).code == 0)
        try place.write("file", "of no use as a folder")
        try place.write("with,comma.txt", String(repeating: "the name is the only fault ", count: 200))
        let before = try place.contents()
        let cases: [(tokens: Int, flags: [String], words: [String])] = [
            // Another recipe in the same folder.
            (1_024, ["--optimizer.lr", "0.1"], ["runs/concat-seed0", "another recipe", "--out"]),
            (2_048, [], ["runs/concat-seed0", "another recipe", "--out"]),
            // The first arm could run with this, the second could not.
            (1_024, ["--training.seq_len", "96"], ["training.seq_len", "power of two"]),
            (100, [], ["--tokens 100", "one step of 128"]),
            (65_536, ["--training.seq_len", "16384"], ["16384", "longer than the data"]),
            (1_024, ["--job.name", "other"], ["job", "--out"]),
            (1_024, ["--no.such", "1"], ["no.such"]),
        ]
        for (tokens, flags, words) in cases {
            let outcome = try experiment(place, tokens: tokens, flags)
            #expect(outcome.code == 2 && outcome.errorLines.count == 1, "\(flags): \(outcome.error)")
            for word in words { #expect(outcome.error.contains(word), "\(flags): \(outcome.error)") }
            #expect(try place.contents() == before, "\(flags)")
        }
        for arguments in [["--out", "file", "text.txt"], ["--out", "new"],
                          ["--out", "new", "--tokens", "0", "text.txt"],
                          ["--out", "new", "--arms", "concat,other", "text.txt"],
                          ["--out", "new", "--seeds", "0,x", "text.txt"], ["--out", "new", "missing.txt"]] {
            let outcome = try Program.run(["experiment", "lengths"] + arguments, in: place.path)
            #expect(outcome.code == 2, "\(arguments): \(outcome.error)")
            #expect(try place.contents() == before, "\(arguments)")
        }
        let comma = try Program.run(["experiment", "lengths", "--out", "new", "with,comma.txt"], in: place.path)
        #expect(comma.code == 2 && comma.error.contains("with,comma.txt has a comma"), "\(comma.error)")
        #expect(try place.contents() == before)
    }
}

extension [Substring] {
    fileprivate func inserting(_ line: Substring, at index: Int) -> [Substring] {
        Array(self[..<index]) + [line] + self[index...]
    }
}
