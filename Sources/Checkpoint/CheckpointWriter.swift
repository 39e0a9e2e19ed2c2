import Base
import Crypto
import Storage

/// A tensor to be saved: `bytes` are its elements, row-major, dense, little-endian. The memory is read
/// during `write` only.
@safe public struct TensorSource {
    public let spec: TensorSpec
    public let bytes: UnsafeRawBufferPointer

    public init(_ name: String, _ type: ElementType, _ shape: [Int], bytes: UnsafeRawBufferPointer) {
        spec = TensorSpec(name, type, shape)
        unsafe self.bytes = bytes
        precondition(bytes.count == spec.byteCount, "\(name): \(bytes.count) bytes, shape \(shape)")
    }
}

/// Saves checkpoints into a folder (`outputs/NAME/checkpoint`), each in its own `step-N/`.
///
/// A save is this, in this order:
///
///   1. Remove what an interrupted save of the same step has left. Make the folder `step-N/`.
///   2. Create every file, the manifest included, and reserve its blocks.
///   3. Write each file, hashing on the way, and sync it.
///   4. Sync `step-N/`, then the folder above it.
///   5. Write `manifest.json.tmp`, sync it, rename it to `manifest.json`, sync `step-N/`.
///
/// Why nothing is lost, wherever it stops:
///
///   - Nothing outside of `step-N/` is written, renamed or removed. So an earlier checkpoint is as it was,
///     whatever fails here; `CheckpointFolder.retain` removes old ones only after step 5.
///   - A folder without `manifest.json` is not a checkpoint. Before the rename in step 5 there is none, so
///     an interrupted save is never taken for a whole one.
///   - The rename is the one moment at which the checkpoint begins to exist. By then every byte that the
///     manifest vouches for is synced (3, 5), and so are the names under which they are found (4). So if the
///     rename survives a crash, everything that it promises has survived too.
///   - After the last sync the rename is on the medium: a save that was reported as done stays done.
///   - A full disk fails in step 2, after at most some empty folders, before a byte of a tensor.
///   - A failed sync, like any failed operation, ends the save. It is not repeated (see `Disk`), and what
///     was written so far is removed, manifest first, as well as the disk still lets us.
///   - What a disk changes in silence is the reader's matter: see `Checkpoint.verify`.
public struct CheckpointWriter: Sendable {
    public let folder: String
    public let disk: any Disk

    public init(folder: String, disk: any Disk = RealDisk()) {
        self.folder = trimmingSlashes(folder)
        self.disk = disk
    }

    /// Saves one step and returns its folder. Tensor names differ over both lists. `recipe` is the resolved
    /// TOML text, `tokenizer` the JSON that makes the checkpoint usable alone.
    public func write(_ manifest: Manifest, recipe: String, tokenizer: String,
                      model: [TensorSource], optimizer: [TensorSource]) throws(CheckpointError) -> String {
        precondition(Set((model + optimizer).map(\.spec.name)).count == model.count + optimizer.count,
                     "two tensors of one name")
        let path = joined(folder, stepName(manifest.step))
        if try onDisk({ () throws(DiskError) in try disk.kind(joined(path, Manifest.fileName)) }) != nil {
            throw .exists(path)
        }
        var parts = [Part(Manifest.modelFile, model)]
        if !optimizer.isEmpty { parts.append(Part(Manifest.optimizerFile, optimizer)) }
        parts.append(Part(Manifest.recipeFile, text: recipe))
        parts.append(Part(Manifest.tokenizerFile, text: tokenizer))
        do throws(DiskError) {
            try save(manifest, parts, in: path)
        } catch {
            // The error that is reported is the first one. If removing fails as well, the next save of
            // this step does it.
            try? removeCheckpoint(path, disk)
            throw .notWritten(step: manifest.step, error)
        }
        return path
    }

    /// The empty folder of a step: what an interrupted save has left in it is removed.
    func makeStepFolder(_ path: String) throws(DiskError) {
        try makeFolder(folder)
        if try disk.kind(path) != nil { try removeCheckpoint(path, disk) }
        // A stranger's file in it keeps the folder alive.
        if try disk.kind(path) == nil { try disk.createFolder(path) }
    }

    private func save(_ declared: Manifest, _ parts: [Part], in path: String) throws(DiskError) {
        try makeStepFolder(path)
        var manifest = declared
        let noHash = hexadecimal([UInt8](repeating: 0, count: 32))
        manifest.files = parts.map { Manifest.File(name: $0.name, size: $0.size, sha256: noHash) }
        manifest.tensors = parts.flatMap { part in part.tensors.map { part.entry($0.place, crc: 0) } }
        let manifestSize = manifest.encoded().count

        var open: [OpenFile] = []
        defer { for file in open { disk.close(file) } }
        for part in parts { open.append(try disk.create(joined(path, part.name), size: part.size)) }
        let temporary = joined(path, Manifest.temporaryName)
        open.append(try disk.create(temporary, size: manifestSize))

        (manifest.files, manifest.tensors) = ([], [])
        for (part, file) in zip(parts, open) {
            let (entry, tensors) = try write(part, to: file)
            manifest.files.append(entry)
            manifest.tensors += tensors
            try disk.sync(file)
        }
        try disk.syncFolder(path)
        try disk.syncFolder(folder)

        try publish(manifest, size: manifestSize, in: open[parts.count], of: path)
    }

    /// The moment at which a checkpoint begins to exist: everything it vouches for is durable by now.
    func publish(_ manifest: Manifest, size: Int, in file: OpenFile, of path: String) throws(DiskError) {
        let bytes = manifest.encoded()
        precondition(bytes.count == size, "the manifest's size depends on its hashes")
        try unsafe bytes.span.bytes.withUnsafeBytes { bytes throws(DiskError) in
            try unsafe disk.write(bytes, to: file, at: 0)
        }
        try disk.sync(file)
        try disk.rename(joined(path, Manifest.temporaryName), to: joined(path, Manifest.fileName))
        try disk.syncFolder(path)
    }

    /// Writes one file in blocks, each hashed while it is in the cache.
    func write(_ part: Part, to file: OpenFile) throws(DiskError)
        -> (Manifest.File, [Manifest.Tensor]) {
        var hash = SHA256(), offset = 0, entries: [Manifest.Tensor] = []
        func append(_ bytes: UnsafeRawBufferPointer) throws(DiskError) -> UInt32 {
            var crc: UInt32 = 0, done = 0
            while done < bytes.count {
                let block = unsafe UnsafeRawBufferPointer(
                    rebasing: bytes[done..<min(done + blockSize, bytes.count)])
                unsafe hash.update(bufferPointer: block)
                crc = unsafe CRC32C.checksum(block, from: crc)
                try unsafe disk.write(block, to: file, at: offset)
                offset += block.count
                done += block.count
            }
            return crc
        }
        _ = try unsafe part.head.span.bytes.withUnsafeBytes { bytes throws(DiskError) in
            try unsafe append(bytes)
        }
        for tensor in part.tensors {
            precondition(offset == tensor.place.range.lowerBound)
            entries.append(part.entry(tensor.place, crc: try unsafe append(tensor.source.bytes)))
        }
        precondition(offset == part.size)
        return (Manifest.File(name: part.name, size: part.size, sha256: hexadecimal(hash.finalize())), entries)
    }

    /// Makes a folder and all above it that are missing, each of them durable in its parent.
    private func makeFolder(_ path: String) throws(DiskError) {
        guard try disk.kind(path) == nil else { return }
        let parent = split(path).folder
        try makeFolder(parent)
        try disk.createFolder(path)
        try disk.syncFolder(parent)
    }
}

/// One file to be written: some bytes, then tensors.
struct Part {
    let name: String
    let head: [UInt8]
    let size: Int
    var tensors: [(place: Safetensors.Tensor, source: TensorSource)] = []

    init(_ name: String, text: String) {
        self.name = name
        head = Array(text.utf8)
        size = head.count
    }

    init(_ name: String, _ sources: [TensorSource]) {
        let layout = Safetensors(laying: sources.map { ($0.spec.name, $0.spec.type, $0.spec.shape) })
        let byName = Dictionary(uniqueKeysWithValues: sources.map { ($0.spec.name, $0) })
        self.name = name
        head = layout.head
        size = layout.fileSize
        tensors = layout.tensors.map { ($0, byName[$0.name]!) }
    }

    func entry(_ tensor: Safetensors.Tensor, crc: UInt32) -> Manifest.Tensor {
        Manifest.Tensor(name: tensor.name, file: name, dtype: tensor.type, shape: tensor.shape,
                        begin: tensor.range.lowerBound, end: tensor.range.upperBound, crc32c: checksumText(crc))
    }
}

/// Bytes that are hashed, written and read at a time.
let blockSize = 4 << 20

func stepName(_ step: Int) -> String { "step-\(step)" }

/// Removes a checkpoint, or what is left of one: the manifest first, so that it stops being one before
/// anything that the manifest vouches for goes. Files that are not a checkpoint's stay, and with them the
/// folder.
func removeCheckpoint(_ path: String, _ disk: any Disk) throws(DiskError) {
    let names = try disk.list(path)
    if names.contains(Manifest.fileName) {
        try disk.remove(joined(path, Manifest.fileName))
        try disk.syncFolder(path)
    }
    func isOurs(_ name: String) -> Bool { Manifest.fileKind(name) != nil || name == Manifest.temporaryName }
    for name in names where isOurs(name) { try disk.remove(joined(path, name)) }
    if names.allSatisfy({ isOurs($0) || $0 == Manifest.fileName }) { try disk.removeFolder(path) }
}
