import Base
import Checkpoint
import Foundation

private struct Summary: Encodable {
    struct Part: Encodable {
        let tensors: Int
        let values: Int
        let bytes: Int
        let files: Int
        let stored_bytes: Int
        let compressed: Bool
    }

    let path: String
    let kind: String
    var version: Int?
    var signed: Bool?
    var step: Int?
    var tokens: Int?
    var world_size: Int?
    var row: UInt64?
    var seed: UInt64?
    var data: String?
    var recipe: String?
    let parts: [String: Part]
    let dtypes: [String: Int]
    let bytes: Int
}

/// What a checkpoint or a file is, from its manifest or headers alone.
func showSummary(_ archive: TensorArchive, json: Bool) throws {
    let dtypes = Dictionary(archive.tensors.map { ($0.dtype.rawValue, 1) }, uniquingKeysWith: +)
    let bytes = archive.files.reduce(0) { $0 + $1.size }
    guard let checkpoint = archive.checkpoint else {
        let part = part(archive.tensors, of: archive)
        let kind = archive.files.count == 1 && archive.path.hasSuffix(".safetensors") ? "file" : "folder"
        if json {
            printJSON(Summary(path: archive.path, kind: kind, parts: ["tensors": part], dtypes: dtypes, bytes: bytes))
            return
        }
        print("\(kind == "file" ? "file      " : "folder    ")  \(archive.path)")
        print("tensors     \(line(part))")
        let counts = dtypes.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
        print("dtypes      \(counts.joined(separator: ", "))")
        return
    }
    let manifest = checkpoint.manifest
    let (model, optimizer) = (part(checkpoint.model, of: archive), part(checkpoint.optimizer, of: archive))
    let recipe = try checkpoint.recipe()
    if json {
        var summary = Summary(path: checkpoint.path, kind: "checkpoint",
                              parts: ["model": model, "optimizer": optimizer], dtypes: dtypes, bytes: bytes)
        (summary.version, summary.signed) = (manifest.version, manifest.isSigned)
        (summary.step, summary.tokens, summary.world_size) = (manifest.step, manifest.tokens, manifest.worldSize)
        (summary.row, summary.seed, summary.data) = (manifest.data.row, manifest.data.seed, manifest.data.fingerprint)
        summary.recipe = recipe
        return printJSON(summary)
    }
    print("checkpoint  \(checkpoint.path) (format \(manifest.version), \(manifest.isSigned ? "" : "not ")signed)")
    print("step        \(Units.grouped(manifest.step))")
    print("tokens      \(Units.grouped(manifest.tokens))")
    print("data        row \(Units.grouped(Int(manifest.data.row))) of seed \(manifest.data.seed), "
        + "data \(manifest.data.fingerprint)")
    print("world size  \(manifest.worldSize)")
    print("model       \(line(model))")
    print("optimizer   \(line(optimizer))")
    print("bytes       \(Units.bytes(bytes)) in \(archive.files.count) files")
    print("\nrecipe (config.toml)")
    for line in recipe.split(separator: "\n", omittingEmptySubsequences: false) { print("  \(line)") }
}

private func part(_ tensors: [StoredTensor], of archive: TensorArchive) -> Summary.Part {
    let names = Set(tensors.flatMap { $0.slices.map(\.file) })
    let files = archive.files.filter { names.contains($0.name) }
    return Summary.Part(tensors: tensors.count, values: tensors.reduce(0) { $0 + $1.count },
                        bytes: tensors.reduce(0) { $0 + $1.byteCount }, files: files.count,
                        stored_bytes: files.reduce(0) { $0 + $1.size }, compressed: files.contains { $0.frames != nil })
}

private func line(_ part: Summary.Part) -> String {
    "\(Units.grouped(part.tensors)) tensors, \(Units.grouped(part.values)) values, \(Units.bytes(part.bytes)) in "
        + "\(part.files) file\(part.files == 1 ? "" : "s")"
        + (part.compressed ? ", compressed to \(Units.bytes(part.stored_bytes))" : "")
}

/// One object on one line.
func printJSON(_ value: some Encodable) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
        positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    do {
        print(String(decoding: try encoder.encode(value), as: UTF8.self))
    } catch {
        preconditionFailure("plain values that do not encode: \(error)")
    }
}

/// Four significant digits, as in "0.0207" and "1.3e-09".
func short(_ value: Double?) -> String { value.map { String(format: "%.4g", $0) } ?? "-" }

/// Columns as wide as their widest cell; all but those in `left` to the right.
func printAligned(_ rows: [[String]], left: Set<Int> = [0, 1, 2]) {
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    for row in rows {
        let cells = row.enumerated().map { column, cell in
            let padding = String(repeating: " ", count: widths[column] - cell.count)
            return left.contains(column) ? cell + padding : padding + cell
        }
        let line = "  " + cells.joined(separator: "  ")
        print(line.replacing(/[ ]+$/, with: ""))
    }
}

func shapeText(_ shape: [Int]) -> String {
    shape.isEmpty ? "scalar" : shape.map(String.init).joined(separator: "x")
}
