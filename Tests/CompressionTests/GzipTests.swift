import Base
import Compression
import Foundation
import Testing

@Suite struct GzipTests {
    /// Made by the gzip of this machine, so that it is the real thing.
    private func gzip(_ text: [UInt8]) throws -> [UInt8] {
        let path = NSTemporaryDirectory() + "skein-gzip-\(UUID().uuidString)"
        try Data(text).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path + ".gz") }
        let process = try Process.run(URL(fileURLWithPath: "/bin/gzip"), arguments: ["-n", path])
        process.waitUntilExit()
        return Array(try Data(contentsOf: URL(fileURLWithPath: path + ".gz")))
    }

    private func decompressed(_ input: [UInt8], cuts: [Int] = []) throws -> [UInt8] {
        let stream = GzipDecompressor()
        var output: [UInt8] = [], begin = 0
        for end in cuts + [input.count] {
            var position = 0
            let part = input.span.extracting(begin..<end)
            while try stream.next(part, &position, into: &output) {}
            #expect(position == part.count)
            begin = end
        }
        try stream.finish()
        return output
    }

    private func text(_ count: Int) -> [UInt8] {
        let rng = CounterRNG(seed: 3, stream: 0)
        return (0..<count).map { UInt8(97 + rng.integer(below: 6, at: UInt64($0))) }
    }

    @Test func everySplitPoint() throws {
        let text = text(700), file = try gzip(text)
        for cut in 0...file.count { #expect(try decompressed(file, cuts: [cut]) == text) }
        #expect(try decompressed(file, cuts: Array(1..<file.count)) == text)
    }

    @Test func membersOneAfterTheOther() throws {
        let text = text(300_000), file = try gzip(text)
        #expect(try decompressed(file + file) == text + text)
        #expect(try decompressed(file + [0, 0, 0] + file + [0]) == text + text)
        #expect(try decompressed(gzip([])) == [])
        let zeros = [UInt8](repeating: 7, count: 5_000_000)
        #expect(try decompressed(gzip(zeros)) == zeros)
    }

    /// Cut anywhere, or with any bit flipped behind the header: an error, or the same text (the name and the time in
    /// the header say nothing about it).
    @Test func damage() throws {
        let text = text(500), file = try gzip(text)
        for end in 1..<file.count { #expect(throws: (any Error).self) { try decompressed(Array(file[..<end])) } }
        for place in 10..<file.count {
            for bit in 0..<8 {
                var damaged = file
                damaged[place] ^= 1 << bit
                // The last bits of a block's last byte mean nothing.
                #expect((try? decompressed(damaged)) ?? text == text)
            }
        }
        #expect(throws: BadInput.self) { try decompressed(file + [1, 2, 3]) }
    }
}
