import Base
import CZstd

/// Blocks of bytes to zstd frames (RFC 8878) and back, one frame for each block, which says its size and has a
/// checksum of its content. The same block and level give the same frame with the same version of zstd. Frames behind
/// one another are what `zstd -d` reads as one file.
@safe public final class ZstdFrames {
    private let compressor: OpaquePointer
    private let decompressor: OpaquePointer

    /// `level` from 1 (fast) to 19 (small).
    public init(level: Int = 1) {
        precondition((1...19).contains(level), "zstd levels are 1 to 19")
        guard let compressor = unsafe ZSTD_createCCtx(), let decompressor = unsafe ZSTD_createDCtx() else {
            preconditionFailure("no memory for zstd")
        }
        unsafe self.compressor = compressor
        unsafe self.decompressor = decompressor
        unsafe _ = ZSTD_CCtx_setParameter(compressor, ZSTD_c_compressionLevel, Int32(level))
        unsafe _ = ZSTD_CCtx_setParameter(compressor, ZSTD_c_checksumFlag, 1)
    }

    deinit {
        unsafe ZSTD_freeCCtx(compressor)
        unsafe ZSTD_freeDCtx(decompressor)
    }

    /// The most bytes that a frame of `count` bytes can have.
    /// What a compressor and a decompressor take for themselves (measured at level 1: 1 to 2 MiB).
    public static let tableBytes = 2 << 20

    public static func bound(_ count: Int) -> Int { ZSTD_compressBound(count) }

    /// Replaces `frame` by the frame of `block`.
    public func compress(_ block: UnsafeRawBufferPointer, into frame: inout [UInt8]) {
        let room = Self.bound(block.count)
        if frame.count < room { frame = [UInt8](repeating: 0, count: room) }
        let count = unsafe frame.withUnsafeMutableBytes { target in
            unsafe ZSTD_compress2(compressor, target.baseAddress, target.count, block.baseAddress, block.count)
        }
        // Only out of memory leads here.
        precondition(ZSTD_isError(count) == 0, "zstd cannot compress")
        frame.removeLast(frame.count - count)
    }

    /// Fills `block` with the content of `frame`, which must be of just that size.
    public func decompress(_ frame: UnsafeRawBufferPointer, into block: UnsafeMutableRawBufferPointer)
        throws(ZstdError) {
        let count = unsafe ZSTD_decompressDCtx(decompressor, block.baseAddress, block.count,
                                               frame.baseAddress, frame.count)
        guard ZSTD_isError(count) == 0 else {
            throw ZstdError(offset: 0, reason: .damaged(unsafe String(cString: ZSTD_getErrorName(count))))
        }
        guard count == block.count else {
            throw ZstdError(offset: 0, reason: .damaged("\(count) bytes instead of \(block.count)"))
        }
    }
}
