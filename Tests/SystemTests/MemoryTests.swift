import Foundation
import Testing

/// The plan against what the kernel says of a run.
@Suite struct MemoryTests {
    /// "36.8 MiB" in bytes, good to a tenth of the unit.
    private func number(_ text: String, _ pattern: String) throws -> Int {
        let regex = try Regex("\(pattern) ([0-9.]+) ([KMG])iB", as: (Substring, Substring, Substring).self)
        let match = try #require(try regex.firstMatch(in: text))
        let unit = try #require(["K": 1 << 10, "M": 1 << 20, "G": 1 << 30][match.2])
        return Int(try #require(Double(match.1)) * Double(unit))
    }

    static let shapes: [[String]] = [
        [],
        ["--model.dim", "64", "--model.n_layers", "4"],
        ["--model.dim", "192", "--model.n_layers", "4", "--model.n_heads", "6", "--training.seq_len", "256",
         "--training.local_batch_size", "16"],
        ["--model.dim", "192", "--model.n_layers", "4", "--model.n_heads", "6", "--training.seq_len", "256",
         "--training.local_batch_size", "16", "--activation_checkpoint.mode", "full", "--training.threads", "2"],
        ["--model.dim", "128", "--training.seq_len", "4096", "--training.local_batch_size", "2",
         "--activation_checkpoint.mode", "selective"],
        ["--model.dim", "128", "--training.seq_len", "2048", "--training.local_batch_size", "2",
         "--data.layout", "decompose", "--data.decomposition", "random"],
    ]

    @Test(arguments: shapes) func thePeakIsAsPlanned(_ flags: [String]) throws {
        let place = try Workplace()
        let outcome = try Program.run(["train", "run.toml", "--training.steps", "2"] + flags, in: place.path)
        #expect(outcome.code == 0, "\(outcome.error)")
        let peak = try number(outcome.out, "memory +"), planned = try number(outcome.out, "at most, planned")
        // A save's buffers and a step's peak may miss each other, so a small run can stay further below than above.
        #expect(peak - planned <= max(peak / 33, 4 << 20), "\(peak) bytes, planned \(planned)")
        #expect(planned - peak <= max(peak / 33, 6 << 20), "\(peak) bytes, planned \(planned)")
        let plan = try Program.run(["plan", "run.toml", "--flops", "50", "--json"] + flags, in: place.path)
        let object = try JSONSerialization.jsonObject(with: Data(plan.out.utf8)) as? [String: Any]
        #expect(abs((object?["peak_bytes"] as? Int ?? 0) - planned) < 4 << 20)
        #expect(object?["peak_gflops"] as? Double == 50)
    }

    /// Tokens stay on disk, and what is known of many short documents does not.
    @Test(arguments: ["concatenate", "best_fit", "decompose"]) func preparedDataAreAsPlanned(layout: String) throws {
        let place = try Workplace()
        let lines = (0..<200_000).map { "{\"text\":\"document \($0)\"}\n" }.joined()
        try place.write("lines.jsonl", lines)
        #expect(try place.run("data", "prepare", "lines.jsonl", "--out", "prepared").code == 0)
        let outcome = try place.run("train", "run.toml", "--data.paths", "prepared", "--data.tokenizer", "prepared",
                                    "--data.layout", layout, "--validation.rows", "8")
        #expect(outcome.code == 0, "\(outcome.error)")
        let peak = try number(outcome.out, "memory +"), planned = try number(outcome.out, "at most, planned")
        #expect(abs(peak - planned) <= max(peak / 33, 8 << 20), "\(peak) bytes, planned \(planned)")
    }

    /// With what the network holds.
    @Test(arguments: [2, 3], ["checked", "sealed"]) func ranksAreAsPlanned(count: Int, protection: String) throws {
        let place = try Workplace()
        let shape = ["--model.dim", "192", "--model.n_layers", "4", "--model.n_heads", "6", "--training.steps", "20"]
        let ranks = try Ranks(count, in: place.path, ["train", "run.toml", "--comm.protection", protection] + shape)
        for ended in ranks.ends() { #expect(ended?.code == 0, "\(ended?.text ?? "running")") }
        let text = ranks.text(0)
        let peak = try number(text, "memory +"), planned = try number(text, "at most, planned")
        #expect(abs(peak - planned) <= max(peak / 33, 12 << 20), "\(peak) bytes, planned \(planned)")
        let plan = try self.planned(["--ranks", "\(count)", "--comm.protection", protection] + shape, in: place)
        #expect(abs((plan["peak_bytes"] as? Int ?? 0) - planned) < 4 << 20)
        #expect((plan["components"] as? [String: Int])?["communication"] ?? 0 > 2 << 20)
    }

    private func planned(_ flags: [String], in place: borrowing Workplace) throws -> [String: Any] {
        let plan = try Program.run(["plan", "run.toml", "--flops", "50", "--json"] + flags, in: place.path)
        #expect(plan.code == 0, "\(plan.error)")
        return try #require(try JSONSerialization.jsonObject(with: Data(plan.out.utf8)) as? [String: Any])
    }

    /// The link adds the part of its time that the backward does not hide; documents shorten contexts.
    @Test func timeOverALink() throws {
        let place = try Workplace()
        let alone = try planned([], in: place)
        #expect(alone["wire_bytes"] as? Int == 0 && alone["wire_seconds"] is NSNull)
        let local = try planned(["--ranks", "2"], in: place)
        #expect(local["wire_seconds"] is NSNull && local["seconds"] as? Double == local["compute_seconds"] as? Double)
        let linked = try planned(["--ranks", "2", "--link-gbit", "0.1"], in: place)
        let bytes = try #require(linked["wire_bytes"] as? Int), wire = try #require(linked["wire_seconds"] as? Double)
        let visible = try #require(linked["visible_seconds"] as? Double)
        let compute = try #require(linked["compute_seconds"] as? Double)
        #expect(abs(wire - Double(bytes) * 8 / 0.1e9) < 1e-9)
        #expect(visible > 0 && visible <= wire)
        #expect(abs((linked["seconds"] as? Double ?? 0) - compute - visible) < 1e-12)
        #expect(linked["tokens"] as? Int == 2 * (alone["tokens"] as? Int ?? 0))
        let rows = try planned(["--data.document_mask", "false"], in: place)
        let short = try planned(["--data.layout", "decompose", "--data.min_length", "2"], in: place)
        #expect(short["context"] as? Double ?? 0 < rows["context"] as? Double ?? 0)
        #expect(short["flops"] as? Double ?? 0 < rows["flops"] as? Double ?? 0)
        #expect(local["peak_seconds"] as? Double == local["compute_seconds"] as? Double)
        let measured = try place.run("plan", "run.toml", "--json"), words = try place.run("plan", "run.toml")
        let own = try #require(try JSONSerialization.jsonObject(with: Data(measured.out.utf8)) as? [String: Any])
        #expect(own["compute_seconds"] as? Double ?? 0 > 0)
        #expect(own["compute_seconds"] as? Double != own["peak_seconds"] as? Double)
        #expect(words.out.contains("a step at that peak") && words.out.contains("a step, by one layer"))
        let table = try place.run("plan", "run.toml", "--ranks", "3", "--link-gbit", "1", "--flops", "50")
        for word in ["communication", "of a rank", "each on its own machine", "on the wire", "1.0 Gbit/s", "hidden",
                     "visible", "a step with the link"] {
            #expect(table.out.contains(word), "\(word)")
        }
        for wrong in [["--ranks", "0"], ["--link-gbit", "0"], ["--ranks", "3", "--training.global_batch_size", "2"]] {
            #expect(try Program.run(["plan", "run.toml"] + wrong, in: place.path).code == 2)
        }
    }

    /// One line, exit code 2, nothing written, and three keys to turn.
    @Test(arguments: [["plan"], ["plan", "--ranks", "4"], ["plan", "--ranks", "4", "--link-gbit", "1"], ["train"]],
          [[], ["--data.layout", "decompose"], ["--data.layout", "best_fit"]])
    func whatDoesNotFitIsRefused(_ command: [String], layout: [String]) throws {
        let place = try Workplace()
        let before = try place.contents()
        let shape = ["run.toml", "--model.dim", "65536", "--model.n_layers", "200"]
        let outcome = try Program.run(command + shape + layout, in: place.path)
        #expect(outcome.code == 2)
        #expect(outcome.errorLines.count == 1, "\(outcome.error)")
        let remedies = outcome.error.matches(of: /--[a-z_]+\.[a-z_]+ [0-9a-z]+ saves [0-9.]+ [MGT]iB/)
        #expect(remedies.count == 3, "\(outcome.error)")
        #expect(try place.contents() == before)
    }

    /// Components with their shares, which add up; slots only where they are asked for.
    @Test func thePlanAsATable() throws {
        let place = try Workplace()
        let short = try place.run("plan", "run.toml")
        let shares = short.out.split(separator: "\n").filter { $0.hasSuffix(" %") }.compactMap { line in
            line.split(separator: " ").dropLast().last.flatMap { Double($0) }
        }
        #expect(shares.count >= 10 && abs(shares.reduce(0, +) - 100) < 1, "\(short.out)")
        #expect(!short.out.contains("  qkv"))
        let outcome = try place.run("plan", "run.toml", "--slots", "--activation_checkpoint.mode", "selective")
        #expect(outcome.code == 0, "\(outcome.error)")
        for word in ["parameters", "gradients", "moments", "activations", "  qkv", "logits", "attention scratch",
                     "rotary tables", "data", "batches", "packing", "program", "peak", "GFLOP/s", "leaves"] {
            #expect(outcome.out.contains(word), "\(word)")
        }
    }

    /// After the second step no call of the allocator, on any thread, in any library; nor while it is traced.
    @Test(arguments: ["1", "2", "3"], ["none", "selective", "full", "traced"])
    func aStepAllocatesNothing(threads: String, mode: String) throws {
        let place = try Workplace()
        let change = mode == "traced" ? ["--profiling.trace", "true"] : ["--activation_checkpoint.mode", mode]
        let flags = ["--training.threads", threads, "--training.seq_len", "700", "--training.local_batch_size", "2",
                     "--training.global_batch_size", "5", "--model.n_layers", "2"] + change
        let outcome = try Program.run(["bench", "step", "--config", "run.toml", "--rounds", "2", "--json"] + flags,
                                      in: place.path)
        #expect(outcome.code == 0, "\(outcome.error)")
        let object = try JSONSerialization.jsonObject(with: Data(outcome.out.utf8)) as? [String: Any]
        #expect(object?["allocations"] as? Int == 0)
        let peak = try #require(object?["peak_bytes"] as? Int), planned = try #require(object?["planned_bytes"] as? Int)
        #expect(abs(peak - planned) <= max(peak / 33, 8 << 20))
    }

    /// Nor with quantised operands, whose largest magnitudes, scales and random numbers come on top.
    @Test(arguments: ["fp8-hybrid", "fp8-block", "fp8-paper"], ["1", "2"])
    func aQuantisedStepAllocatesNothing(recipe: String, threads: String) throws {
        let place = try Workplace()
        let flags = ["--training.threads", threads, "--training.seq_len", "700", "--training.local_batch_size", "2",
                     "--training.global_batch_size", "5", "--model.n_layers", "2", "--precision.recipe", recipe]
        let outcome = try Program.run(["bench", "step", "--config", "run.toml", "--rounds", "2", "--json"] + flags,
                                      in: place.path)
        #expect(outcome.code == 0, "\(outcome.error)")
        let object = try JSONSerialization.jsonObject(with: Data(outcome.out.utf8)) as? [String: Any]
        #expect(object?["allocations"] as? Int == 0 && object?["recipe"] as? String == recipe)
        let peak = try #require(object?["peak_bytes"] as? Int), planned = try #require(object?["planned_bytes"] as? Int)
        #expect(abs(peak - planned) <= max(peak / 33, 8 << 20))
    }

    /// Nor does writing, token by token.
    @Test(arguments: ["1", "2"]) func aTokenAllocatesNothing(threads: String) throws {
        let place = try Workplace()
        let outcome = try Program.run(["bench", "generate", "--config", "run.toml", "--threads", threads, "--rounds",
                                       "3", "--prompt", "70", "--context", "9", "--json"], in: place.path)
        #expect(outcome.code == 0, "\(outcome.error)")
        let object = try JSONSerialization.jsonObject(with: Data(outcome.out.utf8)) as? [String: Any]
        #expect(object?["allocations"] as? Int == 0)
    }

    /// Nor when the length of rows changes from step to step.
    @Test(arguments: [["--data.layout", "decompose", "--data.min_length", "4", "--data.decomposition", "quota"],
                      ["--data.layout", "best_fit"],
                      ["--training.length_warmup", "truncate", "--training.length_warmup_steps", "40"],
                      ["--training.length_warmup", "reshape", "--training.length_warmup_steps", "40"],
                      ["--training.length_warmup", "window", "--training.length_warmup_steps", "40"]])
    func stepsOfManyLengthsAllocateNothing(layout: [String]) throws {
        let place = try Workplace()
        // The counted step is the one after the rounds: among so many there are several lengths.
        for rounds in 6..<11 {
            let flags = ["--training.local_batch_size", "2", "--training.global_batch_size", "5",
                         "--training.seq_len", "64", "--training.threads", "2"] + layout
            let outcome = try Program.run(["bench", "step", "--config", "run.toml", "--rounds", "\(rounds)", "--json"]
                                          + flags, in: place.path)
            #expect(outcome.code == 0, "\(outcome.error)")
            let object = try JSONSerialization.jsonObject(with: Data(outcome.out.utf8)) as? [String: Any]
            #expect(object?["allocations"] as? Int == 0, "\(rounds) rounds")
        }
    }

    @Test func anotherTokenizer() throws {
        let place = try Workplace()
        #expect(try place.run("train", "run.toml", "--data.tokenizer", "nowhere.json").code == 2)
    }
}
