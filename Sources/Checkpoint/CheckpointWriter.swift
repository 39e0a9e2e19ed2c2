import Base
import Storage

/// A tensor to be saved, or a slice of one: `bytes` are its elements, row-major, dense, little-endian. The memory is
/// read during `write` only.
@safe public struct TensorSource {
    /// Of the whole tensor.
    public let spec: TensorSpec
    /// Those that are here. All of them, unless ranks share the tensor.
    public let elements: Range<Int>
    public let bytes: UnsafeRawBufferPointer

    public init(_ name: String, _ type: ElementType, _ shape: [Int], _ elements: Range<Int>? = nil,
                bytes: UnsafeRawBufferPointer) {
        spec = TensorSpec(name, type, shape)
        let all = 0..<(spec.byteCount / type.width)
        self.elements = elements ?? all
        unsafe self.bytes = bytes
        precondition(self.elements.clamped(to: all) == self.elements, "\(name): \(self.elements) of \(all)")
        precondition(bytes.count == self.elements.count * type.width, "\(name): \(bytes.count) bytes, shape \(shape)")
    }

    private var isWhole: Bool { elements.count * spec.type.width == spec.byteCount }

    /// What a safetensors header calls it. A slice says which elements it is, for readers without the manifest.
    var storedName: String {
        isWhole ? spec.name : "\(spec.name)[\(elements.lowerBound):\(elements.upperBound)]"
    }
    var storedShape: [Int] { isWhole ? spec.shape : [elements.count] }
}

/// How checkpoints are written.
public struct SaveOptions: Sendable {
    /// Whether the optimizer's state is compressed. Weights hardly get smaller (docs/checkpoints.md).
    public var compressesOptimizer = false
    /// Signs the manifest.
    public var key: CheckpointKey?

    public init(compressesOptimizer: Bool = false, key: CheckpointKey? = nil) {
        self.compressesOptimizer = compressesOptimizer
        self.key = key
    }
}

/// Saves checkpoints into a folder (`outputs/NAME/checkpoint`), each in its own `step-N/`.
///
/// A save is this, in this order:
///
///   1. Remove what an interrupted save of the same step has left. Make the folder `step-N/`.
///   2. Create every file, the manifest included, and reserve the room that it can need at most.
///   3. Write each file, hashing on the way, give back what was too much, and sync it.
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
    public let options: SaveOptions
    public let disk: any Disk

    public init(folder: String, options: SaveOptions = SaveOptions(), disk: any Disk = RealDisk()) {
        self.folder = trimmingSlashes(folder)
        self.options = options
        self.disk = disk
    }

    /// The same, writing to another disk.
    func on(_ disk: any Disk) -> CheckpointWriter { CheckpointWriter(folder: folder, options: options, disk: disk) }

    /// Saves one step and returns its folder. Tensor names differ over both lists, and each tensor is whole. `recipe`
    /// is the resolved TOML text, `tokenizer` the JSON that makes the checkpoint usable alone.
    public func write(_ manifest: Manifest, recipe: String, tokenizer: String,
                      model: [TensorSource], optimizer: [TensorSource]) throws(CheckpointError) -> String {
        precondition(Set((model + optimizer).map(\.storedName)).count == model.count + optimizer.count,
                     "two tensors of one name")
        let path = joined(folder, stepName(manifest.step))
        if try onDisk({ () throws(DiskError) in try disk.kind(joined(path, Manifest.fileName)) }) != nil {
            throw .exists(path)
        }
        var parts = [Part(Manifest.modelFile, model)]
        if !optimizer.isEmpty {
            parts.append(Part(Manifest.optimizerFile, optimizer, compressed: options.compressesOptimizer))
        }
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
        manifest.files = parts.map(\.largestEntry)
        manifest.tensors = parts.flatMap { part in part.tensors.map { part.entry($0.place, $0.source, crc: 0) } }
        let room = manifest.encoded(key: options.key).count

        var open: [OpenFile] = []
        defer { for file in open { disk.close(file) } }
        for part in parts { open.append(try disk.create(joined(path, part.name), size: part.bound)) }
        open.append(try disk.create(joined(path, Manifest.temporaryName), size: room))

        (manifest.files, manifest.tensors) = ([], [])
        for (part, file) in zip(parts, open) {
            let (entry, tensors) = try part.write(to: file, disk)
            manifest.files.append(entry)
            manifest.tensors += tensors
            try disk.sync(file)
        }
        try disk.syncFolder(path)
        try disk.syncFolder(folder)

        try publish(manifest, room: room, in: open[parts.count], of: path)
    }

    /// The moment at which a checkpoint begins to exist: everything it vouches for is durable by now.
    func publish(_ manifest: Manifest, room: Int, in file: OpenFile, of path: String) throws(DiskError) {
        let bytes = manifest.encoded(key: options.key)
        precondition(bytes.count <= room, "the manifest is larger than was reserved for it")
        try unsafe bytes.span.bytes.withUnsafeBytes { bytes throws(DiskError) in
            try unsafe disk.write(bytes, to: file, at: 0)
        }
        if bytes.count < room { try disk.cut(file, to: bytes.count) }
        try disk.sync(file)
        try disk.rename(joined(path, Manifest.temporaryName), to: joined(path, Manifest.fileName))
        try disk.syncFolder(path)
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
