import Base
import CZlib

/// Text that arrives compressed, in parts of any size.
///
///     while try stream.next(input, &position, into: &output) { ... take from output ... }
///     try stream.finish()
public protocol Decompressor: AnyObject {
    /// Appends the next decompressed bytes to `output`, at most 128 KiB of them, from `input` at `position`, which
    /// moves on. False, with nothing appended, once all of `input` is used up and all that it gives is out.
    func next(_ input: Span<UInt8>, _ position: inout Int, into output: inout [UInt8]) throws
    -> Bool
    /// To be called after the last input. Throws when it ended too early.
    func finish() throws
}

/// Decompresses gzip (RFC 1952). Members may follow one another, as `cat a.gz b.gz` makes them; zero bytes behind the
/// last one, which tapes leave, are passed over.
@safe public final class GzipDecompressor: Decompressor {
    private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    private var buffer = [UInt8](repeating: 0, count: 128 << 10)
    private enum Place { case before, within, behind }
    private var place = Place.before
    /// Compressed bytes read so far.
    public private(set) var consumed = 0

    public init() {
        unsafe stream.initialize(to: z_stream())
        // 16 asks for gzip's own frame and checksum, 15 for the largest window.
        let code = unsafe inflateInit2_(stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        precondition(code == Z_OK, "no memory for a gzip stream")
    }

    deinit {
        unsafe inflateEnd(stream)
        unsafe stream.deallocate()
    }

    public func next(_ input: Span<UInt8>, _ position: inout Int,
                     into output: inout [UInt8]) throws -> Bool {
        while position < input.count || place == .within {
            if place == .behind, !beginsAnother(input, &position) { continue }
            let (produced, used, code) = decompress(input, position)
            position += used
            consumed += used
            guard [Z_OK, Z_STREAM_END, Z_BUF_ERROR].contains(code) else {
                let what = unsafe stream.pointee.msg.map { unsafe String(cString: $0) } ?? "code \(code)"
                throw BadInput("byte \(consumed) of the gzip data is damaged (\(what)); copy the file again")
            }
            place = .within
            if code == Z_STREAM_END {
                place = .behind
                unsafe inflateReset(stream)
            }
            if produced > 0 {
                output.append(contentsOf: buffer[..<produced])
                return true
            }
            if used == 0, code != Z_STREAM_END { return false }
        }
        return false
    }

    /// Passes over zero bytes behind a member. True when something else follows, which must be another member.
    private func beginsAnother(_ input: Span<UInt8>, _ position: inout Int) -> Bool {
        while position < input.count, input[position] == 0 {
            position += 1
            consumed += 1
        }
        return position < input.count
    }

    private func decompress(_ input: Span<UInt8>, _ position: Int) -> (produced: Int, used: Int, code: Int32) {
        unsafe input.withUnsafeBytes { source in
            unsafe buffer.withUnsafeMutableBytes { target in
                let rest = unsafe UnsafeRawBufferPointer(rebasing: source[position...])
                // zlib counts in 32 bits; what is left comes with the next call.
                let count = min(rest.count, 1 << 30)
                let bytes = unsafe rest.baseAddress?.assumingMemoryBound(to: UInt8.self)
                unsafe stream.pointee.next_in = unsafe UnsafeMutablePointer(mutating: bytes)
                unsafe stream.pointee.avail_in = UInt32(count)
                unsafe stream.pointee.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
                unsafe stream.pointee.avail_out = UInt32(target.count)
                let code = unsafe inflate(stream, Z_NO_FLUSH)
                return unsafe (target.count - Int(stream.pointee.avail_out), count - Int(stream.pointee.avail_in), code)
            }
        }
    }

    public func finish() throws {
        guard place != .within else {
            throw BadInput("the gzip data end at byte \(consumed) in the middle of a member; copy the file again")
        }
    }
}

extension ZstdDecompressor: Decompressor {}
