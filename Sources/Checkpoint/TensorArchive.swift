import Base
import Foundation
import Storage

/// Tensors that lie somewhere: in a checkpoint, in a safetensors file of anybody's, or in a folder of such files as
/// Hugging Face has them (one file, or several with `model.safetensors.index.json`). Opening reads headers only.
public struct TensorArchive: Sendable {
    /// A checkpoint's folder, the file, or the folder.
    public let path: String
    /// If it is one of ours.
    public let checkpoint: Checkpoint?
    /// In the order of their bytes within each file.
    public let tensors: [StoredTensor]
    public let files: [StoredFile]
    /// Where the files are.
    private let folder: String
    private let disk: any Disk
    private let places: [String: Int]

    private init(_ path: String, in folder: String, _ checkpoint: Checkpoint?, _ tensors: [StoredTensor],
                 _ files: [StoredFile], _ disk: any Disk) {
        self.path = path
        self.folder = folder
        self.checkpoint = checkpoint
        self.tensors = tensors
        self.files = files
        self.disk = disk
        places = Dictionary(tensors.enumerated().map { ($1.name, $0) }, uniquingKeysWith: min)
    }

    public init(_ checkpoint: Checkpoint) {
        self.init(checkpoint.path, in: checkpoint.path, checkpoint, checkpoint.manifest.tensors,
                  checkpoint.manifest.files, checkpoint.disk)
    }

    /// Opens what a person means by `path`: a checkpoint or a run as `Checkpoint.locate` takes them, a file that ends
    /// in `.safetensors`, or a folder of those. Warnings are those of `locate`.
    public static func open(_ path: String, key: CheckpointKey? = nil, disk: any Disk = RealDisk())
        throws(CheckpointError) -> (archive: TensorArchive, warnings: [String]) {
        let path = trimmingSlashes(path)
        switch try onDisk({ () throws(DiskError) in try disk.kind(path) }) {
        case .file:
            // The format has no magic, so the name is the only sign of what a file means to be.
            guard path.hasSuffix(".safetensors") else {
                throw .notFound("\(path) is not a checkpoint's folder, nor a file that ends in .safetensors")
            }
            let (folder, name) = split(path)
            return (try TensorArchive(path, in: folder, [name], disk), [])
        case .folder:
            if let names = try foreignFiles(path, disk) { return (try TensorArchive(path, in: path, names, disk), []) }
        case .other, nil: break
        }
        let (checkpoint, warnings) = try Checkpoint.locate(path, key: key, disk: disk)
        return (TensorArchive(checkpoint), warnings)
    }

    private static let indexFile = "model.safetensors.index.json"

    /// The safetensors files of a folder that is no checkpoint; nil if it is one, or has none.
    private static func foreignFiles(_ path: String, _ disk: any Disk) throws(CheckpointError) -> [String]? {
        let names = try onDisk { () throws(DiskError) in try disk.list(path) }
        // An unfinished save of ours is none of this.
        let ours = [Manifest.fileName, Manifest.temporaryName, Manifest.recipeFile]
        if names.contains(where: { ours.contains($0) }) { return nil }
        if names.contains(indexFile) { return try indexed(joined(path, indexFile), disk) }
        let files = names.filter { $0.hasSuffix(".safetensors") }.sorted()
        return files.isEmpty ? nil : files
    }

    private struct Index: Decodable { let weight_map: [String: String] }

    /// The files that an index names.
    private static func indexed(_ path: String, _ disk: any Disk) throws(CheckpointError) -> [String] {
        guard case .file(let size) = try onDisk({ () throws(DiskError) in try disk.kind(path) }),
              size <= Manifest.sizeLimit else { throw .damaged(path, "no index of tensors") }
        let bytes = try onDisk { () throws(DiskError) in try readFile(path, size: size, disk) }
        let index: Index
        do {
            index = try JSONDecoder().decode(Index.self, from: Data(bytes))
        } catch {
            throw .damaged(path, "not an index of tensors (\(jsonProblem(error)))")
        }
        let files = Set(index.weight_map.values).sorted()
        if let stranger = files.first(where: { $0.contains("/") || !$0.hasSuffix(".safetensors") }) {
            throw .damaged(path, "it names the file \(stranger), which is no safetensors file beside it")
        }
        return files
    }

    private init(_ path: String, in folder: String, _ names: [String], _ disk: any Disk) throws(CheckpointError) {
        var tensors: [StoredTensor] = [], files: [StoredFile] = [], known: Set<String> = []
        for name in names {
            let layout = try Safetensors(reading: joined(folder, name), disk: disk)
            files.append(StoredFile(name: name, size: layout.fileSize, sha256: ""))
            for tensor in layout.tensors {
                guard known.insert(tensor.name).inserted else {
                    throw .damaged(joined(folder, name), "the tensor \(tensor.name) is in another file, too")
                }
                let slice = StoredSlice(file: name, first: 0, begin: tensor.range.lowerBound,
                                        end: tensor.range.upperBound, crc: nil)
                tensors.append(StoredTensor(name: tensor.name, dtype: tensor.type, shape: tensor.shape,
                                            slices: [slice]))
            }
        }
        self.init(path, in: folder, nil, tensors, files, disk)
    }

    public func reader() -> TensorReader { TensorReader(folder: folder, files: files, disk: disk) }

    /// The tensor of this name; the error says which one may have been meant.
    public func tensor(_ name: String) throws(CheckpointError) -> StoredTensor {
        if let place = places[name] { return tensors[place] }
        let near = nearestName(to: name, in: tensors.map(\.name))
        throw .notFound("\(path) has no tensor \(name)" + (near.map { "; did you mean \($0)?" } ?? ""))
    }

    func named(_ name: String) -> StoredTensor? { places[name].map { tensors[$0] } }

    /// Those whose names a shell's pattern matches: `*` is any run of characters, `?` is one.
    public func tensors(matching pattern: String) throws(CheckpointError) -> [StoredTensor] {
        let found = tensors.filter { matches($0.name, pattern) }
        guard !found.isEmpty else {
            throw .notFound("\(path) has no tensor whose name matches \(pattern); it has \(tensors.count), for example "
                + (tensors.first?.name ?? "none"))
        }
        return found
    }
}

/// Whether the whole of `name` is what `pattern` describes.
package func matches(_ name: String, _ pattern: String) -> Bool {
    let name = Array(name.utf8), pattern = Array(pattern.utf8)
    var at = 0, place = 0
    // Where the last star was, and how far it reaches: if the rest does not fit, it reaches one further.
    var star: (pattern: Int, name: Int)?
    while at < name.count {
        if place < pattern.count, pattern[place] == UInt8(ascii: "*") {
            star = (place, at)
            place += 1
        } else if place < pattern.count, pattern[place] == UInt8(ascii: "?") || pattern[place] == name[at] {
            at += 1
            place += 1
        } else if let last = star {
            star = (last.pattern, last.name + 1)
            (at, place) = (last.name + 1, last.pattern + 1)
        } else {
            return false
        }
    }
    return pattern[place...].allSatisfy { $0 == UInt8(ascii: "*") }
}
