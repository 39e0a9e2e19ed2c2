import Base
import Foundation
import Storage

/// What one rank has written of a step: the entries that the manifest will hold. It travels to rank 0 as JSON.
struct PartRecord: Codable, Equatable {
    var files: [StoredFile]
    var tensors: [StoredTensor]
}

/// A step saved by several ranks into one folder that all of them see (the same machine, or shared storage).
///
/// Rank 0 makes the folder (`begin`); then every rank writes and syncs files of its own (`writePart`) and sends
/// what it vouches for to rank 0; then rank 0 alone writes the manifest and renames it into place (`commit`). The
/// argument at `CheckpointWriter` holds unchanged: before the rename there is no checkpoint, and by then every byte
/// that the manifest vouches for was synced by the rank that wrote it, and the names by rank 0.
extension CheckpointWriter {
    /// Rank 0, before the others write.
    public func begin(step: Int) throws(CheckpointError) {
        let path = joined(folder, stepName(step))
        if try onDisk({ () throws(DiskError) in try disk.kind(joined(path, Manifest.fileName)) }) != nil {
            throw .exists(path)
        }
        do throws(DiskError) { try makeStepFolder(path) } catch { throw .notWritten(step: step, error) }
    }

    /// Every rank: its tensors, or its slices of them, as part `part` of `count`. Returns the record for rank 0.
    public func writePart(step: Int, _ part: Int, of count: Int, model: [TensorSource], optimizer: [TensorSource])
        throws(CheckpointError) -> [UInt8] {
        let path = joined(folder, stepName(step))
        var parts: [Part] = []
        if !model.isEmpty { parts.append(Part(Manifest.partName(Manifest.modelFile, part, of: count), model)) }
        if !optimizer.isEmpty {
            parts.append(Part(Manifest.partName(Manifest.optimizerFile, part, of: count), optimizer,
                              compressed: options.compressesOptimizer))
        }
        var record = PartRecord(files: [], tensors: [])
        do throws(DiskError) {
            var open: [OpenFile] = []
            defer { for file in open { disk.close(file) } }
            for part in parts { open.append(try disk.create(joined(path, part.name), size: part.bound)) }
            for (part, file) in zip(parts, open) {
                let (entry, tensors) = try part.write(to: file, disk)
                record.files.append(entry)
                record.tensors += tensors
                try disk.sync(file)
            }
        } catch {
            throw .notWritten(step: step, error)
        }
        return Array(json(record).utf8)
    }

    /// Rank 0, when it has the records of all ranks. Returns the checkpoint's folder.
    public func commit(_ declared: Manifest, recipe: String, tokenizer: String, records: [[UInt8]])
        throws(CheckpointError) -> String {
        let path = joined(folder, stepName(declared.step))
        var manifest = declared
        for (rank, bytes) in records.enumerated() {
            guard let record = try? JSONDecoder().decode(PartRecord.self, from: Data(bytes)) else {
                throw .mismatch("rank \(rank) sent no record of what it saved; it runs another version")
            }
            for file in record.files { try requireVisible(file, in: path, rank: rank) }
            manifest.files += record.files
            manifest.tensors += record.tensors
        }
        manifest.tensors = try whole(manifest.tensors, in: manifest.files)
        do throws(DiskError) { try finish(&manifest, recipe, tokenizer, in: path) } catch {
            try? removeCheckpoint(path, disk)
            throw .notWritten(step: declared.step, error)
        }
        return path
    }

    /// Rank 0, when a part could not be written: removes what the ranks have written of this step, as well as the disk
    /// still lets us.
    public func abandon(step: Int) {
        let path = joined(folder, stepName(step))
        if (try? disk.kind(joined(path, Manifest.fileName))) == .some(nil) { try? removeCheckpoint(path, disk) }
    }

    /// The tensors whose slices `parts` are, in the order in which each first appears.
    private func whole(_ parts: [StoredTensor], in files: [StoredFile]) throws(CheckpointError) -> [StoredTensor] {
        var places: [String: Int] = [:], tensors: [StoredTensor] = []
        for part in parts {
            guard let place = places[part.name] else {
                places[part.name] = tensors.count
                tensors.append(part)
                continue
            }
            guard tensors[place].shape == part.shape, tensors[place].dtype == part.dtype else {
                throw .mismatch("ranks disagree on what the tensor \(part.name) is; they run other recipes")
            }
            tensors[place].slices += part.slices
        }
        let contents = Dictionary(files.map { ($0.name, $0.content) }, uniquingKeysWith: min)
        for index in tensors.indices {
            // A slice without elements begins where its neighbour does, and comes before it.
            tensors[index].slices.sort { ($0.first, $0.end - $0.begin) < ($1.first, $1.end - $1.begin) }
            guard tensors[index].isPossible(in: contents) else {
                throw .mismatch("what the ranks saved of the tensor \(tensors[index].name) is not all of it, each "
                    + "element once; they cut it in different ways")
            }
        }
        return tensors
    }

    /// What another rank wrote must be there on this rank's disk too.
    private func requireVisible(_ file: StoredFile, in path: String, rank: Int) throws(CheckpointError) {
        let name = joined(path, file.name)
        guard try onDisk({ () throws(DiskError) in try disk.kind(name) }) == .file(size: file.size) else {
            throw .mismatch("\(name), which rank \(rank) wrote, is not on rank 0's disk; let all ranks share "
                + "job.dump_folder, or set checkpoint.shared = false to let rank 0 save everything")
        }
    }

    private func finish(_ manifest: inout Manifest, _ recipe: String, _ tokenizer: String, in path: String)
        throws(DiskError) {
        for part in [Part(Manifest.recipeFile, text: recipe), Part(Manifest.tokenizerFile, text: tokenizer)] {
            let open = try disk.create(joined(path, part.name), size: part.size)
            defer { disk.close(open) }
            manifest.files.append(try part.write(to: open, disk).0)
            try disk.sync(open)
        }
        let room = manifest.encoded(key: options.key).count
        let open = try disk.create(joined(path, Manifest.temporaryName), size: room)
        defer { disk.close(open) }
        try disk.syncFolder(path)
        try disk.syncFolder(folder)
        try publish(manifest, room: room, in: open, of: path)
    }
}
