import Glibc
import Telemetry

/// What a terminal of any width shows after these bytes: carriage return, erase to the end of the line, line
/// feed, colours. A line that is too long would wrap and is counted as an error.
struct Screen {
    private(set) var lines: [[Character]] = [[]]
    private(set) var column = 0
    private(set) var wrapped = 0
    let columns: Int

    init(_ text: String, columns: Int = .max) {
        self.columns = columns
        var rest = Substring(text)
        while let character = rest.popFirst() {
            switch character {
            case "\r": column = 0
            case "\n": newLine()
            case "\r\n":
                // Swift sees the pair as one character.
                newLine()
            case "\u{1B}":
                let end = rest.firstIndex { $0.isLetter }!
                if rest[end] == "K" { lines[lines.count - 1].removeSubrange(column...) }
                rest = rest[rest.index(after: end)...]
            default: put(character)
            }
        }
    }

    private mutating func newLine() {
        lines.append([])
        column = 0
    }

    private mutating func put(_ character: Character) {
        if column == columns - 1 { wrapped += 1 }
        if column < lines.last!.count {
            lines[lines.count - 1][column] = character
        } else {
            lines[lines.count - 1].append(character)
        }
        column += 1
    }

    var text: [String] { lines.map { String($0) } }
}

/// What `body` writes to the descriptor that it is given.
func written(_ body: (Int32) -> Void) -> String {
    var name = Array("/tmp/skein-screen-XXXXXX".utf8CString)
    let descriptor = unsafe mkstemp(&name)
    precondition(descriptor >= 0)
    _ = unsafe unlink(name)
    defer { close(descriptor) }
    body(descriptor)
    var bytes = [UInt8](repeating: 0, count: Int(lseek(descriptor, 0, SEEK_END)))
    let count = unsafe bytes.withUnsafeMutableBytes { unsafe pread(descriptor, $0.baseAddress, $0.count, 0) }
    precondition(count == bytes.count)
    return String(decoding: bytes, as: UTF8.self)
}

extension StepReport {
    /// A step in the middle of a run.
    static func example(_ step: Int = 840, of total: Int = 2000) -> StepReport {
        StepReport(step: step, totalSteps: total, loss: 2.31449, bitsPerByte: 1.6724, gradientNorm: 0.9123,
                   learningRate: 3e-4, tokensPerSecond: 12_345, gflops: 61.23, mfu: 0.3141, eta: 245.4,
                   tokens: 840 * 4096, seconds: 0.3318)
    }
}
