import Base
import Foundation
import Storage

/// What one rank has written of a step: the entries that the manifest will hold. It travels to rank 0 as JSON.
struct PartRecord: Codable, Equatable {
    var files: [Manifest.File]
    var tensors: [Manifest.Tensor]
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

    /// Every rank: its tensors, as part `part` of `count`. Returns the record for rank 0.
    public func writePart(step: Int, _ part: Int, of count: Int, model: [TensorSource], optimizer: [TensorSource])
        throws(CheckpointError) -> [UInt8] {
        let path = joined(folder, stepName(step))
        var record = PartRecord(files: [], tensors: [])
        do throws(DiskError) {
            for (file, sources) in [(Manifest.modelFile, model), (Manifest.optimizerFile, optimizer)] {
                if sources.isEmpty { continue }
                let own = Part(Manifest.partName(file, part, of: count), sources)
                let open = try disk.create(joined(path, own.name), size: own.size)
                defer { disk.close(open) }
                let (entry, tensors) = try write(own, to: open)
                record.files.append(entry)
                record.tensors += tensors
                try disk.sync(open)
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
        do throws(DiskError) { try finish(&manifest, recipe, tokenizer, in: path) } catch {
            try? removeCheckpoint(path, disk)
            throw .notWritten(step: declared.step, error)
        }
        return path
    }

    /// What another rank wrote must be there on this rank's disk too.
    private func requireVisible(_ file: Manifest.File, in path: String, rank: Int) throws(CheckpointError) {
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
            manifest.files.append(try write(part, to: open).0)
            try disk.sync(open)
        }
        let size = manifest.encoded().count
        let open = try disk.create(joined(path, Manifest.temporaryName), size: size)
        defer { disk.close(open) }
        try disk.syncFolder(path)
        try disk.syncFolder(folder)
        try publish(manifest, size: size, in: open, of: path)
    }
}
