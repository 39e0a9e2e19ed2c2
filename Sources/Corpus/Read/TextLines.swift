import Base

/// The lines of a text file, for commands that take one thing a line: without a byte order mark, with either kind of
/// line end, and without the empty ones. Throws `BadInput`, naming the file, when there is none, or it is no UTF-8.
public func textLines(of path: String) throws(BadInput) -> [String] {
    let file = try MappedFile(path)
    let bytes = unsafe file.bytes.withUnsafeBufferPointer { unsafe Array($0) }
    guard let text = String(validating: withoutByteOrderMark(bytes), as: UTF8.self) else {
        throw BadInput("\(path) is not UTF-8; convert it (iconv -t UTF-8)")
    }
    let lines = text.split(whereSeparator: \.isNewline).map(String.init)
    guard !lines.isEmpty else { throw BadInput("\(path) has no line of text") }
    return lines
}
