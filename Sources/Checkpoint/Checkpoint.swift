import Base
import Crypto
import Storage

/// A tensor's name, element type and shape: what must agree before bytes are moved.
public struct TensorSpec: Equatable, Sendable, CustomStringConvertible {
    public let name: String
    public let type: ElementType
    public let shape: [Int]

    /// The shape must be a possible one.
    public init(_ name: String, _ type: ElementType, _ shape: [Int]) {
        precondition(type.byteCount(of: shape) != nil, "\(name): impossible shape \(shape)")
        self.name = name
        self.type = type
        self.shape = shape
    }

    public var byteCount: Int { type.byteCount(of: shape)! }

    /// "F32 [257, 64]"
    public var description: String { "\(type.rawValue) \(shape)" }
}

/// A saved step, opened for reading. See `Manifest` for the format.
///
/// Opening checks the manifest and every file's size, and the manifest's signature when a key is given. Reading a
/// tensor checks its CRC-32C on the way, reading a text its SHA-256. `verify` checks every byte; only that finds what
/// somebody has changed on purpose.
public struct Checkpoint: Sendable {
    /// The folder `step-N`.
    public let path: String
    public let manifest: Manifest
    public let disk: any Disk
    /// Where each tensor is among the manifest's.
    private let places: [String: Int]

    private init(path: String, manifest: Manifest, disk: any Disk) {
        self.path = path
        self.manifest = manifest
        self.disk = disk
        places = Dictionary(uniqueKeysWithValues: manifest.tensors.enumerated().map { ($1.name, $0) })
    }

    /// - Throws: `.notFound` if there is no manifest, `.damaged` if it is not intact or if a file is
    ///   missing or has another size, `.notTrusted` if a key is given and the signature is not that key's.
    public static func open(_ path: String, key: CheckpointKey? = nil, disk: any Disk = RealDisk())
        throws(CheckpointError) -> Checkpoint {
        let path = trimmingSlashes(path), manifestPath = joined(path, Manifest.fileName)
        let kind = try onDisk { () throws(DiskError) in try disk.kind(path) }
        guard kind == .folder else {
            throw .notFound(kind == nil ? "\(path) does not exist" : "\(path) is not a checkpoint's folder")
        }
        let manifestKind = try onDisk { () throws(DiskError) in try disk.kind(manifestPath) }
        guard case .file(let size) = manifestKind else {
            throw .notFound("\(path) is not a finished checkpoint: it has no \(Manifest.fileName)")
        }
        guard size <= Manifest.sizeLimit else { throw .damaged(manifestPath, "\(Units.bytes(size))") }
        let bytes = try onDisk { () throws(DiskError) in try readFile(manifestPath, size: size, disk) }
        let manifest = try Manifest(decoding: bytes, path: manifestPath, key: key)
        let checkpoint = Checkpoint(path: path, manifest: manifest, disk: disk)
        let damages = try checkpoint.wrongSizes()
        guard damages.isEmpty else { throw .damaged(damages) }
        return checkpoint
    }

    private func wrongSizes() throws(CheckpointError) -> [Damage] {
        var damages: [Damage] = []
        for file in manifest.files {
            let path = joined(self.path, file.name)
            switch try onDisk({ () throws(DiskError) in try disk.kind(path) }) {
            case .file(let size) where size == file.size: continue
            case .file(let size):
                damages.append(Damage(path: path, evidence: "\(size) bytes, expected \(file.size)"))
            case nil: damages.append(Damage(path: path, evidence: "the file is missing"))
            case .folder, .other: damages.append(Damage(path: path, evidence: "not a file"))
            }
        }
        return damages
    }

    public var step: Int { manifest.step }

    /// The recipe's resolved TOML text.
    public func recipe() throws(CheckpointError) -> String { try text(Manifest.recipeFile) }
    /// The tokenizer's JSON.
    public func tokenizer() throws(CheckpointError) -> String { try text(Manifest.tokenizerFile) }

    private func text(_ name: String) throws(CheckpointError) -> String {
        let path = joined(self.path, name)
        guard let file = manifest.files.first(where: { $0.name == name }) else {
            throw .notFound("\(self.path) has no \(name)")
        }
        guard file.size <= Manifest.sizeLimit else { throw .damaged(path, "\(Units.bytes(file.size)) for a text") }
        let bytes = try onDisk { () throws(DiskError) in try readFile(path, size: file.size, disk) }
        guard hexadecimal(SHA256.hash(data: bytes)) == file.sha256 else {
            throw .damaged(path, "its SHA-256 does not match the manifest")
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The weights, in the order of their bytes.
    public var model: [StoredTensor] { tensors(.model) }
    /// The optimizer's state; empty if none was saved.
    public var optimizer: [StoredTensor] { tensors(.optimizer) }

    private func tensors(_ kind: Manifest.FileKind) -> [StoredTensor] {
        let files = Set(manifest.files.map(\.name).filter { Manifest.fileKind($0) == kind })
        return manifest.tensors.filter { files.contains($0.slices[0].file) }
    }

    /// The tensor of this name, if there is one.
    public func tensor(_ name: String) -> StoredTensor? { places[name].map { manifest.tensors[$0] } }

    /// For reading many tensors, or parts of them.
    public func reader() -> TensorReader { TensorReader(folder: path, files: manifest.files, disk: disk) }
}

extension Checkpoint {
    /// Refuses with one line, before any memory is touched, unless the weights are exactly `specs`.
    public func requireModel(_ specs: [TensorSpec]) throws(CheckpointError) { try require(specs, model) }

    /// The same for the optimizer's state.
    public func requireOptimizer(_ specs: [TensorSpec]) throws(CheckpointError) {
        try require(specs, optimizer)
    }

    private func require(_ specs: [TensorSpec], _ stored: [StoredTensor]) throws(CheckpointError) {
        let byName = Dictionary(uniqueKeysWithValues: stored.map { ($0.name, $0) })
        for spec in specs { _ = try entry(spec, byName[spec.name]) }
        let wanted = Set(specs.map(\.name))
        if let extra = stored.first(where: { !wanted.contains($0.name) }) {
            throw .mismatch("\(path) has the tensor \(extra.name), which this recipe does not have"
                + Checkpoint.advice)
        }
    }

    /// Fills `bytes` with the tensor `spec`, or with some of its elements (row-major), checking them on the way. If
    /// this throws, the contents of `bytes` are undefined. reader: one for all tensors that are read.
    public func read(_ spec: TensorSpec, _ elements: Range<Int>? = nil, into bytes: UnsafeMutableRawBufferPointer,
                     with reader: TensorReader? = nil) throws(CheckpointError) {
        let entry = try entry(spec, tensor(spec.name))
        let all = 0..<(spec.byteCount / spec.type.width)
        try unsafe (reader ?? self.reader()).read(entry, elements ?? all, into: bytes)
    }

    private func entry(_ spec: TensorSpec, _ stored: StoredTensor?) throws(CheckpointError) -> StoredTensor {
        guard let stored else {
            throw .mismatch("\(path) has no tensor \(spec.name) (\(spec))" + Checkpoint.advice)
        }
        guard stored.shape == spec.shape, stored.dtype == spec.type else {
            throw .mismatch("tensor \(spec.name) is \(stored.dtype.rawValue) \(stored.shape) in \(path), "
                + "this recipe wants \(spec)" + Checkpoint.advice)
        }
        return stored
    }

    private static let advice = "; the recipe it was trained with is its \(Manifest.recipeFile)"
}

/// `count` bytes of a file.
func readBytes(_ count: Int, from file: OpenFile, at offset: Int, _ disk: any Disk) throws(DiskError)
    -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var span = bytes.mutableSpan
    try unsafe span.withUnsafeMutableBytes { buffer throws(DiskError) in
        try unsafe disk.read(into: buffer, from: file, at: offset)
    }
    return bytes
}

/// A whole file.
func readFile(_ path: String, size: Int, _ disk: any Disk) throws(DiskError) -> [UInt8] {
    let file = try disk.open(path)
    defer { disk.close(file) }
    return try readBytes(size, from: file, at: 0, disk)
}
