import Base
import Crypto
import Foundation
import Storage

extension Manifest {
    /// The file's bytes, signed if there is a key.
    package func encoded(key: CheckpointKey? = nil) -> [UInt8] {
        let lines: [(String, String)] = [
            ("data", json(data)),
            ("files", "[\n" + files.map(json).joined(separator: ",\n") + "\n]"),
            ("format", json(Manifest.format)),
            ("rng", json(rng)),
            ("state", json(state)),
            ("step", json(step)),
            ("tensors", "[\n" + tensors.map(json).joined(separator: ",\n") + "\n]"),
            ("tokens", json(tokens)),
            ("version", json(Manifest.newestVersion)),
            ("world_size", json(worldSize)),
        ]
        var body = Array((lines.map { "\"\($0)\":\($1)" }.joined(separator: ",\n") + "\n}\n").utf8)
        if let key { body = Array((Self.signatureOpening + key.signature(of: body) + Self.closing).utf8) + body }
        return Array((Self.opening + hexadecimal(SHA256.hash(data: body)) + Self.closing).utf8) + body
    }

    private static let opening = "{\n\"self_sha256\":\""
    private static let signatureOpening = "\"hmac_sha256\":\""
    private static let closing = "\",\n"

    /// Reads what `encoded` wrote and checks everything that can be checked without the other files. With a key the
    /// signature must be there and right.
    package init(decoding bytes: [UInt8], path: String, key: CheckpointKey? = nil) throws(CheckpointError) {
        let start = Manifest.opening.utf8.count + 64 + Manifest.closing.utf8.count
        guard bytes.count > start else {
            throw .damaged(path, "\(bytes.count) bytes, too few for a manifest")
        }
        let body = bytes[start...]
        let head = Manifest.opening + hexadecimal(SHA256.hash(data: body)) + Manifest.closing
        guard bytes[..<start].elementsEqual(head.utf8) else {
            throw .damaged(path, "its hash of itself does not match")
        }
        let isSigned = body.starts(with: Manifest.signatureOpening.utf8)
        if let key { try Manifest.require(key, body, isSigned, path) }
        // From here on the bytes are what a skein wrote, unless somebody took the trouble to hash a
        // forgery; the checks below are what keeps that one from reading outside of its own files.
        let decoder = JSONDecoder()
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(
            positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        let fields: Fields
        do {
            fields = try decoder.decode(Fields.self, from: Data(bytes))
        } catch let other as OtherFormat {
            throw .mismatch("\(path) has the format \(other.format) \(other.version), this program reads "
                + "\(Manifest.format) \(Manifest.newestVersion) and older; use the version of skein that wrote it")
        } catch {
            throw .damaged(path, "not a manifest (\(jsonProblem(error)))")
        }
        self.init(step: fields.step, tokens: fields.tokens, worldSize: fields.world_size, data: fields.data,
                  rng: fields.rng, state: fields.state)
        files = fields.files
        tensors = fields.tensors
        version = fields.version
        self.isSigned = isSigned
        if let problem { throw .damaged(path, problem) }
    }

    /// The signature is over all that follows its own line; the line itself is covered by the hash before it.
    private static func require(_ key: CheckpointKey, _ body: ArraySlice<UInt8>, _ isSigned: Bool, _ path: String)
        throws(CheckpointError) {
        guard isSigned else {
            throw .notTrusted("\(path) is not signed, and a key is given; load it without checkpoint.key_file if you "
                + "trust whoever could write there")
        }
        let place = body.dropFirst(signatureOpening.utf8.count)
        let signed = place.dropFirst(64 + closing.utf8.count)
        let expected = key.signature(of: Array(signed)) + closing
        guard place.prefix(64 + closing.utf8.count).elementsEqual(expected.utf8) else {
            throw .notTrusted("\(path) is signed with another key, or was changed by somebody without it; give the "
                + "key file that it was saved with")
        }
    }

    /// What the self-hash cannot promise: that the entries make sense together.
    private var problem: String? {
        guard step >= 0, tokens >= 0, worldSize >= 1 else { return "a negative count" }
        // Far beyond any run, and far enough from the end of the numbers for a run to go on counting.
        guard step < 1 << 48, tokens < 1 << 60, worldSize < 1 << 20, data.row < 1 << 60 else {
            return "an impossible count"
        }
        var contents: [String: Int] = [:]
        for file in files {
            guard Manifest.fileKind(file.name) != nil, contents[file.name] == nil, file.isPossible,
                  (file.frames != nil) == file.name.hasSuffix(Manifest.compressedEnding) else {
                return "an impossible entry for the file \(file.name)"
            }
            contents[file.name] = file.content
        }
        var names: Set<String> = []
        for tensor in tensors {
            guard tensor.isPossible(in: contents), names.insert(tensor.name).inserted else {
                return "an impossible entry for the tensor \(tensor.name)"
            }
        }
        return nil
    }
}

extension StoredTensor {
    /// Whether its slices lie within their files and are, one behind the other, all elements of its shape.
    func isPossible(in contents: [String: Int]) -> Bool {
        guard let size = dtype.byteCount(of: shape), !slices.isEmpty else { return false }
        var next = 0
        for slice in slices {
            guard let content = contents[slice.file], 0 <= slice.begin, slice.begin <= slice.end,
                  slice.end <= content, slice.first == next, slice.byteCount % dtype.width == 0 else { return false }
            // Each slice is within a file below 2^60 bytes, so one more cannot overflow.
            next += slice.byteCount / dtype.width
            guard next <= size / dtype.width else { return false }
        }
        return next == size / dtype.width
    }
}

private struct OtherFormat: Error {
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
    let files: [StoredFile]
    let tensors: [StoredTensor]
    let version: Int

    private enum Key: String, CodingKey {
        case step, tokens, world_size, data, rng, state, files, tensors, format, version
    }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Key.self)
        // Before the rest, so that another version gets a better answer than a missing key.
        let format = try fields.decode(String.self, forKey: .format)
        version = try fields.decode(Int.self, forKey: .version)
        guard format == Manifest.format, (1...Manifest.newestVersion).contains(version) else {
            throw OtherFormat(format: format, version: version)
        }
        step = try fields.decode(Int.self, forKey: .step)
        tokens = try fields.decode(Int.self, forKey: .tokens)
        world_size = try fields.decode(Int.self, forKey: .world_size)
        data = try fields.decode(SavedPosition.self, forKey: .data)
        rng = try fields.decode(RNGState.self, forKey: .rng)
        state = try fields.decode([String: StateValue].self, forKey: .state)
        files = try fields.decode([StoredFile].self, forKey: .files)
        tensors = try fields.decode([StoredTensor].self, forKey: .tensors)
    }
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
