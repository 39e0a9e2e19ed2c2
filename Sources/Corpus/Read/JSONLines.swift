import Base

/// Appends the `text` of each line of `lines`, a JSON object a line, to `output` and returns the lines'
/// numbers with their ranges in it. Blank lines are passed over. The lines are valid UTF-8.
///
/// Written by hand because a line may be a gigabyte, and because nothing but one string is wanted.
package func appendJSONLines(
    _ lines: Span<UInt8>, path: String, to output: inout [UInt8]
) throws(BadInput) -> [(number: Int, range: Range<Int>)] {
    var documents: [(Int, Range<Int>)] = []
    var number = 0, begin = 0
    while begin < lines.count {
        var end = begin
        while end < lines.count, lines[end] != UInt8(ascii: "\n") { end += 1 }
        number += 1
        let line = lines.extracting(begin..<end)
        let first = output.count
        var position = skipSpace(line, 0)
        if position < line.count {
            guard appendText(line, from: &position, to: &output) else {
                throw BadInput("\(path) line \(number), byte \(begin + position): expected a JSON object "
                    + "with a string `text`")
            }
            guard output.count > first else {
                throw BadInput("\(path) line \(number), byte \(begin): an empty document")
            }
            documents.append((number, first..<output.count))
        }
        begin = end + 1
    }
    return documents
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
