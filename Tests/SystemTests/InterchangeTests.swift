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
