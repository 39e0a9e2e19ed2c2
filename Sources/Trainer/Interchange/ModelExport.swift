import Base
import Checkpoint
import Corpus
import Recipe
import Storage
import Tensor

/// A checkpoint as a folder that Hugging Face's libraries, and what reads their files, load: `config.json`,
/// `generation_config.json`, `model.safetensors` (or shards with their index), `tokenizer.json` and
/// `tokenizer_config.json`.
///
/// Tensors have the names and shapes they are published under already, and rotary pairs are halves of a head as there,
/// so nothing is permuted. `config.json` comes last: without it the folder is no model.
public struct ModelExport {
    /// What was written, and how far the logits are from the checkpoint's: 0 unless numbers were rounded.
    public struct Report: Sendable, Equatable {
        public let files: [String]
        public let bytes: Int
        public let difference: Float
        /// The least and the largest factor of Smooth-SwiGLU that was merged into the weights; nil where there was
        /// none.
        public let merged: ClosedRange<Float>?
    }

    private let model: LoadedModel
    private let folder: String
    private let type: ElementType
    private let shardBytes: Int
    private let disk: any Disk

    /// type: F32, BF16 or F16. shardBytes: the most that one file of weights holds.
    public init(_ model: LoadedModel, to folder: String, type: ElementType, shardBytes: Int,
                disk: any Disk = RealDisk()) throws {
        self.model = model
        self.folder = trimmingSlashes(folder)
        self.type = type
        self.shardBytes = shardBytes
        self.disk = disk
        switch try disk.kind(self.folder) {
        case nil: break
        case .folder where try disk.list(self.folder).isEmpty: break
        default: throw BadInput("\(folder) exists already; name a folder that does not, or an empty one")
        }
    }

    private var specs: [TensorSpec] { model.table.parameters.map { TensorSpec($0.name, .float32, $0.shape) } }

    /// Writes everything, reads it back as a stranger would, and compares what it computes.
    public func run(pool: Pool) throws -> Report {
        if try disk.kind(folder) == nil { try disk.createFolder(folder) }
        let merge = try SmoothMerge(model, pool: pool)
        do {
            var bytes = try writeWeights(merge)
            for (name, text) in texts {
                try disk.replace(joined(folder, name), with: [text])
                bytes += text.count
            }
            let difference = try check(pool, merge)
            return Report(files: try disk.list(folder).sorted(), bytes: bytes, difference: difference,
                          merged: merge?.range)
        } catch {
            for name in (try? disk.list(folder)) ?? [] { try? disk.remove(joined(folder, name)) }
            try? disk.removeFolder(folder)
            throw error
        }
    }

    private func writeWeights(_ merge: SmoothMerge?) throws -> Int {
        let shards = WeightFile.shards(specs, as: type, bytes: shardBytes)
        var bytes = 0, places: [(tensor: String, file: String)] = []
        for (number, shard) in shards.enumerated() {
            let name = WeightFile.name(number, of: shards.count)
            bytes += try unsafe WeightFile.write(joined(folder, name), shard, as: type, disk: disk) { spec, floats in
                guard let base = floats.baseAddress else { return }
                let row = unsafe Row(base.assumingMemoryBound(to: Float.self), count: floats.count / 4)
                try model.read(model.table[spec.name], into: row)
                merge?.apply(to: model.table[spec.name], row)
            }
            places += shard.map { ($0.name, name) }
        }
        guard shards.count > 1 else { return bytes }
        let total = specs.reduce(0) { $0 + $1.byteCount / $1.type.width * type.width }
        let map = places.sorted { $0.tensor < $1.tensor }.map { "    \(jsonString($0.tensor)): \(jsonString($0.file))" }
        let index = "{\n  \"metadata\": {\"total_size\": \(total)},\n  \"weight_map\": {\n"
            + map.joined(separator: ",\n") + "\n  }\n}\n"
        try disk.replace(joined(folder, "model.safetensors.index.json"), with: [Array(index.utf8)])
        return bytes + index.utf8.count
    }

    /// The other files, `config.json` last.
    private var texts: [(String, [UInt8])] {
        let end = Int(model.tokenizer.endOfDocument), name = jsonString(endName)
        let config = PublishedConfig(model: model.recipe.model, vocabulary: model.table.vocabulary,
                                     positions: model.recipe.training.sequenceLength)
        let tokenizer = """
            {
              "tokenizer_class": "PreTrainedTokenizerFast",
              "bos_token": \(name),
              "eos_token": \(name),
              "clean_up_tokenization_spaces": false,
              "model_max_length": \(config.positions)
            }

            """
        let generation = "{\n  \"bos_token_id\": \(end),\n  \"eos_token_id\": \(end)\n}\n"
        return [("tokenizer.json", model.tokenizer.json), ("tokenizer_config.json", Array(tokenizer.utf8)),
                ("generation_config.json", Array(generation.utf8)),
                ("config.json", Array(config.json(end: end, type: torchName).utf8))]
    }

    private var torchName: String {
        switch type {
        case .bfloat16: "bfloat16"
        case .float16: "float16"
        default: "float32"
        }
    }

    /// What the token that ends documents is called.
    private var endName: String {
        let added = JSONValue(model.tokenizer.json)?["added_tokens"]?.list ?? []
        let entry = added.first { $0["id"]?.integer == Int(model.tokenizer.endOfDocument) }
        guard let name = entry?["content"]?.text else { preconditionFailure("a tokenizer without its last token") }
        return name
    }

    /// The folder's logits against those of the checkpoint's weights as they were rounded, which must be equal bit for
    /// bit. Returns how far they are from those of the weights as they are.
    private func check(_ pool: Pool, _ merge: SmoothMerge?) throws -> Float {
        let probe = Probe(vocabulary: model.table.vocabulary), type = type
        func own(rounded: Bool) throws -> [[Float]] {
            try probe.logits(model.table, pool: pool) { parameter, row in
                try model.read(parameter, into: row)
                guard rounded else { return }
                merge?.apply(to: parameter, row)
                unsafe type.round(row.bytes)
            }
        }
        let published = try PublishedModel(folder)
        let table = ParameterTable(published.config.model, vocabulary: published.config.vocabulary)
        try published.requireTensors(of: table)
        let found = try probe.logits(table, pool: pool) { try published.read($0, into: $1) }
        let exact = try own(rounded: false)
        let off = Probe.difference(found, type == .float32 ? exact : try own(rounded: true))
        guard off == 0 else { throw ConversionFault(folder, from: model.checkpoint.path, difference: off) }
        return Probe.difference(found, exact)
    }
}
