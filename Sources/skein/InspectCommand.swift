import ArgumentParser
import Base
import Checkpoint
import Telemetry
import Wire

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what a checkpoint holds, or any safetensors file.",
        discussion: """
            Reads and changes nothing. Without an option it shows what the checkpoint is: step, data, layout, recipe. \
            PATH comes first, since --tensors takes what follows it for a pattern.
            """)

    @Argument(help: """
        A checkpoint's folder (step-N), a run's folder for its latest, a .safetensors file, or a folder of those (with \
        model.safetensors.index.json, or without).
        """)
    var path: String
    @Option(name: .customLong("tensors"), defaultAsFlag: "*",
            help: "Tensors whose names match a pattern (* and ?), or all: their values' range, mean and histogram.")
    var pattern: String?
    @Option(help: "One tensor: where it lies, what its values are.")
    var tensor: String?
    @Option(help: "The part of --tensor to print, as NumPy has it: 0:2,5 is the sixth value of two rows.")
    var slice: String?
    @Option(help: "Another checkpoint or file: how far each tensor is from its namesake there, and which keys differ.")
    var diff: String?
    @Option(help: "What a number format (E4M3, INT8, MXFP4, ...) would do to the tensors, or to those of --tensors.")
    var quantize: String?
    @Flag(help: "Check every byte: the CRC-32C of each block and the SHA-256 of each file, and nothing else.")
    var verify = false
    @Option(help: "The key that the checkpoint must be signed with (checkpoint.key_file).")
    var keyFile: String?
    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        let asked = [pattern != nil && quantize == nil, tensor != nil, diff != nil, verify, quantize != nil]
        guard asked.count(where: { $0 }) <= 1 else {
            throw ValidationError("--tensors, --tensor, --diff, --verify and --quantize are each asked alone "
                + "(--quantize with --tensors to say which)")
        }
        guard slice == nil || tensor != nil else { throw ValidationError("--slice is a part of --tensor; give both") }
    }

    func run() throws {
        let archive = try open(path)
        if verify {
            try verify(archive)
        } else if let quantize {
            try QuantizedTensors(format: quantize).show(archive, matching: pattern ?? "*", json: json)
        } else if let pattern {
            try showTensors(archive, matching: pattern, json: json)
        } else if let tensor {
            try showTensor(archive, tensor, slice: slice, json: json)
        } else if let diff {
            try showDifference(archive, try open(diff), json: json)
        } else {
            try showSummary(archive, json: json)
        }
    }

    private func open(_ path: String) throws -> TensorArchive {
        let key = try keyFile.map { CheckpointKey(bytes: try JobSecret.load(from: $0).bytes) }
        let (archive, warnings) = try TensorArchive.open(path, key: key)
        for warning in warnings { printError("skein: warning: \(warning)") }
        if key != nil, archive.checkpoint == nil {
            throw BadInput("\(path) is no checkpoint of ours, so it has no signature; leave out --key-file")
        }
        return archive
    }

    private struct VerifyResult: Encodable {
        let path: String
        let whole: Bool
        let files: Int
        let tensors: Int
        let bytes: Int
        let signature: String
        let seconds: Double
        let bytes_per_s: Double
        let sha256_bytes_per_s: Double
        let damages: [String]
    }

    private func verify(_ archive: TensorArchive) throws {
        guard let checkpoint = archive.checkpoint else {
            throw BadInput("\(path) has no checksums to verify: it is no checkpoint of ours; that its headers are "
                + "sound is what every inspect checks")
        }
        let found = try checkpoint.verification()
        let whole = found.damages.isEmpty, signature = signature(checkpoint)
        let result = VerifyResult(
            path: checkpoint.path, whole: whole, files: archive.files.count, tensors: archive.tensors.count,
            bytes: found.bytes, signature: signature, seconds: found.seconds, bytes_per_s: found.rate,
            sha256_bytes_per_s: found.hashRate, damages: found.damages.map(\.description))
        if json { printJSON(result) }
        guard whole else { throw CheckpointError.damaged(found.damages) }
        if json { return }
        print("\(checkpoint.path): whole (\(result.files) files, \(result.tensors) tensors, "
            + "\(Units.bytes(found.bytes))), \(signature)")
        print("read at \(Units.fixed(found.rate * 1e-9, 2)) GB/s; what bounds it is "
            + (found.isBoundByHash ? "SHA-256, at \(Units.fixed(found.hashRate * 1e-9, 2)) GB/s on a thread of its own"
                : "reading and CRC-32C; SHA-256 beside it could do \(Units.fixed(found.hashRate * 1e-9, 2)) GB/s"))
    }

    private func signature(_ checkpoint: Checkpoint) -> String {
        guard checkpoint.manifest.isSigned else { return "not signed" }
        return keyFile == nil ? "signed, which was not checked (--key-file)" : "signed with this key"
    }
}
