import Base
import Compression
import Testing

@Suite struct ZstdTests {
    /// Letters that repeat a little, a function of `seed`.
    private func text(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
        let rng = CounterRNG(seed: seed, stream: 0)
        return (0..<count).map { UInt8(97 + rng.integer(below: 6, at: UInt64($0))) }
    }

    private func compressed(_ text: [UInt8], level: Int = 3) -> [UInt8] {
        var output: [UInt8] = []
        ZstdCompressor(level: level).compress(text.span, into: &output, ends: true)
        return output
    }

    /// Decompresses `input`, given in parts that end at `cuts`.
    private func decompressed(_ input: [UInt8], cuts: [Int] = []) throws -> [UInt8] {
        let stream = ZstdDecompressor()
        var output: [UInt8] = [], begin = 0
        for end in cuts + [input.count] {
            var position = 0, before = 0
            let part = input.span.extracting(begin..<end)
            while try stream.next(part, &position, into: &output) {
                #expect(output.count - before <= 1 << 17)
                before = output.count
            }
            #expect(position == part.count)
            begin = end
        }
        try stream.finish()
        #expect(stream.consumed == input.count)
        return output
    }

    @Test func everySplitPointOfAFrame() throws {
        let text = text(700), frame = compressed(text)
        for cut in 0...frame.count { #expect(try decompressed(frame, cuts: [cut]) == text) }
        #expect(try decompressed(frame, cuts: Array(1..<frame.count)) == text)
    }

    @Test func sizesAroundTheBuffers() throws {
        for count in [0, 1, 131_071, 131_072, 131_073, 1_000_000] {
            for level in [1, 3, 19] {
                let text = text(count), frame = compressed(text, level: level)
                #expect(try decompressed(frame) == text)
            }
        }
        // Far smaller than what comes out: all of it is handed on although the input is used up at once.
        let zeros = [UInt8](repeating: 7, count: 5_000_000)
        #expect(try decompressed(compressed(zeros)) == zeros)
    }

    @Test func partsOfTheInputDoNotMatter() throws {
        let text = text(300_000)
        for size in [1_000, 99_999, 131_072] {
            let stream = ZstdCompressor()
            var output: [UInt8] = []
            for begin in stride(from: 0, to: text.count, by: size) {
                let end = min(begin + size, text.count)
                stream.compress(text.span.extracting(begin..<end), into: &output, ends: end == text.count)
            }
            #expect(try decompressed(output) == text)
        }
    }

    @Test func framesFollowOneAnother() throws {
        let parts = [text(500, seed: 1), [], text(3, seed: 2), text(40_000, seed: 3)]
        let frames = parts.map { compressed($0) }
        // A skippable frame: its magic number, its length, and bytes that nobody reads.
        let skippable: [UInt8] = [0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3]
        let all = frames[0] + skippable + frames[1...].joined()
        let expected = Array(parts.joined())
        #expect(try decompressed(all) == expected)
        for cut in stride(from: 0, through: all.count, by: 7) {
            #expect(try decompressed(all, cuts: [cut]) == expected)
        }
        let stream = ZstdCompressor()
        var output: [UInt8] = []
        for part in parts { stream.compress(part.span, into: &output, ends: true) }
        #expect(try decompressed(output) == expected)
    }

    /// Every proper prefix is truncated: at the place where it ends, unless nothing of a frame is there.
    @Test func truncationIsFoundAtEveryByte() throws {
        let frame = compressed(text(300))
        for count in 1..<frame.count {
            for before in [[], frame] {
                let error = #expect(throws: ZstdError.self) { try decompressed(before + frame[..<count]) }
                #expect(error == ZstdError(offset: before.count + count, reason: .truncated))
            }
        }
        #expect(try decompressed([]) == [])
        #expect(ZstdError(offset: 5, reason: .truncated).description
            == "the zstd data end at byte 5 in the middle of a frame; copy the file again")
    }

    /// Each flipped byte is an error, or an unfinished frame, or leaves the content as it was.
    @Test func noFlippedByteGivesOtherContent() throws {
        let text = text(400), frame = compressed(text)
        var errors = 0
        for index in frame.indices {
            var broken = frame
            broken[index] ^= 0x41
            do {
                #expect(try decompressed(broken) == text, "byte \(index)")
            } catch let error as ZstdError {
                errors += 1
                #expect(error.offset <= broken.count && error.kind == .badInput)
            }
        }
        #expect(errors > frame.count * 9 / 10)
    }

    /// A frame's header asks for its window: 2^27 bytes are given, 2^28 are not.
    @Test func hugeWindowsAreRefused() throws {
        func frame(windowLog: UInt8) -> [UInt8] { [0x28, 0xB5, 0x2F, 0xFD, 0, (windowLog - 10) << 3, 1, 0, 0] }
        #expect(try decompressed(frame(windowLog: 27)) == [])
        let error = #expect(throws: ZstdError.self) { try decompressed(frame(windowLog: 28)) }
        #expect(error?.reason == .window)
    }

    @Test func framesSayTheirSize() {
        // zstd notes the size where it knows it when the frame begins: here the input ends with the first call.
        let frame = compressed(text(1_000))
        #expect(zstdContentSize(frame.span) == 1_000)
        func size(_ bytes: [UInt8]) -> Int? { zstdContentSize(bytes.span) }
        #expect(size(frame + frame) == 2_000 && size([]) == 0)
        #expect(size(frame.dropLast()) == nil && size([1, 2, 3, 4]) == nil)
        var unknown: [UInt8] = []
        let stream = ZstdCompressor(), half = text(500)
        stream.compress(half.span, into: &unknown, ends: false)
        stream.compress(half.span, into: &unknown, ends: true)
        #expect(zstdContentSize(unknown.span) == nil)
    }
}
