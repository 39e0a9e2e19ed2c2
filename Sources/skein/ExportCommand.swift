import ArgumentParser
import Base
import Checkpoint
import Tensor
import Trainer

struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes a checkpoint as a model that other programs load.",
        discussion: """
            hf: a folder for transformers and what reads its files: config.json, generation_config.json, safetensors, \
            tokenizer.json. It is read back and its logits are compared with the checkpoint's before this ends.
            """)

    enum Format: String, ExpressibleByArgument, CaseIterable { case hf }

    enum Width: String, ExpressibleByArgument, CaseIterable {
        case f32, bf16, f16

        var type: ElementType {
            switch self {
            case .f32: .float32
            case .bf16: .bfloat16
            case .f16: .float16
            }
        }
    }

    @Argument(help: "A checkpoint's folder (step-N), or a run's folder for its latest.")
    var checkpoint: String
    @Argument(help: "The folder to write, which must not exist, or be empty.")
    var folder: String
    @Option(help: "The format.")
    var to = Format.hf
    @Option(help: "The type of the weights; the narrower ones round to nearest.")
    var dtype = Width.f32
    @Option(name: .customLong("shard-mib"), help: "The most MiB in one file of weights.")
    var shardMebibytes = 5_000

    func validate() throws {
        guard (1...1 << 20).contains(shardMebibytes) else {
            throw ValidationError("--shard-mib must be from 1 to 1048576")
        }
    }

    func run() throws {
        let model = try LoadedModel(path: checkpoint)
        let export = try ModelExport(model, to: folder, type: dtype.type, shardBytes: shardMebibytes << 20)
        let pool = Pool(threads: Machine.cores())
        defer { pool.close() }
        let report = try export.run(pool: pool)
        print("\(folder): \(Units.bytes(report.bytes)) in \(report.files.joined(separator: ", "))")
        if let merged = report.merged {
            print("Smooth-SwiGLU: factors from \(short(Double(merged.lowerBound))) to "
                + "\(short(Double(merged.upperBound))) are merged into up and down projections")
        }
        print(report.difference == 0
            ? "read back: its logits are those of \(model.checkpoint.path), bit for bit"
            : "read back: its logits are those of the rounded weights bit for bit, and within "
                + "\(short(Double(report.difference))) of \(model.checkpoint.path)'s")
    }
}

struct Import: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes a checkpoint of a model that transformers has saved.",
        discussion: """
            Understands Llama, Mistral without a window, and Qwen 2 in F32, BF16 and F16, in one file or in shards; \
            whatever else the files say is refused by name. Its logits are compared with the files' before this ends.
            """)

    @Argument(help: "The folder with config.json, the safetensors files and tokenizer.json.")
    var model: String
    @Option(help: "The folder for the checkpoint, which is called step-0 in it.")
    var out: String
    @Option(help: "Another tokenizer: a tokenizer.json, its folder, or `bytes`.")
    var tokenizer: String?

    func run() throws {
        let converted = try ModelImport(model, out: out, tokenizer: tokenizer)
        let pool = Pool(threads: Machine.cores())
        defer { pool.close() }
        let report = try converted.run(pool: pool)
        print("\(report.path): \(Units.count(Double(report.parameters))) parameters, from "
            + "\(report.types.joined(separator: " and "))")
        print("its logits are those of \(model)'s files, bit for bit")
        print("""

              write     skein generate \(report.path) --prompt "Once upon a time"
              train on  skein train \(report.path)/config.toml --checkpoint.load_weights \(report.path) \
            --training.seq_len 1024 --data.paths TEXT --job.name NAME
            """)
    }
}
