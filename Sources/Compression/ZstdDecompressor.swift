import Base
import CZstd

/// Decompresses a stream of zstd frames (RFC 8878) that arrives in parts of any size. Frames may follow one another,
/// as `cat a.zst b.zst` makes them; skippable frames are passed over. The memory is bounded by the frame's window:
/// frames that want more than 128 MiB (`zstd --long=28` and up) are refused.
///
///     while try stream.next(input, &position, into: &output) { ... take from output ... }
///     try stream.finish()
@safe public final class ZstdDecompressor {
    private let stream: OpaquePointer
    private var buffer = [UInt8](repeating: 0, count: ZSTD_DStreamOutSize())
    private var isInFrame = false
    /// Compressed bytes read so far.
    public private(set) var consumed = 0

    public init() {
        guard let created = unsafe ZSTD_createDStream() else { preconditionFailure("no memory for a zstd stream") }
        unsafe stream = created
    }

    deinit { unsafe ZSTD_freeDStream(stream) }

    /// Appends the next decompressed bytes to `output`, at most 128 KiB of them, from `input` at `position`, which
    /// moves on. False, with nothing appended, once all of `input` is used up and all that it gives is out.
    public func next(_ input: Span<UInt8>, _ position: inout Int,
                     into output: inout [UInt8]) throws(ZstdError) -> Bool {
        // zstd may hold back output when its buffer was full, so an empty input is worth a call within a frame only.
        while position < input.count || isInFrame {
            let (produced, used, code) = decompress(input, position)
            position += used
            consumed += used
            guard ZSTD_isError(code) == 0 else { throw ZstdError(offset: consumed, reason: Self.reason(code)) }
            isInFrame = code != 0
            if produced > 0 {
                output.append(contentsOf: buffer[..<produced])
                return true
            }
            if used == 0 { return false }
        }
        return false
    }

    private static func reason(_ code: Int) -> ZstdError.Reason {
        if ZSTD_getErrorCode(code) == ZSTD_error_frameParameter_windowTooLarge { return .window }
        return .damaged(unsafe String(cString: ZSTD_getErrorName(code)))
    }

    private func decompress(_ input: Span<UInt8>, _ position: Int) -> (produced: Int, used: Int, code: Int) {
        unsafe input.withUnsafeBytes { source in
            unsafe buffer.withUnsafeMutableBytes { target in
                let rest = unsafe UnsafeRawBufferPointer(rebasing: source[position...])
                var from = unsafe ZSTD_inBuffer(src: rest.baseAddress, size: rest.count, pos: 0)
                var to = unsafe ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
                let code = unsafe ZSTD_decompressStream(stream, &to, &from)
                return unsafe (to.pos, from.pos, code)
            }
        }
    }

    /// To be called after the last input. Throws when it ended within a frame.
    public func finish() throws(ZstdError) {
        guard !isInFrame else { throw ZstdError(offset: consumed, reason: .truncated) }
    }
}

/// What the frames in `bytes` say that they decompress to; nil when one does not say, or when they are damaged.
public func zstdContentSize(_ bytes: Span<UInt8>) -> Int? {
    unsafe bytes.withUnsafeBytes { bytes in
        var rest = unsafe bytes[...], sum = 0
        while unsafe !rest.isEmpty {
            let frame = unsafe UnsafeRawBufferPointer(rebasing: rest)
            let size = unsafe ZSTD_findFrameCompressedSize(frame.baseAddress, frame.count)
            let content = unsafe ZSTD_getFrameContentSize(frame.baseAddress, frame.count)
            guard ZSTD_isError(size) == 0, let known = Int(exactly: content), known >= 0 else { return nil }
            let (total, overflow) = sum.addingReportingOverflow(known)
            guard !overflow else { return nil }
            sum = total
            unsafe rest = rest.dropFirst(size)
        }
        return sum
    }
}
