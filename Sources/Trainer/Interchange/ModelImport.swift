import Base
import Checkpoint
import Corpus
import Recipe
import Storage
import Tensor

/// A published model as a checkpoint at step 0, without optimizer state: to be written with, looked into, and trained
/// on from by `checkpoint.load_weights`. Its numbers are the published ones, widened to 32 bits, which loses nothing.
public struct ModelImport {
    public struct Report: Sendable, Equatable {
        /// The checkpoint's folder.
        public let path: String
        public let parameters: Int
        /// Of the published weights.
        public let types: [String]
    }

    private let source: PublishedModel
    private let tokenizer: any Tokenizer
    private let recipe: Recipe
    private let table: ParameterTable
    private let out: String

    /// folder: the model. out: a folder for the checkpoint. tokenizer: a tokenizer.json, the folder of one, or "bytes";
    /// nil takes the one in `folder`.
    public init(_ folder: String, out: String, tokenizer: String? = nil) throws {
        source = try PublishedModel(folder)
        self.out = trimmingSlashes(out)
        let config = source.config
        if tokenizer == nil, try RealDisk().kind(joined(source.folder, "tokenizer.json")) == nil {
            throw BadInput("\(source.folder) has no tokenizer.json; save the tokenizer as one (a byte-level BPE), or "
                + "name another by --tokenizer")
        }
        self.tokenizer = tokenizer == "bytes" ? ByteTokenizer() : try loadTokenizer(tokenizer ?? source.folder)
        let ids = self.tokenizer.vocabularySize
        guard config.vocabulary >= ids else {
            throw BadInput("\(source.folder): vocab_size is \(config.vocabulary), but the tokenizer has \(ids) ids; "
                + "it belongs to another model")
        }
        recipe = try Self.recipe(config, tokens: ids, path: source.folder, out: self.out)
        table = ParameterTable(recipe.model, vocabulary: config.vocabulary)
        try source.requireTensors(of: table)
    }

    /// The model's keys, and defaults that suit going on with it: its own tokenizer, one row at a time.
    private static func recipe(_ config: PublishedConfig, tokens: Int, path: String, out: String) throws(BadInput)
        -> Recipe {
        var recipe = Recipe()
        recipe.model = config.model
        recipe.model.vocabularySize = config.vocabulary == tokens ? 0 : config.vocabulary
        recipe.training.sequenceLength = config.positions
        recipe.training.localBatchSize = 1
        recipe.data.tokenizer = joined(out, "step-0")
        do throws(BadInput) {
            return try ResolvedRecipe.load(text: recipe.toml, name: "config.json").recipe
        } catch {
            throw BadInput("\(path): its model cannot be had here: \(error)")
        }
    }

    public func run(pool: Pool) throws -> Report {
        let bytes = 4 * table.count, room = Machine.availableMemory()?.bytes ?? .max
        // The weights while they are written, then a copy for each side of the comparison, one after the other.
        guard bytes < room / 2 else {
            throw BadInput("\(source.folder) needs \(Units.bytes(2 * bytes)) of memory to be converted, and "
                + "\(Units.bytes(room)) are free")
        }
        let path = try write()
        let imported = try LoadedModel(path: path), probe = Probe(vocabulary: table.vocabulary)
        let want = try probe.logits(table, pool: pool) { try source.read($0, into: $1) }
        let found = try probe.logits(imported.table, pool: pool) { try imported.read($0, into: $1) }
        let off = Probe.difference(found, want)
        guard off == 0 else { throw ConversionFault(path, from: source.folder, difference: off) }
        return Report(path: path, parameters: table.parameterCount, types: source.types)
    }

    private func write() throws -> String {
        let memory = try Arena(name: "the model", capacity: table.parameters.reduce(0) { $0 + Arena.padded($1.count) })
        defer { withExtendedLifetime(memory) {} }
        var tensors: [SavedTensor] = []
        for parameter in table.parameters {
            let row = memory.take(parameter.count)
            try source.read(parameter, into: row)
            tensors.append(SavedTensor(spec: TensorSpec(parameter.name, .float32, parameter.shape),
                                       elements: 0..<parameter.count, row: row))
        }
        let nowhere = SavedPosition(fingerprint: "none", seed: 0, row: 0, position: [UInt8](repeating: 0, count: 64))
        let manifest = Manifest(step: 0, tokens: 0, worldSize: 1, data: nowhere, rng: RNGState(seed: 0))
        return try CheckpointWriter(folder: out).write(
            manifest, recipe: recipe.toml, tokenizer: String(decoding: tokenizer.json, as: UTF8.self),
            model: tensors.map(\.source), optimizer: [])
    }
}
