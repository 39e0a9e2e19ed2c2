import Launch
import Testing

@Suite struct OutcomeTests {
    private func outcome(_ ending: Ending, ranks: Int = 4, lastError: String = "", requested: Int32? = nil,
                         memoryKills: Int = 0) -> Outcome {
        Outcome(rank: 3, of: ranks, ending: ending, lastError: lastError, requested: requested,
                memoryKills: memoryKills)
    }

    @Test func everyExitCode() {
        for code: Int32 in 1...255 {
            let found = outcome(.exit(code), lastError: "the disk is full")
            #expect(found == Outcome(code: code == 2 ? 2 : 1, line: "rank 3: the disk is full"))
            let silent = outcome(.exit(code))
            #expect(silent.line == "rank 3: ended with exit code \(code) and without a word")
        }
        // A job of one rank does not repeat what is on the screen.
        #expect(outcome(.exit(2), ranks: 1, lastError: "no such file") == Outcome(code: 2, line: nil))
        #expect(outcome(.exit(2), ranks: 1).line != nil)
    }

    @Test func everySignal() {
        for number: Int32 in 1...31 {
            let found = outcome(.signal(number), lastError: "something else")
            #expect(found.code == 1)
            #expect(found.line?.hasPrefix("rank 3 was killed by signal \(number) (") == true)
            let requested = outcome(.signal(number), requested: number)
            #expect(requested.line?.hasSuffix("on request, before it could save") == true)
            #expect(found.line == outcome(.signal(number), requested: 40).line)
        }
        #expect(outcome(.signal(9)).line == "rank 3 was killed by signal 9 (Killed)")
        for (count, words) in [(1, "killed 1 process for"), (2, "killed 2 processes for")] {
            let line = outcome(.signal(9), memoryKills: count).line
            #expect(line?.hasSuffix("; the kernel \(words) lack of memory") == true)
        }
        #expect(outcome(.signal(11), memoryKills: 2).line == outcome(.signal(11)).line)
    }

    /// Any way to cut the text into three reads gives the same lines.
    @Test func linesDoNotDependOnReads() {
        let text = Array("one\n\ntwo \u{1F426}\nthree\r\nfour".utf8)
        let lines = ["one", "", "two \u{1F426}", "three\r", "four"].map { Array($0.utf8) }
        for first in 0...text.count {
            for second in first...text.count {
                var buffer = LineBuffer()
                let found = [text[..<first], text[first..<second], text[second...]].flatMap { buffer.take($0) }
                #expect(found + buffer.finish() == lines)
                #expect(buffer.finish().isEmpty)
            }
        }
    }

    @Test func endlessLinesAreCut() {
        var buffer = LineBuffer()
        let length = LineBuffer.longestLine
        let lines = buffer.take([UInt8](repeating: 65, count: 2 * length + 5))
        #expect(lines.map(\.count) == [length, length] && buffer.finish().map(\.count) == [5])
    }

    @Test(arguments: [
        ([], ""), (["", "  "], ""), (["a", "b", ""], "b"), (["skein: full", "noise"], "full"),
        (["skein: warning: odd", "skein: full", "skein: warning: odd"], "full"),
        (["skein: warning: odd"], "skein: warning: odd"), (["skein: first", "skein: second"], "second"),
    ]) func theLineThatSaysWhy(_ lines: [String], _ text: String) {
        var last = LastError()
        for line in lines { last.see(line) }
        #expect(last.text == text)
    }
}
