import Base
import Checkpoint
import Foundation
import Model
import Recipe
import Tensor
import Testing
import Trainer

/// Models that transformers has saved (Tests/Golden/published), and what it computes with them.
@Suite struct PublishedModelTests {
    static let names = ["llama3", "tied", "qwen2"]
    static let types: [String: ElementType] = ["llama3": .bfloat16, "tied": .float16, "qwen2": .bfloat16]

    static func golden(_ name: String) -> String {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Golden/published/\(name)").path
    }

    private struct Golden: Decodable {
        let tokens: [Int]
        let rows: [Int]
        let logits: [[Double]]
    }

    private func withFolder(_ body: (String, Pool) throws -> Void) throws {
        let path = NSTemporaryDirectory() + "skein-published-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        let pool = Pool(threads: 2, spin: false)
        defer {
            pool.close()
            try? FileManager.default.removeItem(atPath: path)
        }
        try body(path, pool)
    }

    /// An import's logits, read as a prompt and token by token, are those of transformers.
    @Test(arguments: names) func logitsAreThoseOfTransformers(_ name: String) throws {
        let golden = try JSONDecoder().decode(
            Golden.self, from: Data(contentsOf: URL(fileURLWithPath: Self.golden(name) + "/golden.json")))
        try withFolder { folder, pool in
            let report = try ModelImport(Self.golden(name), out: folder, tokenizer: "bytes").run(pool: pool)
            #expect(report.types == [Self.types[name]?.rawValue ?? ""])
            let model = try LoadedModel(path: report.path)
            for prompt in [1, golden.tokens.count] {
                let decoder = try model.decoder(golden.tokens.count, 0, pool)
                var rows = [prompt - 1: values(decoder.read(Array(golden.tokens[..<prompt])))]
                for place in prompt..<golden.tokens.count { rows[place] = values(decoder.next(golden.tokens[place])) }
                var compared = 0
                for (place, want) in zip(golden.rows, golden.logits) {
                    guard let found = rows[place] else { continue }
                    compared += 1
                    let worst = zip(found, want).map { abs(Double($0) - $1) }.max() ?? .infinity
                    #expect(found.count == want.count && worst < 2e-5, "\(name), token \(place): \(worst)")
                }
                #expect(compared == (prompt == 1 ? golden.rows.count : 1))
            }
        }
    }

    private func values(_ row: Row) -> [Float] { (0..<row.count).map { row[$0] } }

    /// The bytes of all tensors of a folder, by name.
    private func tensors(_ path: String) throws -> [String: [UInt8]] {
        let archive = try TensorArchive.open(path).archive, reader = archive.reader()
        var found: [String: [UInt8]] = [:]
        for tensor in archive.tensors {
            var bytes = [UInt8](repeating: 0, count: tensor.byteCount)
            try unsafe bytes.withUnsafeMutableBytes { try unsafe reader.read(tensor, 0..<tensor.count, into: $0) }
            found[tensor.name] = bytes
        }
        return found
    }

    /// There and back: the published bytes come out again, in shards and in one file, and what is imported again has
    /// the same floats. Exported wider, too.
    @Test(arguments: names, [4_000, 1 << 30]) func roundTrip(_ name: String, shardBytes: Int) throws {
        try withFolder { folder, pool in
            let first = try ModelImport(Self.golden(name), out: folder + "/a", tokenizer: "bytes").run(pool: pool)
            let type = try #require(Self.types[name]), model = try LoadedModel(path: first.path)
            for (type, out) in [(type, "/same"), (.float32, "/wide")] {
                let export = try ModelExport(model, to: folder + out, type: type, shardBytes: shardBytes)
                let report = try export.run(pool: pool)
                #expect(report.difference == 0)
                #expect(report.files.contains("model.safetensors.index.json") == (shardBytes == 4_000))
                let again = try ModelImport(folder + out, out: folder + out + "-again").run(pool: pool)
                #expect(try tensors(again.path) == tensors(first.path))
                #expect(try LoadedModel(path: again.path).recipe.model == model.recipe.model)
            }
            #expect(try tensors(folder + "/same") == tensors(Self.golden(name)))
            // A folder that holds something is not written to.
            #expect(throws: BadInput.self) {
                _ = try ModelExport(model, to: folder + "/same", type: type, shardBytes: shardBytes)
            }
        }
    }

    /// What the files say and is not understood is refused, each by its name. Nothing is written then.
    @Test(arguments: [
        (["model_type": "\"gpt2\""], "model_type gpt2 is not understood"),
        (["hidden_act": "\"gelu\""], "hidden_act = \"gelu\" is not understood"),
        (["attention_bias": "true"], "attention_bias = true is not understood"),
        (["quantization_config": "{\"bits\": 4}"], "quantization_config = {bits} is not understood"),
        (["sliding_window": "4096"], "sliding_window = 4096 is not understood"),
        (["new_trick": "1"], "new_trick = 1 is not understood"),
        (["hidden_size": "\"wide\""], "hidden_size must be an integer of at least 1, found \"wide\""),
        (["num_hidden_layers": "0"], "num_hidden_layers must be an integer"),
        (["rms_norm_eps": "\"1e-5\""], "rms_norm_eps must be a number"),
        (["rope_parameters": "{\"rope_type\": \"yarn\", \"factor\": 2.0}"], "rope_parameters.rope_type yarn"),
        (["rope_parameters": "{\"rope_type\": \"linear\"}"], "rope_parameters has no number factor"),
        (["rope_parameters": "{\"rope_type\": \"default\", \"partial_rotary_factor\": 0.5}"],
         "rope_parameters.partial_rotary_factor = 0.5"),
        (["rope_theta": "10000"], "rope_theta is 10000.0 in one place and 300.0 in another"),
        (["intermediate_size": "25"], "model.layers.0.mlp.gate_proj.weight is [24, 16]"),
        (["num_hidden_layers": "1"], "has the tensor model.layers.1."),
        (["num_hidden_layers": "3"], "has no tensor model.layers.2."),
        (["tie_word_embeddings": "false"], "has no tensor lm_head.weight"),
        (["num_attention_heads": "3"], "its model cannot be had here"),
        (["vocab_size": "200"], "vocab_size is 200, but the tokenizer has 257 ids"),
    ]) func refusals(_ changes: [String: String], _ words: String) throws {
        try withFolder { folder, _ in
            let copy = folder + "/copy"
            try FileManager.default.copyItem(atPath: Self.golden("tied"), toPath: copy)
            let path = copy + "/config.json"
            var fields = try #require(JSONValue(Array(Data(contentsOf: URL(fileURLWithPath: path))))?.object)
            for (key, value) in changes { fields[key] = JSONValue(Array(value.utf8)) }
            try write(fields, to: path)
            let error = #expect(throws: BadInput.self) {
                _ = try ModelImport(copy, out: folder + "/out", tokenizer: "bytes")
            }
            #expect(error.map { "\($0)".contains(words) && !"\($0)".contains("\n") } == true, "\(error as Any)")
            #expect(!FileManager.default.fileExists(atPath: folder + "/out"))
        }
    }

    private func write(_ fields: [String: JSONValue], to path: String) throws {
        func text(_ value: JSONValue) -> String {
            switch value {
            case .text(let text): jsonString(text)
            case .list(let values): "[" + values.map(text).joined(separator: ",") + "]"
            case .object(let fields): "{" + fields.map { jsonString($0.key) + ":" + text($0.value) }
                .joined(separator: ",") + "}"
            default: value.brief
            }
        }
        try Data(text(.object(fields)).utf8).write(to: URL(fileURLWithPath: path))
    }

    @Test func missingFiles() throws {
        try withFolder { folder, _ in
            for (name, words) in [("config.json", "has no config.json"), ("tokenizer.json", "has no tokenizer.json")] {
                let copy = folder + "/" + name
                try FileManager.default.copyItem(atPath: Self.golden("tied"), toPath: copy)
                try? FileManager.default.removeItem(atPath: copy + "/" + name)
                let error = #expect(throws: BadInput.self) { _ = try ModelImport(copy, out: folder + "/out") }
                #expect(error.map { "\($0)".contains(words) } == true, "\(error as Any)")
            }
        }
    }

    /// Every shape's config reads back as itself.
    @Test func configsReadBack() throws {
        for scaling in Recipe.RopeScaling.allCases {
            for (heads, keyHeads, width) in [(4, 4, 0), (4, 2, 0), (4, 1, 10)] {
                for flags in 0..<4 {
                    var model = Recipe().model
                    (model.dim, model.heads, model.keyValueHeads, model.headWidth) = (64, heads, keyHeads, width)
                    (model.ropeScaling, model.ropeTheta, model.ropeFactor) = (scaling, 500_000, 32)
                    (model.tieEmbeddings, model.hasBias, model.ffnDim) = (flags & 1 == 1, flags & 2 == 2, 100)
                    if scaling == .none { model.ropeFactor = Recipe().model.ropeFactor }
                    let config = PublishedConfig(model: model, vocabulary: 300, positions: 512)
                    let text = config.json(end: 256, type: "float32")
                    #expect(try PublishedConfig(json: Array(text.utf8), path: "config.json") == config)
                }
            }
        }
    }
}
