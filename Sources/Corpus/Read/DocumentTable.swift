import Base

/// What a document is for.
package enum Split: String, Sendable, CaseIterable {
    case train, valid, test
}

/// One row of a `docs.tsv`: `length` bytes at `offset` of the text beside it.
package struct TableRow: Equatable, Sendable {
    package var range: Range<Int>
    package var split: Split
    package var name: String
}

/// The rows of the document table in `table`, checked against the text that it describes: rows are
/// contiguous, not empty, cover the text exactly and never cut a character.
///
/// The format is tab-separated with the header `offset length split path` (`title` is as good as `path`).
package func documentTable(_ table: Span<UInt8>, path: String,
                           text: Span<UInt8>, textPath: String) throws(BadInput) -> [TableRow] {
    var rows: [TableRow] = []
    var lineNumber = 0, begin = markLength(table), offset = 0
    while begin < table.count {
        var end = begin
        while end < table.count, table[end] != UInt8(ascii: "\n") { end += 1 }
        lineNumber += 1
        let fields = fields(of: table.extracting(begin..<end))
        begin = end + 1
        if lineNumber == 1 {
            guard fields.prefix(3) == ["offset", "length", "split"], fields.count == 4 else {
                throw BadInput("\(path) line 1: expected the header `offset length split path`, "
                    + "tab-separated")
            }
            continue
        }
        let row = try tableRow(fields, at: offset, where: "\(path) line \(lineNumber)")
        offset = row.range.upperBound
        guard offset <= text.count else {
            throw BadInput("\(path) line \(lineNumber): the document ends at byte \(offset), but "
                + "\(textPath) has \(text.count) bytes")
        }
        if row.range.lowerBound < text.count, text[row.range.lowerBound] & 0xC0 == 0x80 {
            throw BadInput("\(path) line \(lineNumber): byte \(row.range.lowerBound) of \(textPath) is "
                + "within a character")
        }
        rows.append(row)
    }
    guard offset == text.count else {
        throw BadInput("\(path) line \(lineNumber): the last document ends at byte \(offset), but "
            + "\(textPath) has \(text.count) bytes")
    }
    return rows
}

private func tableRow(_ fields: [String], at offset: Int, where line: String) throws(BadInput) -> TableRow {
    guard fields.count == 4, let start = Int(fields[0]), let length = Int(fields[1]) else {
        throw BadInput("\(line): expected `offset length split path`, tab-separated")
    }
    guard start == offset else {
        throw BadInput("\(line): offset \(start), but the previous document ends at \(offset)")
    }
    guard length > 0 else { throw BadInput("\(line): an empty document (length \(length))") }
    guard let split = Split(rawValue: fields[2]) else {
        throw BadInput("\(line): split `\(fields[2])` is none of train, valid, test")
    }
    let (end, overflow) = start.addingReportingOverflow(length)
    guard !overflow else { throw BadInput("\(line): length \(length) is out of range") }
    return TableRow(range: start..<end, split: split, name: fields[3])
}

/// The tab-separated fields of one line; a carriage return at its end is not part of the last one.
private func fields(of line: Span<UInt8>) -> [String] {
    var bytes = [UInt8](capacity: line.count) { output in
        for index in line.indices { output.append(line[index]) }
    }
    if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
    return bytes.split(separator: UInt8(ascii: "\t"), omittingEmptySubsequences: false)
        .map { String(decoding: $0, as: UTF8.self) }
}
