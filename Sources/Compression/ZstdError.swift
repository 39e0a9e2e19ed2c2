import Base

/// Compressed bytes that cannot be read. Whoever knows the file's name puts it before the description.
public struct ZstdError: Fault, Equatable {
    public enum Reason: Equatable, Sendable {
        /// The input ends within a frame.
        case truncated
        /// A frame asks for more memory than a reader should give unasked.
        case window
        /// zstd's own words.
        case damaged(String)
    }

    /// Compressed bytes before the place where it went wrong.
    public let offset: Int
    public let reason: Reason

    package init(offset: Int, reason: Reason) {
        self.offset = offset
        self.reason = reason
    }

    public var kind: FaultKind { .badInput }

    public var description: String {
        switch reason {
        case .truncated: "the zstd data end at byte \(offset) in the middle of a frame; copy the file again"
        case .window:
            "the zstd frame before byte \(offset) needs a window of more than 128 MiB; compress without --long"
        case .damaged(let what): "byte \(offset) of the zstd data is damaged (\(what)); copy the file again"
        }
    }
}
