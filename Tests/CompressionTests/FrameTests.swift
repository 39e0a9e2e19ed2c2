import Base
import Compression
import Testing

/// One frame for each block.
@Suite struct FrameTests {
    private func block(_ count: Int, seed: UInt64, noisy: Bool) -> [UInt8] {
        let rng = CounterRNG(seed: seed, stream: 0)
        return (0..<count).map { noisy ? UInt8(truncatingIfNeeded: rng.bits(at: UInt64($0))) : UInt8($0 / 100 & 7) }
    }

    private func decompressed(_ frame: [UInt8], _ count: Int, _ frames: ZstdFrames) throws(ZstdError) -> [UInt8] {
        var block = [UInt8](repeating: 0xAA, count: count)
        var span = block.mutableSpan
        try unsafe span.withUnsafeMutableBytes { target throws(ZstdError) in
            try unsafe frame.span.bytes.withUnsafeBytes { source throws(ZstdError) in
                try unsafe frames.decompress(source, into: target)
            }
        }
        return block
    }

    @Test(arguments: [0, 1, 100, 4_096, 300_000, 4 << 20], [false, true]) func thereAndBack(_ count: Int, _ noisy: Bool)
        throws {
        let frames = ZstdFrames(), content = block(count, seed: 1, noisy: noisy)
        var frame: [UInt8] = []
        unsafe content.withUnsafeBytes { unsafe frames.compress($0, into: &frame) }
        #expect(frame.count <= ZstdFrames.bound(count))
        #expect(try decompressed(frame, count, frames) == content)
        #expect(zstdContentSize(frame.span) == count)
        // As a stream of other readers'.
        let stream = ZstdDecompressor()
        var position = 0, plain: [UInt8] = []
        while try stream.next(frame.span, &position, into: &plain) {}
        try stream.finish()
        #expect(plain == content)
        // Again into the same buffer, the same bytes.
        let first = frame
        unsafe content.withUnsafeBytes { unsafe frames.compress($0, into: &frame) }
        #expect(frame == first)
    }

    /// Another size is refused, and so is each flipped byte and each cut.
    @Test func damage() throws {
        let frames = ZstdFrames(), content = block(2_000, seed: 2, noisy: false)
        var frame: [UInt8] = []
        unsafe content.withUnsafeBytes { unsafe frames.compress($0, into: &frame) }
        for count in [0, 1_999, 2_001] {
            #expect(throws: ZstdError.self) { try decompressed(frame, count, frames) }
        }
        for position in frame.indices {
            for bit in 0..<8 {
                var other = frame
                other[position] ^= 1 << bit
                // A bit of the header that means nothing may change nothing.
                if let found = try? decompressed(other, 2_000, frames) { #expect(found == content, "\(position)") }
            }
            #expect(throws: ZstdError.self) { try decompressed(Array(frame[..<position]), 2_000, frames) }
        }
    }
}
