import Base
import Crypto
import Foundation
import Storage

extension Manifest {
    /// The file's bytes. Their number depends on neither hashes nor checksums, so that room for the manifest
    /// can be reserved before the tensors have been written.
    package func encoded() -> [UInt8] {
        let lines: [(String, String)] = [
            ("data", json(data)),
            ("files", "[\n" + files.map(json).joined(separator: ",\n") + "\n]"),
            ("format", json(Manifest.format)),
            ("rng", json(rng)),
            ("state", json(state)),
            ("step", json(step)),
            ("tensors", "[\n" + tensors.map(json).joined(separator: ",\n") + "\n]"),
            ("tokens", json(tokens)),
            ("version", json(Manifest.version)),
            ("world_size", json(worldSize)),
        ]
        let body = Array((lines.map { "\"\($0)\":\($1)" }.joined(separator: ",\n") + "\n}\n").utf8)
        return Array((Manifest.opening + hexadecimal(SHA256.hash(data: body)) + Manifest.closing).utf8) + body
    }

    private static let opening = "{\n\"self_sha256\":\""
    private static let closing = "\",\n"

    /// Reads what `encoded` wrote and checks everything that can be checked without the other files.
    package init(decoding bytes: [UInt8], path: String) throws(CheckpointError) {
        let start = Manifest.opening.utf8.count + 64 + Manifest.closing.utf8.count
        guard bytes.count > start else {
            throw .damaged(path, "\(bytes.count) bytes, too few for a manifest")
        }
        let body = bytes[start...]
        let head = Manifest.opening + hexadecimal(SHA256.hash(data: body)) + Manifest.closing
        guard bytes[..<start].elementsEqual(head.utf8) else {
            throw .damaged(path, "its hash of itself does not match")
        }
        // From here on the bytes are what a skein wrote, unless somebody took the trouble to hash a
        // forgery; the checks below are what keeps that one from reading outside of its own files.
        let decoder = JSONDecoder()
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(
            positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        let stamp: Stamp, fields: Fields
        do {
            stamp = try decoder.decode(Stamp.self, from: Data(bytes))
        } catch {
            throw .damaged(path, "not a manifest (\(jsonProblem(error)))")
        }
        guard stamp.format == Manifest.format, stamp.version == Manifest.version else {
            throw .mismatch("\(path) has the format \(stamp.format) \(stamp.version), this program reads "
                + "\(Manifest.format) \(Manifest.version); use the version of skein that wrote it")
        }
        do {
            fields = try decoder.decode(Fields.self, from: Data(bytes))
        } catch {
            throw .damaged(path, "not a manifest (\(jsonProblem(error)))")
        }
        self.init(step: fields.step, tokens: fields.tokens, worldSize: fields.world_size, data: fields.data,
                  rng: fields.rng, state: fields.state)
        files = fields.files
        tensors = fields.tensors
        if let problem { throw .damaged(path, problem) }
    }

    /// What the self-hash cannot promise: that the entries make sense together.
    private var problem: String? {
        guard step >= 0, tokens >= 0, worldSize >= 1 else { return "a negative count" }
        // Far beyond any run, and far enough from the end of the numbers for a run to go on counting.
        guard step < 1 << 48, tokens < 1 << 60, worldSize < 1 << 20, data.row < 1 << 60 else {
            return "an impossible count"
        }
        var sizes: [String: Int] = [:]
        for file in files {
            guard Manifest.fileKind(file.name) != nil, sizes[file.name] == nil, file.size >= 0 else {
                return "an impossible entry for the file \(file.name)"
            }
            sizes[file.name] = file.size
        }
        var names: Set<String> = []
        for tensor in tensors {
            guard let size = sizes[tensor.file], 0 <= tensor.begin, tensor.begin <= tensor.end,
                  tensor.end <= size, tensor.dtype.byteCount(of: tensor.shape) == tensor.byteCount,
                  names.insert(tensor.name).inserted
            else { return "an impossible entry for the tensor \(tensor.name)" }
        }
        return nil
    }
}

/// Read before the rest, so that another version gets a better answer than a missing key.
private struct Stamp: Decodable {
    let format: String
    let version: Int
}

private struct Fields: Decodable {
    let step: Int
    let tokens: Int
    let world_size: Int
    let data: SavedPosition
    let rng: RNGState
    let state: [String: StateValue]
    let files: [Manifest.File]
    let tensors: [Manifest.Tensor]
}

func json(_ value: some Encodable) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
        positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    do {
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    } catch {
        preconditionFailure("plain values that do not encode: \(error)")
    }
}

/// A tensor's checksum as the format has it: upper-case digits.
func checksumText(_ crc: UInt32) -> String { hexadecimal(crc).uppercased() }
