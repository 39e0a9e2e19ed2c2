import Base
import CZstd

/// Compresses a stream into zstd frames (RFC 8878), each with a checksum of its content. The same input and level
/// give the same bytes with the same version of zstd, however the input is cut into parts.
@safe public final class ZstdCompressor {
    private let stream: OpaquePointer
    private var buffer = [UInt8](repeating: 0, count: ZSTD_CStreamOutSize())

    /// `level` from 1 (fast) to 19 (small).
    public init(level: Int = 3) {
        precondition((1...19).contains(level), "zstd levels are 1 to 19")
        guard let created = unsafe ZSTD_createCStream() else { preconditionFailure("no memory for a zstd stream") }
        unsafe stream = created
        unsafe _ = ZSTD_CCtx_setParameter(stream, ZSTD_c_compressionLevel, Int32(level))
        unsafe _ = ZSTD_CCtx_setParameter(stream, ZSTD_c_checksumFlag, 1)
    }

    deinit { unsafe ZSTD_freeCStream(stream) }

    /// Appends what is ready of the compressed form of `input` to `output`; with `ends`, all of it, and the frame's
    /// end. What follows is a new frame.
    public func compress(_ input: Span<UInt8>, into output: inout [UInt8], ends: Bool) {
        var position = 0, code = 0
        repeat {
            let (produced, used, rest) = compress(input, position, ends)
            position += used
            code = rest
            // Only out of memory or a wrong call lead here.
            precondition(ZSTD_isError(code) == 0, "zstd cannot compress")
            output.append(contentsOf: buffer[..<produced])
        } while position < input.count || (ends && code != 0)
    }

    private func compress(_ input: Span<UInt8>, _ position: Int,
                          _ ends: Bool) -> (produced: Int, used: Int, rest: Int) {
        unsafe input.withUnsafeBytes { source in
            unsafe buffer.withUnsafeMutableBytes { target in
                let rest = unsafe UnsafeRawBufferPointer(rebasing: source[position...])
                var from = unsafe ZSTD_inBuffer(src: rest.baseAddress, size: rest.count, pos: 0)
                var to = unsafe ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
                let code = unsafe ZSTD_compressStream2(stream, &to, &from, ends ? ZSTD_e_end : ZSTD_e_continue)
                return unsafe (to.pos, from.pos, code)
            }
        }
    }
}
