import Base
import Storage

/// Why a checkpoint could not be written or used. One line each.
public enum CheckpointError: Fault, Equatable {
    /// The storage refused an operation.
    case disk(DiskError)
    /// A save was given up. What was there before is as it was.
    case notWritten(step: Int, DiskError)
    /// A step that is already saved is never overwritten.
    case exists(String)
    /// The path that was given holds no checkpoint; the text says what is there instead.
    case notFound(String)
    /// The file or folder at the path breaks its format.
    case damaged([Damage])
    /// The checkpoint is whole, but does not fit what is to be loaded.
    case mismatch(String)
    /// A key is given, and the checkpoint does not bear its signature. It is not passed over for an older one, which
    /// would be what an attacker wants, or what a wrong key file would do to all of them.
    case notTrusted(String)

    public var kind: FaultKind {
        switch self {
        case .disk, .notWritten, .exists: .running
        case .notFound, .damaged, .mismatch, .notTrusted: .badInput
        }
    }

    public var description: String {
        switch self {
        case .disk(let error):
            error.description
        case .notWritten(let step, let error):
            "the checkpoint of step \(step) was not written: \(error); earlier checkpoints are untouched"
        case .exists(let path):
            "\(path) already holds a checkpoint; move it away or save to another folder"
        case .notFound(let text), .mismatch(let text), .notTrusted(let text):
            text
        case .damaged(let damages):
            damages.map(\.description).joined(separator: "; ")
        }
    }
}

/// One place where a checkpoint is not what was written.
public struct Damage: Equatable, Sendable, CustomStringConvertible {
    /// The damaged file's path.
    public let path: String
    /// The tensor whose bytes changed; nil if something else of the file did.
    public let tensor: String?
    /// The block of the file (see `StoredFile.blocks`); nil where nothing is known of blocks.
    public let block: Int?
    /// What was found, for example "checksum 1A2B3C4D, expected 5E6F7081".
    public let evidence: String

    public init(path: String, tensor: String? = nil, block: Int? = nil, evidence: String) {
        self.path = path
        self.tensor = tensor
        self.block = block
        self.evidence = evidence
    }

    public var description: String {
        tensor.map { "tensor \($0) in \(path) is damaged: \(evidence)" } ?? "\(path) is damaged: \(evidence)"
    }
}

extension CheckpointError {
    package static func damaged(_ path: String, _ evidence: String) -> CheckpointError {
        .damaged([Damage(path: path, evidence: evidence)])
    }
}

/// Runs disk operations where nothing more is to be said about a failure than the disk says.
package func onDisk<T>(_ body: () throws(DiskError) -> T) throws(CheckpointError) -> T {
    do { return try body() } catch { throw .disk(error) }
}
