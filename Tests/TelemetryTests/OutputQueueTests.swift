import Foundation
import Glibc
import Telemetry
import Testing

@Suite struct OutputQueueTests {
    private func pipe() -> (read: Int32, write: Int32) {
        var ends: [Int32] = [-1, -1]
        unsafe #expect(Glibc.pipe(&ends) == 0)
        return (ends[0], ends[1])
    }

    private func readAll(_ descriptor: Int32) -> [UInt8] {
        Array(FileHandle(fileDescriptor: descriptor).readDataToEndOfFile())
    }

    /// The flag of a pipe belongs to both its ends: a write that would block must wait, and not lose the rest.
    @Test func aPipeThatDoesNotBlock() async {
        let (read, write) = pipe()
        _ = fcntl(write, F_SETFL, O_NONBLOCK)
        let bytes = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        async let got = Task.detached { () -> [UInt8] in
            usleep(20_000)
            return self.readAll(read)
        }.value
        #expect(writeAll(bytes, to: write))
        close(write)
        #expect(await got == bytes)
        close(read)
    }

    /// Writing never waits for the reader; what did not fit is counted where it is missing, and nothing else is lost.
    @Test func aReaderThatPauses() {
        let (read, write) = pipe()
        let queue = OutputQueue(write, capacity: 200_000)
        let line = String(repeating: "x", count: 99) + "\n"
        for _ in 0..<10_000 { queue.write(line) }
        #expect(!queue.isEmpty && !queue.flush(within: 0.01))
        let reader = Thread { [queue] in
            queue.flush()
            queue.write("the end\n")
            queue.flush()
            close(write)
        }
        reader.start()
        let lines = String(decoding: readAll(read), as: UTF8.self).split(separator: "\n")
        let notices = lines.filter { $0.hasPrefix("[") }
        #expect(!notices.isEmpty && lines.last == "the end")
        let omitted = notices.reduce(0) { $0 + (Int($1.drop { !$0.isNumber }.prefix { $0.isNumber }) ?? 0) }
        #expect(lines.filter { $0.count == 99 }.count + omitted == 10_000 && omitted > 5_000)
        #expect(queue.isEmpty)
        close(read)
    }

    /// A single write that found no room is told of at the end, where no later one could tell.
    @Test func oneWriteLeftOut() {
        let (read, write) = pipe()
        let queue = OutputQueue(write, capacity: 100)
        // More than a pipe holds, so that it waits until somebody reads.
        queue.write(String(repeating: "x", count: 200_000) + "\n")
        queue.write("lost\n")
        let closer = Thread { [queue] in
            queue.flush()
            close(write)
        }
        closer.start()
        let text = String(decoding: readAll(read), as: UTF8.self)
        #expect(text.hasSuffix("x\n[1 write was left out while nobody read this]\n"), "\(text.suffix(80))")
        close(read)
    }

    @Test func aReaderThatGoes() {
        let (read, write) = pipe()
        _ = signal(SIGPIPE, SIG_IGN)
        close(read)
        let queue = OutputQueue(write)
        for _ in 0..<100 { queue.write("nobody hears\n") }
        #expect(queue.flush(within: 10) && queue.isEmpty)
        #expect(!writeAll([1], to: write))
        close(write)
    }
}
