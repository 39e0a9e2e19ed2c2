import Base
import Checkpoint
import Foundation
import Recipe
import Tensor
import Testing
import Trainer

/// Models that were trained here, in transformers itself; and models that it writes, here. `SKEIN_PYTHON` names a
/// Python that has transformers (version 4 or 5) and torch.
@Suite struct TransformersTests {
    private static let python = ProcessInfo.processInfo.environment["SKEIN_PYTHON"] ?? ""

    private struct Answer: Decodable {
        let version: String
        /// [tokens][vocabulary], of the exported model and of the one that transformers wrote.
        let exported, written: [[Float]]
    }

    static let kinds = [
        "untied": ["--model.n_kv_heads", "6"],
        "tied": ["--model.n_kv_heads", "6", "--model.tie_embeddings", "true"],
        "grouped": ["--model.n_kv_heads", "2", "--model.rope_theta", "500"],
        "qwen2": ["--model.n_kv_heads", "3", "--model.qkv_bias", "true", "--model.tie_embeddings", "true"],
        "smooth": ["--precision.recipe", "fp8-paper"],
    ]

    /// Logits of transformers and ours differ by less than 1e-4, both ways, and the bytes that it wrote come out again.
    @Test(.enabled(if: !python.isEmpty, "SKEIN_PYTHON names no Python with transformers and torch"),
          arguments: kinds.keys.sorted())
    func logitsAgree(_ kind: String) throws {
        let sandbox = try Sandbox(), silence = unsafe open("/dev/null", O_WRONLY)
        defer { close(silence) }
        let flags = ["--training.steps", "40", "--job.name", "a"] + (Self.kinds[kind] ?? [])
        try TrainingRun(sandbox.recipe(flags), output: silence).run()
        let pool = Pool(threads: 1)
        defer { pool.close() }
        let model = try LoadedModel(path: sandbox.path + "/a")
        _ = try ModelExport(model, to: sandbox.path + "/out", type: .float32, shardBytes: 1 << 30).run(pool: pool)
        let tokens = [256] + Array("the wind moves over cold water and seven birds".utf8).map(Int.init)
        let answer = try ask(["\(sandbox.path)/out", "\(sandbox.path)/written", "\(tokens)"])
        let out = try difference(answer.exported, model, tokens, pool)
        let report = try ModelImport(sandbox.path + "/written", out: sandbox.path + "/in").run(pool: pool)
        let read = try LoadedModel(path: report.path), back = try difference(answer.written, read, tokens, pool)
        #expect(out < 1e-4 && back < 1e-4, "\(kind), transformers \(answer.version): out \(out), in \(back)")
        print("transformers \(answer.version), \(kind): logits differ by \(out) out, \(back) in")
        _ = try ModelExport(read, to: sandbox.path + "/again", type: .float32, shardBytes: 1 << 30).run(pool: pool)
        let (first, second) = try (tensors(sandbox.path + "/written"), tensors(sandbox.path + "/again"))
        #expect(first == second && first.count > 10)
    }

    /// Files and not pipes: what Python warns of may be long.
    private func ask(_ arguments: [String]) throws -> Answer {
        let process = Process(), file = arguments[1] + ".json"
        let script = URL(fileURLWithPath: PublishedModelTests.golden("logits.py"))
        process.executableURL = URL(fileURLWithPath: Self.python)
        process.arguments = [script.path] + arguments
        _ = FileManager.default.createFile(atPath: file, contents: nil)
        process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: file))
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "\(Self.python) \(script.path) failed")
        return try JSONDecoder().decode(Answer.self, from: Data(contentsOf: URL(fileURLWithPath: file)))
    }

    /// The largest difference behind any of `tokens`, read one by one.
    private func difference(_ want: [[Float]], _ model: LoadedModel, _ tokens: [Int], _ pool: Pool) throws -> Float {
        try #require(want.count == tokens.count)
        let decoder = try model.decoder(tokens.count, 0, pool)
        var worst: Float = 0
        for (place, token) in tokens.enumerated() {
            let row = place == 0 ? decoder.read([token]) : decoder.next(token)
            try #require(row.count == want[place].count)
            for index in 0..<row.count {
                let apart = abs(row[index] - want[place][index])
                worst = max(worst, apart.isFinite ? apart : .infinity)
            }
        }
        return worst
    }

    /// The bytes of all tensors of a folder, by name.
    private func tensors(_ path: String) throws -> [String: [UInt8]] {
        let archive = try TensorArchive.open(path).archive, reader = archive.reader()
        return try Dictionary(uniqueKeysWithValues: archive.tensors.map { tensor in
            var bytes = [UInt8](repeating: 0, count: tensor.byteCount)
            try unsafe bytes.withUnsafeMutableBytes { try unsafe reader.read(tensor, 0..<tensor.count, into: $0) }
            return (tensor.name, bytes)
        })
    }
}
