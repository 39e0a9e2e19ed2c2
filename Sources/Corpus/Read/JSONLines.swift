import Base

/// Takes the `text` of each line, a JSON object a line, from a stream that comes in parts of any size. Blank lines
/// are passed over; a line without text, or with an empty one, is an error, because a document that the data names
/// must not go missing silently.
///
/// Written by hand because a file may be larger than memory, and because nothing but one string is wanted.
package struct JSONLineReader {
    package typealias Body = (_ number: Int, _ text: Span<UInt8>) throws(BadInput) -> Void

    private let path: String
    /// The most bytes of a line.
    private let longest: Int
    /// Lines read, and the bytes before the one that is now read.
    private var number = 0
    private var offset = 0
    /// The begin of a line that goes on in the next part.
    private var pending: [UInt8] = []
    private var text: [UInt8] = []
    /// Whether there was anything beside line ends and a byte order mark.
    package private(set) var hasBytes = false

    /// Nothing has been taken yet but blank lines.
    package var isAtItsFirstLine: Bool { number <= 1 }

    package init(path: String, longest: Int) {
        self.path = path
        self.longest = longest
    }

    /// Hands the text of each line that ends in `part` to `body`.
    package mutating func read(_ part: Span<UInt8>, _ body: Body) throws(BadInput) {
        var begin = 0
        while begin < part.count {
            let (room, overflow) = begin.addingReportingOverflow(longest - pending.count + 1)
            let stop = overflow ? part.count : min(part.count, room)
            var end = begin
            while end < stop, part[end] != UInt8(ascii: "\n") { end += 1 }
            guard pending.count + end - begin <= longest else {
                throw BadInput("\(path) line \(number + 1), byte \(offset): the line is longer than "
                    + "\(Units.bytes(longest)), the most for one document; cut the document into several")
            }
            let rest = part.extracting(begin..<end)
            if end == part.count || !pending.isEmpty {
                unsafe rest.withUnsafeBufferPointer { unsafe pending.append(contentsOf: $0) }
            }
            if end == part.count { return }
            if pending.isEmpty { try take(rest, body) } else { try takePending(body) }
            begin = end + 1
        }
    }

    /// To be called after the last part: its last line need not end in a newline.
    package mutating func finish(_ body: Body) throws(BadInput) {
        if !pending.isEmpty { try takePending(body) }
    }

    private mutating func takePending(_ body: Body) throws(BadInput) {
        var line: [UInt8] = []
        swap(&line, &pending)
        try take(line.span, body)
        line.removeAll(keepingCapacity: true)
        swap(&line, &pending)
    }

    private mutating func take(_ line: Span<UInt8>, _ body: Body) throws(BadInput) {
        number += 1
        if number == 1, markLength(line) > 0 { offset += 3 }
        let line = number == 1 ? line.extracting(markLength(line)...) : line
        if line.count > 0 { hasBytes = true }
        if let place = firstInvalidByte(line) {
            throw BadInput("\(path) is not UTF-8 text: line \(number), byte \(offset + place) begins no valid "
                + "character")
        }
        var position = skipSpace(line, 0)
        if position < line.count {
            text.removeAll(keepingCapacity: true)
            guard appendText(line, from: &position, to: &text) else {
                throw BadInput("\(path) line \(number), byte \(offset + position): expected a JSON object "
                    + "with a string `text`")
            }
            guard !text.isEmpty else {
                throw BadInput("\(path) line \(number), byte \(offset): an empty document")
            }
            try body(number, text.span)
        }
        offset += line.count + 1
    }
}

/// Reads the object at `position` up to its end. False, with `position` where it went wrong, when it is no
/// object or its `text` is missing, no string, or there twice.
private func appendText(_ line: Span<UInt8>, from position: inout Int, to output: inout [UInt8]) -> Bool {
    guard take(line, &position, "{") else { return false }
    var isFound = false, key: [UInt8] = []
    if !take(line, &position, "}") {
        repeat {
            key.removeAll(keepingCapacity: true)
            guard appendString(line, from: &position, to: &key), take(line, &position, ":") else {
                return false
            }
            if key == Array("text".utf8) {
                guard !isFound, appendString(line, from: &position, to: &output) else { return false }
                isFound = true
            } else if !skipValue(line, &position) {
                return false
            }
        } while take(line, &position, ",")
        guard take(line, &position, "}") else { return false }
    }
    return isFound && position == line.count
}

private func skipSpace(_ line: Span<UInt8>, _ start: Int) -> Int {
    var position = start
    while position < line.count, line[position] == 0x20 || line[position] == 0x09 || line[position] == 0x0D {
        position += 1
    }
    return position
}

/// Passes over `character` and the white space around it.
private func take(_ line: Span<UInt8>, _ position: inout Int, _ character: Unicode.Scalar) -> Bool {
    position = skipSpace(line, position)
    guard position < line.count, line[position] == UInt8(ascii: character) else { return false }
    position = skipSpace(line, position + 1)
    return true
}

/// Passes over any value: what matters is where it ends.
private func skipValue(_ line: Span<UInt8>, _ position: inout Int) -> Bool {
    var depth = 0, ignored: [UInt8] = []
    let start = position
    while position < line.count {
        switch line[position] {
        case UInt8(ascii: "\""):
            guard appendString(line, from: &position, to: &ignored) else { return false }
            ignored.removeAll(keepingCapacity: true)
            continue
        case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
        case UInt8(ascii: ","), UInt8(ascii: "}"), UInt8(ascii: "]"):
            if depth == 0 { return position > start }
            if line[position] != UInt8(ascii: ",") { depth -= 1 }
        default: break
        }
        position += 1
    }
    return false
}

/// Appends the string at `position`, its escapes resolved.
private func appendString(_ line: Span<UInt8>, from position: inout Int, to output: inout [UInt8]) -> Bool {
    guard position < line.count, line[position] == UInt8(ascii: "\"") else { return false }
    position += 1
    while position < line.count {
        let byte = line[position]
        position += 1
        switch byte {
        case UInt8(ascii: "\""): return true
        case UInt8(ascii: "\\"):
            guard appendEscape(line, from: &position, to: &output) else { return false }
        case 0..<0x20: return false
        default: output.append(byte)
        }
    }
    return false
}

private func appendEscape(_ line: Span<UInt8>, from position: inout Int, to output: inout [UInt8]) -> Bool {
    guard position < line.count else { return false }
    let letter = line[position]
    position += 1
    switch letter {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): output.append(letter)
    case UInt8(ascii: "b"): output.append(0x08)
    case UInt8(ascii: "f"): output.append(0x0C)
    case UInt8(ascii: "n"): output.append(0x0A)
    case UInt8(ascii: "r"): output.append(0x0D)
    case UInt8(ascii: "t"): output.append(0x09)
    case UInt8(ascii: "u"):
        guard var value = hexadecimal(line, &position) else { return false }
        // The two halves of a character beyond 16 bits; a half alone becomes U+FFFD.
        if value & 0xFC00 == 0xD800, position + 1 < line.count, line[position] == UInt8(ascii: "\\"),
           line[position + 1] == UInt8(ascii: "u") {
            var after = position + 2
            if let low = hexadecimal(line, &after), low & 0xFC00 == 0xDC00 {
                value = 0x1_0000 + (value & 0x3FF) << 10 + (low & 0x3FF)
                position = after
            }
        }
        output.append(contentsOf: String(Unicode.Scalar(value) ?? "\u{FFFD}").utf8)
    default: return false
    }
    return true
}

private func hexadecimal(_ line: Span<UInt8>, _ position: inout Int) -> UInt32? {
    guard position + 4 <= line.count else { return nil }
    var value: UInt32 = 0
    for index in position..<(position + 4) {
        guard let digit = Character(Unicode.Scalar(line[index])).hexDigitValue else { return nil }
        value = value << 4 | UInt32(digit)
    }
    position += 4
    return value
}
