import Base
import Foundation

/// What a checkpoint is: a folder is one if and only if it holds a manifest, and the manifest says what every
/// other byte in it must be.
///
///     step-N/
///         model.safetensors       the weights
///         optimizer.safetensors   the optimizer's moments, if there are any; compressed, it is
///                                 optimizer.safetensors.zst, one zstd frame for each block of 4 MiB
///                                 (written by W > 1 ranks, each is up to W files: model-00001-of-00004.safetensors)
///         config.toml             the resolved recipe
///         tokenizer.json          how bytes become tokens
///         manifest.json           this
///
/// The layout knows no ranks: a tensor is a list of slices, runs of its elements in row-major order, which lie in any
/// of the files; together they are all of it. So any number of ranks reads what any number has written.
///
/// `manifest.json` is JSON with one element of an array on a line, so that it can be read and grepped:
///
///     {
///     "self_sha256":"64 hex digits",      of every byte of this file after this line
///     "hmac_sha256":"64 hex digits",      if there is a key: of every byte after this line
///     "data":{...},                       the other keys in alphabetical order
///     "files":[ {name, size, SHA-256, CRC-32C of each block}, ... ],
///     ...
///     "tensors":[ {name, dtype, shape, slices: [{file, begin, end, first element, CRC-32C}]}, ... ],
///     ...
///     }
///
/// The first two lines have a fixed form, so there is no byte that could change without the hash or
/// the comparison noticing. No time is in it but a measured cost of tasks (`planner_cost`).
/// docs/checkpoints.md has every field.
public struct Manifest: Equatable, Sendable {
    /// The step whose update is the last one in the weights.
    public var step: Int
    /// Target tokens trained on, over all ranks, since step 0.
    public var tokens: Int
    /// How many ranks wrote it. Any other number may read it.
    public var worldSize: Int
    public var data: SavedPosition
    public var rng: RNGState
    /// Whatever else must survive: scales, tuned tables, the warm-up's token count.
    public var state: [String: StateValue]
    public internal(set) var files: [StoredFile] = []
    public internal(set) var tensors: [StoredTensor] = []
    /// The format's version that it was read from, or will be written as.
    public internal(set) var version = Manifest.newestVersion
    /// Whether it carries a signature, right or wrong.
    public internal(set) var isSigned = false

    public init(step: Int, tokens: Int, worldSize: Int, data: SavedPosition, rng: RNGState,
                state: [String: StateValue] = [:]) {
        self.step = step
        self.tokens = tokens
        self.worldSize = worldSize
        self.data = data
        self.rng = rng
        self.state = state
    }

    package static let modelFile = "model.safetensors"
    package static let optimizerFile = "optimizer.safetensors"
    package static let recipeFile = "config.toml"
    package static let tokenizerFile = "tokenizer.json"
    /// What a file of a checkpoint holds.
    package enum FileKind { case model, optimizer, recipe, tokenizer }

    /// The file of part `part` (from 0) of `count`.
    static func partName(_ file: String, _ part: Int, of count: Int) -> String {
        guard count > 1 else { return file }
        func five(_ number: Int) -> String {
            String(repeating: "0", count: max(0, 5 - String(number).count)) + String(number)
        }
        return file.replacing(".safetensors", with: "-\(five(part + 1))-of-\(five(count)).safetensors")
    }

    /// What a file of this name is; nil if no checkpoint has such a file. Nothing else in the folder is ever
    /// listed, read or removed.
    package static func fileKind(_ name: String) -> FileKind? {
        switch name {
        case modelFile: return .model
        case optimizerFile, optimizerFile + compressedEnding: return .optimizer
        case recipeFile: return .recipe
        case tokenizerFile: return .tokenizer
        default: break
        }
        let pattern = /(model|optimizer)-([0-9]{5,})-of-([0-9]{5,})\.safetensors(\.zst)?/
        guard let match = name.wholeMatch(of: pattern), let part = Int(match.2), let count = Int(match.3),
              part >= 1, part <= count else { return nil }
        if match.1 == "model" { return match.4 == nil ? .model : nil }
        return .optimizer
    }
    package static let fileName = "manifest.json"
    static let temporaryName = "manifest.json.tmp"
    static let compressedEnding = ".zst"
    static let format = "skein-checkpoint"
    /// 1 had whole tensors and no checksums of blocks. It is still read.
    static let newestVersion = 2
    /// Ten times what a manifest of 100,000 tensors needs.
    static let sizeLimit = 256 << 20
}

/// Where the data's order goes on.
public struct SavedPosition: Codable, Equatable, Sendable {
    /// A hash of the training data and of how it is cut; a run resumes only over the same.
    public var fingerprint: String
    /// The seed of the order.
    public var seed: UInt64
    /// Rows consumed since step 0, over all ranks.
    public var row: UInt64
    /// The corpus' own 64 bytes, in hex: rows consumed of each bucket. Nil in manifests from before there were
    /// buckets.
    public var position: String?

    public init(fingerprint: String, seed: UInt64, row: UInt64, position: [UInt8]) {
        self.fingerprint = fingerprint
        self.seed = seed
        self.row = row
        self.position = hexadecimal(position)
    }

    /// The bytes of `position`. Nil when there are none, or when it is no hex.
    public var bytes: [UInt8]? {
        (position?.utf8).flatMap(Base.bytes(hexadecimal:))
    }
}

/// The counter-based generator's whole state.
public struct RNGState: Codable, Equatable, Sendable {
    public var seed: UInt64
    /// The next unused counter of each stream that counts.
    public var counters: [String: UInt64]

    public init(seed: UInt64, counters: [String: UInt64] = [:]) {
        self.seed = seed
        self.counters = counters
    }
}

/// A value of the free-form state. Every finite number and every infinity comes back as it was, bit for bit;
/// of not-a-number only that it is one.
/// In JSON each is an object of one key, `{"number":0.5}`, because a bare 1 would not say whether it was an
/// integer.
public enum StateValue: Equatable, Sendable {
    case integer(Int)
    case number(Double)
    case text(String)
    case numbers([Double])
}

extension StateValue: Codable {
    private enum Key: String, CodingKey { case integer, number, text, numbers }

    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Key.self)
        switch self {
        case .integer(let value): try fields.encode(value, forKey: .integer)
        case .number(let value): try fields.encode(value, forKey: .number)
        case .text(let value): try fields.encode(value, forKey: .text)
        case .numbers(let value): try fields.encode(value, forKey: .numbers)
        }
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Key.self)
        switch fields.allKeys.first {
        case .integer: self = .integer(try fields.decode(Int.self, forKey: .integer))
        case .number: self = .number(try fields.decode(Double.self, forKey: .number))
        case .text: self = .text(try fields.decode(String.self, forKey: .text))
        case .numbers: self = .numbers(try fields.decode([Double].self, forKey: .numbers))
        case nil:
            throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath,
                                                    debugDescription: "a state value of unknown kind"))
        }
    }
}
