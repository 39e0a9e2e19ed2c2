import Foundation
import Testing

/// `profiling.trace`, from the outside: a file that Perfetto reads, and weights that know nothing of it.
@Suite(.serialized) struct TraceTests {
    struct Span {
        let name: String
        let kind: String
        let rank: Int
        let lane: Int
        let from: Double
        let to: Double
        let arguments: [String: Int]

        init?(_ event: [String: Any]) {
            guard event["ph"] as? String == "X", let name = event["name"] as? String,
                  let kind = event["cat"] as? String, let rank = event["pid"] as? Int,
                  let lane = event["tid"] as? Int, let from = event["ts"] as? Double,
                  let length = event["dur"] as? Double, length >= 0 else { return nil }
            (self.name, self.kind, self.rank, self.lane) = (name, kind, rank, lane)
            (self.from, to) = (from, from + length)
            arguments = event["args"] as? [String: Int] ?? [:]
        }
    }

    private func file(_ place: borrowing Workplace, _ name: String, _ steps: String) throws -> [String: Any] {
        let path = "\(place.path)/outputs/\(name)/traces/steps-\(steps).json"
        let object = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path)))
        return try #require(object as? [String: Any])
    }

    private func spans(_ file: [String: Any]) throws -> [Span] {
        let events = try #require(file["traceEvents"] as? [[String: Any]]).filter { $0["ph"] as? String != "M" }
        let spans = events.compactMap(Span.init)
        #expect(spans.count == events.count && !spans.isEmpty)
        return spans
    }

    /// On every lane a span ends before the next one begins, or lies within it; on the network's lanes it ends before.
    private func requireNesting(_ spans: [Span]) {
        // Ends are begin plus length, in doubles: a nanosecond is 0.001.
        let grain = 0.000_5
        for rank in Set(spans.map(\.rank)) {
            for lane in Set(spans.map(\.lane)) {
                var open: [Span] = []
                for span in spans where span.rank == rank && span.lane == lane {
                    while let last = open.last, last.to <= span.from + grain { open.removeLast() }
                    if let last = open.last {
                        #expect(last.from <= span.from && span.to <= last.to + grain, "\(span) in \(last)")
                    }
                    #expect(span.kind != "communication" || open.isEmpty, "\(span)")
                    open.append(span)
                }
            }
        }
    }

    private func weights(_ place: borrowing Workplace, _ name: String) throws -> Data {
        let folder = "\(place.path)/outputs/\(name)/checkpoint/step-4"
        let files = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".safetensors") }
        return try files.sorted().reduce(into: Data()) { bytes, name in
            bytes += try Data(contentsOf: URL(fileURLWithPath: folder + "/" + name))
        }
    }

    /// Every stage and phase on two threads, with operations where they are counted.
    @Test func stagesOfOneRank() throws {
        let place = try Workplace()
        let flags = ["--training.threads", "2", "--training.seq_len", "600", "--training.local_batch_size", "2",
                     "--validation.interval", "2"]
        let traced = try Program.run(["train", "run.toml", "--profiling.trace", "true", "--profiling.first_step", "2",
                                      "--profiling.steps", "2"] + flags, in: place.path)
        #expect(traced.code == 0, "\(traced.error)")
        #expect(try Program.run(["train", "run.toml", "--job.name", "plain"] + flags, in: place.path).code == 0)
        #expect(try weights(place, "tiny") == weights(place, "plain"))
        #expect(!FileManager.default.fileExists(atPath: place.path + "/outputs/plain/traces"))
        #expect(traced.out.contains("outputs/tiny/traces/steps-2-3.json"))
        for word in ["steps 2 to 3", "of peak", "mlp backward", "ms a step"] { #expect(traced.out.contains(word)) }
        let spans = try spans(file(place, "tiny", "2-3"))
        requireNesting(spans)
        #expect(spans.filter { $0.name == "step" }.map(\.arguments) == [["step": 2], ["step": 3]])
        let phases = Set(spans.filter { $0.kind == "phase" }.map(\.name))
        #expect(phases == ["step", "data", "clear", "forward", "backward", "reduce", "agree", "update",
                           "validate"])
        for stage in ["qkv", "attention", "attention output", "mlp", "head", "head weight gradients",
                      "mlp weight gradients", "qkv weight gradients", "mlp backward", "qkv backward",
                      "attention backward", "attention output backward"] {
            let own = spans.filter { $0.name == stage && $0.lane == 0 }
            #expect(!own.isEmpty && own.allSatisfy { ($0.arguments["flops"] ?? 0) > 0 }, "\(stage)")
        }
        for stage in ["embedding", "embedding backward", "mlp norm backward", "gradient norm", "optimizer",
                      "clear gradients"] {
            #expect(spans.contains { $0.name == stage }, "\(stage)")
        }
        #expect(spans.contains { $0.kind == "compute" && $0.lane == 1 })
    }

    /// The stages' operations add up to those that a step's throughput is reckoned from, with micro-batches and grouped
    /// heads too; what recomputation adds is beyond them.
    @Test(arguments: ["none", "selective", "full"]) func operationsAddUp(mode: String) throws {
        let place = try Workplace()
        let flags = ["--training.seq_len", "600", "--training.local_batch_size", "2", "--model.n_heads", "4",
                     "--training.global_batch_size", "3", "--model.n_kv_heads", "2", "--model.n_layers", "2",
                     "--data.document_mask", "false", "--activation_checkpoint.mode", mode]
        let traced = try Program.run(["train", "run.toml", "--profiling.trace", "true"] + flags, in: place.path)
        #expect(traced.code == 0, "\(traced.error)")
        let spans = try spans(file(place, "tiny", "3-4"))
        let step = try #require(spans.first { $0.name == "step" })
        let operations = spans.reduce(0) { sum, span in
            sum + (span.from >= step.from && span.to <= step.to ? span.arguments["flops"] ?? 0 : 0)
        }
        let bench = try Program.run(["bench", "step", "--config", "run.toml", "--rounds", "1", "--json"] + flags,
                                    in: place.path)
        let line = try JSONSerialization.jsonObject(with: Data(bench.out.utf8)) as? [String: Any]
        let rate = try #require(line?["gflops"] as? Double), speed = try #require(line?["tokens_per_s"] as? Double)
        // Throughput counts the norms' gains among the parameters: 5 times 32 that no product touches.
        let ratio = Double(operations) / ((rate * 1e9 / speed - 6 * 5 * 32) * 3 * 600)
        #expect(mode == "none" ? abs(ratio - 1) < 1e-6 : ratio > 1.01 && ratio < 1.3, "\(ratio)")
    }

    /// One file with both ranks; what one rank ends, the other has begun, by rank 0's clock.
    @Test(arguments: [2, 3]) func ranksShareAFile(count: Int) throws {
        let place = try Workplace()
        let flags = ["train", "run.toml", "--training.global_batch_size", "12", "--training.local_batch_size", "2",
                     "--checkpoint.interval", "3"]
        let traced = try Ranks(count, in: place.path, flags + ["--profiling.trace", "true"])
        for ended in traced.ends() { #expect(ended?.code == 0, "\(ended?.text ?? "running")") }
        for rank in 0..<count {
            #expect(traced.text(0).contains("rank \(rank)      computed"))
        }
        let plain = try Ranks(count, in: place.path, flags + ["--job.name", "plain"])
        for ended in plain.ends() { #expect(ended?.code == 0, "\(ended?.text ?? "running")") }
        #expect(try weights(place, "tiny") == weights(place, "plain"))

        let file = try file(place, "tiny", "3-4")
        let spans = try spans(file)
        requireNesting(spans)
        let about = try #require((file["otherData"] as? [String: Any])?["ranks"] as? [[String: Any]])
        #expect(about.compactMap { $0["rank"] as? Int } == Array(0..<count))
        // The ranks run on one machine, by one clock: its offset from itself is nothing.
        let slack = about.compactMap { $0["clock_uncertainty_us"] as? Double }.max() ?? 0
        for rank in about {
            let offset = try #require(rank["clock_offset_us"] as? Double)
            #expect(abs(offset) <= (rank["clock_uncertainty_us"] as? Double ?? 0))
        }
        let collectives = (0..<count).map { rank in
            spans.filter { $0.rank == rank && $0.kind == "communication" }.sorted { $0.from < $1.from }
        }
        let names = collectives[0].map { "\($0.name) \($0.arguments)" }
        #expect(names.contains { $0.contains("reduce-scatter") } && names.contains { $0.contains("all-gather") })
        for rank in 0..<count {
            #expect(collectives[rank].map { "\($0.name) \($0.arguments)" } == names)
            #expect(collectives[rank].allSatisfy { ($0.arguments["bytes"] ?? 0) > 0 })
            #expect(spans.contains { $0.rank == rank && $0.kind == "wait" })
            let steps = spans.filter { $0.rank == rank && $0.name == "step" }
            #expect(steps.map(\.arguments) == [["step": 3], ["step": 4]])
            #expect(spans.contains { $0.rank == rank && $0.name == "checkpoint" })
            for (own, other) in zip(collectives[rank], collectives[0]) where own.name == "reduce-scatter" {
                #expect(own.to + 2 * slack >= other.from && other.to + 2 * slack >= own.from)
            }
        }
    }

    /// A run that is over before its first traced step says so; one that ends among them has a shorter trace.
    @Test func shortRuns() throws {
        let place = try Workplace()
        let none = try place.run("train", "run.toml", "--profiling.trace", "true", "--profiling.first_step", "5")
        #expect(none.code == 0 && none.error.contains("profiling.first_step"), "\(none.error)")
        #expect(!FileManager.default.fileExists(atPath: place.path + "/outputs/tiny/traces"))
        let resumed = try place.run("train", "run.toml", "--checkpoint.load", "latest", "--training.steps", "7",
                                    "--profiling.trace", "true", "--profiling.steps", "9")
        #expect(resumed.code == 0, "\(resumed.error)")
        #expect(try spans(file(place, "tiny", "7-7")).contains { $0.name == "step" && $0.arguments == ["step": 7] })
    }

    @Test func aBenchShowsTheTableToo() throws {
        let place = try Workplace()
        let outcome = try place.run("bench", "step", "--config", "run.toml", "--rounds", "2", "--json",
                                    "--profiling.trace", "true")
        #expect(outcome.code == 0)
        #expect(outcome.error.contains("steps 2 to 5") && outcome.error.contains("mlp backward"), "\(outcome.error)")
        #expect(outcome.out.split(separator: "\n").count == 1)
    }
}
