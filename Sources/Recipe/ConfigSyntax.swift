import Base

/// What the TOML library takes for granted of a document, and ends the process over where it does not hold: the first
/// bytes of a table's header, and that its text has no control characters. Looked at before the library sees it.
///
/// - Throws: `BadInput` with file and line.
func checkSyntax(_ text: String, path: String) throws(BadInput) {
    let scan = Scan(text)
    if let line = scan.strayBrace {
        throw BadInput("\(path):\(line): not valid TOML: a } that closes nothing; take it out")
    }
    for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
        let place = "\(path):\(number + 1)"
        let isControl: (Unicode.Scalar) -> Bool = { ($0.value < 0x20 && $0 != "\t" && $0 != "\r") || $0.value == 0x7F }
        if let control = line.unicodeScalars.first(where: isControl) {
            throw BadInput("\(place): not valid TOML: a control character (\(String(control.value, radix: 16)) in "
                + "hexadecimal); take it out")
        }
        let trimmed = line.drop { $0 == " " || $0 == "\t" }
        // A text over several lines may hold anything.
        guard trimmed.first == "[", !scan.linesInTexts.contains(number + 1) else { continue }
        guard trimmed.wholeMatch(of: /\[[ \t]*[A-Za-z0-9_\-]+([ \t]*\.[ \t]*[A-Za-z0-9_\-]+)*[ \t]*\][ \t]*\r?(#.*)?/)
            != nil else {
            throw BadInput("\(place): not valid TOML: a line that begins with [ must be a section, "
                + "like [training]")
        }
    }
}

/// What a walk through texts and comments, quote by quote, finds. Lines are counted from 1.
private struct Scan {
    /// The first } outside of texts and comments that closes no {. Where a list's next value should be, the library
    /// takes for granted that there is none, and ends the process.
    private(set) var strayBrace: Int?
    /// Lines that begin within a text.
    private(set) var linesInTexts: Set<Int> = []

    init(_ text: String) { strayBrace = Self.walk(text, &linesInTexts) }

    private static func walk(_ text: String, _ linesInTexts: inout Set<Int>) -> Int? {
        let bytes = Array(text.utf8)
        let quote = UInt8(ascii: "\""), tick = UInt8(ascii: "'"), feed = UInt8(ascii: "\n")
        var line = 1, place = 0
        /// The text that `place` is in: its quote, and how many of them end it.
        var open: (mark: UInt8, count: Int)?
        /// The brackets and braces that it is in.
        var stack: [UInt8] = []
        func isMark(_ mark: UInt8, _ count: Int) -> Bool {
            place + count <= bytes.count && bytes[place..<(place + count)].allSatisfy { $0 == mark }
        }
        while place < bytes.count {
            let byte = bytes[place]
            if byte == feed { line += 1 }
            if byte == feed, open?.count == 3 { linesInTexts.insert(line) }
            if let (mark, count) = open {
                if byte == feed, count == 1 { open = nil }
                if mark == quote, byte == UInt8(ascii: "\\") {
                    place += 1
                    if place < bytes.count, bytes[place] == feed {
                        line += 1
                        if count == 3 { linesInTexts.insert(line) }
                    }
                } else if isMark(mark, count) {
                    open = nil
                    place += count - 1
                }
            } else if byte == quote || byte == tick {
                let count = isMark(byte, 3) ? 3 : 1
                open = (byte, count)
                place += count - 1
            } else if byte == UInt8(ascii: "#") {
                while place + 1 < bytes.count, bytes[place + 1] != feed { place += 1 }
            } else if byte == UInt8(ascii: "{") || byte == UInt8(ascii: "[") {
                stack.append(byte)
            } else if byte == UInt8(ascii: "]"), stack.last == UInt8(ascii: "[") {
                stack.removeLast()
            } else if byte == UInt8(ascii: "}"), stack.popLast() != UInt8(ascii: "{") {
                return line
            }
            place += 1
        }
        return nil
    }
}
