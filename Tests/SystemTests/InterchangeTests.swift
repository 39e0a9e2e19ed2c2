import Foundation
import Testing

/// A model that goes out, comes back and trains on, by the commands that a person would type.
@Suite struct InterchangeTests {
    @Test func outAndBackAndOn() throws {
        let place = try Workplace()
        #expect(try place.run("train", "run.toml", "--model.tie_embeddings").code == 0)
        let out = try place.run("export", "outputs/tiny", "--to", "hf", "published")
        #expect(out.code == 0 && out.out.contains("bit for bit"), "\(out.error)")
        let names = try FileManager.default.contentsOfDirectory(atPath: place.path + "/published").sorted()
        #expect(names == ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                          "tokenizer_config.json"])
        let back = try place.run("import", "published", "--out", "back")
        #expect(back.code == 0 && back.out.contains("back/step-0"), "\(back.error)")
        // The weights are those that were trained, bit for bit, as `inspect --diff` counts them.
        let diff = try place.run("inspect", "back", "--diff", "outputs/tiny", "--json")
        let tensors = diff.out.split(separator: "\n").filter { $0.contains("\"tensor\":\"model.") }
        #expect(tensors.count == 11 && tensors.allSatisfy { $0.contains("\"different\":0,\"") }, "\(diff.out)")
        let texts = try ["back", "outputs/tiny"].map {
            try place.run("generate", $0, "--prompt", "a text", "--tokens", "12", "--top-p", "0.9").out
        }
        #expect(texts[0] == texts[1] && texts[0].hasPrefix("a text"))
        let on = try place.run(
            "train", "back/step-0/config.toml", "--checkpoint.load_weights", "back/step-0", "--training.seq_len", "32",
            "--training.steps", "2", "--training.threads", "1", "--data.paths", "text.txt", "--job.name", "on")
        #expect(on.code == 0 && on.out.contains("step 2/2"), "\(on.error)")
    }

    /// Narrower weights, in shards; and what is refused.
    @Test func widthsAndRefusals() throws {
        let place = try Workplace()
        #expect(try place.run("train", "run.toml", "--model.dim", "256", "--model.n_layers", "2").code == 0)
        let out = try place.run("export", "outputs/tiny", "small", "--dtype", "bf16", "--shard-mib", "1")
        #expect(out.code == 0 && out.out.contains("rounded weights bit for bit"), "\(out.error)")
        #expect(out.out.contains("model.safetensors.index.json"))
        #expect(try place.run("import", "small", "--out", "small-back").code == 0)
        for (arguments, words) in [
            (["export", "outputs/tiny", "small"], "small exists already"),
            (["export", "outputs/tiny", "new", "--to", "gguf"], "gguf"),
            (["export", "missing", "new"], "missing does not exist"),
            (["export", "outputs/tiny", "new", "--shard-mib", "0"], "--shard-mib"),
            (["import", "outputs/tiny", "--out", "new"], "has no config.json"),
            (["import", "small", "--out", "small-back"], "already holds a checkpoint"),
            (["import", "small", "--out", "new", "--tokenizer", "gone"], "gone"),
        ] {
            let refused = try Program.run(arguments, in: place.path)
            #expect(refused.code != 0 && refused.errorLines.count == 1 && refused.error.contains(words),
                    "\(arguments): \(refused.error)")
            #expect(!FileManager.default.fileExists(atPath: place.path + "/new"))
        }
    }

    @Test func evaluation() throws {
        let place = try Workplace()
        #expect(try place.run("train", "run.toml", "--training.steps", "20").code == 0)
        try place.write("tasks.jsonl", """
            {"context": "a text of some", "choices": ["words that say little", "zzzzzzzzzzzzzzzzzzzzz"], "gold": 0}
            {"context": "a text", "choices": ["QQQQQQQQ", "of some w"], "gold": 1}

            """)
        let both = try place.run("eval", "outputs/tiny", "--data", "text.txt", "--tasks", "tasks.jsonl")
        #expect(both.code == 0, "\(both.error)")
        for words in ["bits/byte", "0-15", "16-31", "acc_norm    1.0000", "questions   2"] {
            #expect(both.out.contains(words), "\(words) in \(both.out)")
        }
        let json = try place.run("eval", "outputs/tiny", "--data", "text.txt", "--part", "valid", "--json",
                                 "--seq-len", "64")
        struct Line: Decodable { let tokens, bytes: Int; let loss, bits_per_byte: Double }
        let line = try JSONDecoder().decode(Line.self, from: Data(json.out.utf8))
        #expect(line.tokens == line.bytes && abs(line.loss / log(2) - line.bits_per_byte) < 1e-9)
        // A tenth of the text is held out.
        #expect((500...1_000).contains(line.tokens), "\(line.tokens)")
        for (arguments, words) in [([], "--data"), (["--tasks", "gone.jsonl"], "gone.jsonl"),
                                   (["--data", "text.txt", "--stride", "99"], "--stride 99"),
                                   (["--data", "gone.txt"], "gone.txt")] {
            let refused = try Program.run(["eval", "outputs/tiny"] + arguments, in: place.path)
            #expect(refused.code == 2 && refused.errorLines.count == 1 && refused.error.contains(words),
                    "\(refused.error)")
        }
    }

    /// Ranks share texts and questions, and find what one finds; `--each` has every question's scores.
    @Test func evaluationByRanks() throws {
        let place = try Workplace()
        #expect(try place.run("train", "run.toml").code == 0)
        for number in 0..<5 {
            try place.write("texts/\(number).txt", String(repeating: "text \(number). ", count: 3 + 9 * number))
            let line = #"{"context": "text", "choices": ["\#(number)", "of", "zz"], "gold": \#(number % 3)}"# + "\n"
            let before = number == 0 ? "" : try String(contentsOfFile: place.path + "/tasks.jsonl", encoding: .utf8)
            try place.write("tasks.jsonl", before + line)
        }
        struct Answer: Decodable, Equatable {
            let question, answer, answer_norm, gold: Int
            let log_probabilities: [Double]
        }
        struct Band: Decodable, Equatable { let first, last, tokens, bytes: Int; let accuracy: Double }
        struct Texts: Decodable { let documents, tokens: Int; let loss: Double; let bands: [Band] }
        struct Shares: Decodable, Equatable { let acc, acc_norm, acc_stderr: Double }
        func found(_ flags: String...) throws -> (texts: Texts, answers: [Answer], shares: Shares) {
            let run = try Program.run(["eval", "outputs/tiny", "--data", "texts", "--tasks", "tasks.jsonl", "--json",
                                       "--each", "--threads", "1"] + flags, in: place.path)
            #expect(run.code == 0 && run.error.isEmpty, "\(run.error)")
            let lines = run.out.split(separator: "\n").map { Data($0.utf8) }, decoder = JSONDecoder()
            try #require(lines.count == 7, "\(run.out)")
            return (try decoder.decode(Texts.self, from: lines[0]),
                    try lines[1...5].map { try decoder.decode(Answer.self, from: $0) },
                    try decoder.decode(Shares.self, from: lines[6]))
        }
        let one = try found(), three = try found("-n", "3")
        #expect(one.answers == three.answers && one.shares == three.shares && one.texts.bands == three.texts.bands)
        #expect(one.answers.map(\.question) == [0, 1, 2, 3, 4])
        for answer in one.answers {
            let scores = answer.log_probabilities
            #expect(scores.count == 3 && scores[answer.answer] == scores.max())
        }
        #expect(three.texts.documents == 5 && three.texts.tokens == one.texts.tokens)
        #expect(abs(three.texts.loss - one.texts.loss) < 1e-12)
    }

    /// A text ends before the first of its stops, and the next prompt's goes on.
    @Test func stops() throws {
        let place = try Workplace()
        #expect(try place.run("train", "run.toml").code == 0)
        let whole = try place.run("generate", "outputs/tiny", "--prompt", "a text", "--tokens", "40").out
        let letter = try #require(whole.dropFirst(12).first { $0.isASCII && !$0.isNewline })
        try place.write("prompts.txt", "a text\na text\n")
        let cut = try place.run("generate", "outputs/tiny", "--prompts", "prompts.txt", "--tokens", "40", "--stop",
                                String(letter))
        let want = "a text" + whole.dropFirst(6).prefix { $0 != letter }
        #expect(cut.out.hasPrefix("==> 1 <==\n" + want + "\n==> 2 <==\n" + want), "\(cut.out)")
        for flags in [["--top-p", "0"], ["--top-p", "1.5"], ["--stop", ""]] {
            #expect(try Program.run(["generate", "outputs/tiny"] + flags, in: place.path).code == 2)
        }
    }
}
