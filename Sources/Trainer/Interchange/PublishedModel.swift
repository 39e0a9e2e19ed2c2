import Base
import Checkpoint
import Recipe
import Storage
import Tensor

/// A folder with a model as Hugging Face's libraries write it, opened: its config, and where its tensors are.
struct PublishedModel {
    let folder: String
    let config: PublishedConfig
    private let archive: TensorArchive
    private let reader: TensorReader
    private let stored: [String: StoredTensor]

    init(_ folder: String) throws {
        let folder = trimmingSlashes(folder)
        let path = joined(folder, "config.json")
        guard try RealDisk().kind(path) != nil else {
            throw BadInput("\(folder) has no config.json; give the folder of a model that transformers has saved")
        }
        config = try PublishedConfig(json: Array(readText(path).utf8), path: path)
        archive = try TensorArchive.open(folder).archive
        guard archive.checkpoint == nil else {
            throw BadInput("\(folder) is a checkpoint of skein's own; it can be used as it is")
        }
        self.folder = folder
        reader = archive.reader()
        stored = Dictionary(uniqueKeysWithValues: archive.tensors.map { ($0.name, $0) })
    }

    /// The types of its weights, as safetensors names them.
    var types: [String] { Set(archive.tensors.map(\.dtype.rawValue)).sorted() }

    /// Refuses, by name, a tensor that is missing, that is of another shape or an unknown type, and one that is not
    /// understood.
    func requireTensors(of table: ParameterTable) throws {
        for parameter in table.parameters {
            guard let tensor = stored[parameter.name] else {
                throw BadInput("\(folder) has no tensor \(parameter.name), which its config.json promises")
            }
            guard tensor.shape == parameter.shape else {
                throw BadInput("\(folder): the tensor \(tensor.name) is \(tensor.shape), by config.json it would be "
                    + "\(parameter.shape)")
            }
            guard ElementType.weightTypes.contains(tensor.dtype) else {
                let names = ElementType.weightTypes.map(\.rawValue).joined(separator: ", ")
                throw BadInput("\(folder): the tensor \(tensor.name) is of type \(tensor.dtype.rawValue); \(names) are "
                    + "understood")
            }
        }
        let wanted = Set(table.parameters.map(\.name))
        for tensor in archive.tensors where !wanted.contains(tensor.name) {
            // Old files carry the frequencies, which follow from the config.
            if tensor.name.hasSuffix("rotary_emb.inv_freq") { continue }
            if tensor.name == "lm_head.weight", try isEmbedding(tensor, table) { continue }
            throw BadInput("\(folder) has the tensor \(tensor.name), which is not understood")
        }
    }

    /// Files of tied models may hold the head a second time.
    private func isEmbedding(_ head: StoredTensor, _ table: ParameterTable) throws -> Bool {
        let embedding = table["model.embed_tokens.weight"]
        guard head.shape == embedding.shape, ElementType.weightTypes.contains(head.dtype) else { return false }
        let memory = try Arena(name: "the head twice", capacity: 2 * Arena.padded(embedding.count))
        defer { withExtendedLifetime(memory) {} }
        let (one, other) = (memory.take(embedding.count), memory.take(embedding.count))
        try read(embedding, into: one)
        try unsafe reader.readFloats(head, into: other.bytes)
        guard (0..<one.count).allSatisfy({ one[$0].bitPattern == other[$0].bitPattern }) else {
            throw BadInput("\(folder): lm_head.weight is not model.embed_tokens.weight, though config.json has "
                + "tie_word_embeddings = true; set it to false")
        }
        return true
    }

    /// Fills `row` with a parameter's values, widened.
    func read(_ parameter: ParameterTable.Parameter, into row: Row) throws {
        guard let tensor = stored[parameter.name] else { preconditionFailure("\(parameter.name): see requireTensors") }
        try unsafe reader.readFloats(tensor, into: row.bytes)
    }
}
