/// Cuts a rank's output into whole lines, so that lines of several ranks never run into each other.
package struct LineBuffer {
    private var rest: [UInt8] = []

    /// A line longer than this is cut, so that output without line ends cannot fill the memory.
    package static let longestLine = 65_536

    package init() {}

    /// Takes what was read; gives the lines that it completes, without their ends.
    package mutating func take(_ bytes: some Collection<UInt8>) -> [[UInt8]] {
        var lines: [[UInt8]] = []
        for byte in bytes {
            let isEnd = byte == UInt8(ascii: "\n")
            if !isEnd { rest.append(byte) }
            if isEnd || rest.count == LineBuffer.longestLine {
                lines.append(rest)
                rest = []
            }
        }
        return lines
    }

    /// The end of the output: a last line without its end, if there is one.
    package mutating func finish() -> [[UInt8]] {
        defer { rest = [] }
        return rest.isEmpty ? [] : [rest]
    }
}

/// The line in which a rank says why it failed: the last that begins with "skein: " and is no warning, else the
/// last that is not blank.
package struct LastError {
    private var said = ""
    private var any = ""

    package init() {}

    package var text: String { said.isEmpty ? any : said }

    /// line: without prefix and line end.
    package mutating func see(_ line: String) {
        guard line.contains(where: { !$0.isWhitespace }) else { return }
        any = line
        if line.hasPrefix("skein: "), !line.hasPrefix("skein: warning: ") {
            said = String(line.dropFirst("skein: ".count))
        }
    }
}
