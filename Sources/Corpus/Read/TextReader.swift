import Base
import Compression

/// What is known of a document beside its text.
package struct TextDocument: Equatable, Sendable {
    /// What the document's table says, if there is one.
    package var split: Split?
    /// CRC-32C of the document's name, which the split rule reads.
    package var hash: UInt32
}

/// How much is taken into memory for one document. Beyond that the file is refused, because nobody means a document
/// of that size: most likely a line end or a document table is missing.
package struct ReadLimits: Sendable {
    /// Bytes of one JSON line.
    package var line: Int
    /// Bytes that one compressed text decompresses to.
    package var text: Int

    package init(line: Int = 1 << 28, text: Int = 1 << 32) {
        self.line = line
        self.text = text
    }
}

/// Reads text files one document at a time, so that whoever need not keep the texts has one in memory and no more
/// (of a compressed text with a document table, all of it).
package struct TextReader {
    package typealias Body = (TextDocument, Span<UInt8>) throws(BadInput) -> Void

    /// Of all files read so far.
    package var fingerprint = SourceFingerprint()
    private let limits: ReadLimits

    package init(_ limits: ReadLimits = ReadLimits()) { self.limits = limits }

    /// What was passed over, and what is ambiguous in what was read.
    package private(set) var notes = ReadingNotes()

    /// Hands the documents of `file` to `body`, in their order. Throws `BadInput`, naming the file and the byte, for
    /// text that is not UTF-8 or not what its name says, and for what is beyond the limits. A file that was only
    /// found in a folder and is no text is passed over, with a note. A byte order mark is no text.
    package mutating func read(_ file: SourceFile, _ body: Body) throws(BadInput) {
        let mapped = try MappedFile(listed: file)
        let isUsed: Bool
        if file.kind == .lines {
            isUsed = try readLines(file, mapped, body)
        } else if file.isCompressed {
            let text = try decompressed(mapped, file)
            isUsed = try readText(file, text.span, body)
        } else {
            isUsed = try readText(file, mapped.bytes, body)
        }
        guard isUsed else { return }
        if !file.separator.isEmpty { fingerprint.add(file.separator.span) }
        fingerprint.add(file, mapped)
    }

    /// Hands on one text, cut at the file's separator, whose parts are documents of their own. What stands between two
    /// separators and is blank is none.
    private mutating func hand(_ text: Span<UInt8>, _ name: String, _ file: SourceFile,
                               _ body: Body) throws(BadInput) {
        guard !file.separator.isEmpty else {
            notes.look(at: text, file.path)
            return try body(TextDocument(hash: CRC32C.checksum(Array(name.utf8))), text)
        }
        var begin = 0, number = 0
        for end in occurrences(of: file.separator, in: text) + [text.count] {
            let part = text.extracting(begin..<end)
            begin = end + file.separator.count
            guard !isBlank(part) else { continue }
            let partName = number == 0 ? name : "\(name)#\(number)"
            number += 1
            try body(TextDocument(hash: CRC32C.checksum(Array(partName.utf8))), part)
        }
    }

    /// False when the file is passed over.
    private mutating func readLines(_ file: SourceFile, _ mapped: MappedFile,
                                    _ body: Body) throws(BadInput) -> Bool {
        var lines = JSONLineReader(path: file.path, longest: limits.line), isEmpty = true
        // A file of settings in a folder of data is seen by its first line.
        let isSure = file.isNamed
        func document(_ number: Int, _ text: Span<UInt8>) throws(BadInput) {
            isEmpty = false
            try hand(text, "\(file.key):\(number)", file, body)
        }
        do {
            if file.isCompressed {
                try decompress(mapped, file) { part throws(BadInput) in try lines.read(part, document) }
            } else {
                try lines.read(mapped.bytes, document)
            }
            try lines.finish(document)
        } catch {
            guard !isSure, isEmpty, lines.isAtItsFirstLine else { throw error }
            notes.add(.plainJSON, file.path)
            return false
        }
        guard lines.hasBytes else {
            guard !file.isGivenByName else { throw BadInput("\(file.path) is empty: there is nothing to train on") }
            notes.add(.empty, file.path)
            return false
        }
        return true
    }

    /// False when the file is passed over.
    private mutating func readText(_ file: SourceFile, _ bytes: Span<UInt8>, _ body: Body) throws(BadInput) -> Bool {
        if let problem = textProblem(bytes, isNamed: file.isNamed) {
            guard file.isNamed, problem.reason != .empty || file.isGivenByName else {
                notes.add(problem.reason, file.path)
                return false
            }
            throw BadInput("\(file.path) \(problem.text)")
        }
        guard case .table(let path) = file.kind else {
            try hand(bytes.extracting(markLength(bytes)...), file.key, file, body)
            return true
        }
        let table = try MappedFile(path)
        for row in try documentTable(table.bytes, path: path, text: bytes, textPath: file.path) {
            let document = TextDocument(split: row.split, hash: CRC32C.checksum(Array(row.name.utf8)))
            let text = bytes.extracting(row.range)
            try body(document, text.extracting(markLength(text)...))
        }
        // The splits are part of what the data is, so they are part of its fingerprint.
        fingerprint.add(table.bytes)
        return true
    }

    private func decompressed(_ mapped: MappedFile, _ file: SourceFile) throws(BadInput) -> [UInt8] {
        var text: [UInt8] = []
        try decompress(mapped, file) { part throws(BadInput) in
            guard part.count <= limits.text - text.count else {
                throw BadInput("\(mapped.path) decompresses to more than \(Units.bytes(limits.text)), too much for one "
                    + "text; make it .jsonl.zst, with a document on each line")
            }
            unsafe part.withUnsafeBufferPointer { unsafe text.append(contentsOf: $0) }
        }
        return text
    }

    private func decompress(_ mapped: MappedFile, _ file: SourceFile,
                            _ body: (Span<UInt8>) throws(BadInput) -> Void) throws(BadInput) {
        let stream: any Decompressor = file.compression == .gzip ? GzipDecompressor() : ZstdDecompressor()
        var position = 0, part: [UInt8] = []
        func next() throws(BadInput) -> Bool {
            do {
                if try stream.next(mapped.bytes, &position, into: &part) { return true }
                try stream.finish()
                return false
            } catch {
                throw BadInput("\(mapped.path): \(error)")
            }
        }
        while try next() {
            try body(part.span)
            part.removeAll(keepingCapacity: true)
        }
    }
}

/// CRC-32C over each file's key, length and bytes, and over document tables: equal for equal data, wherever it lies.
package struct SourceFingerprint: Equatable, Sendable {
    package private(set) var value: UInt32 = 0

    package mutating func add(_ bytes: Span<UInt8>) { value = checksum(bytes, from: value) }

    package mutating func add(_ file: SourceFile, _ mapped: MappedFile) {
        value = CRC32C.checksum(Array(file.key.utf8), from: value)
        var length = ByteWriter(capacity: 8)
        length.append(UInt64(mapped.count))
        value = CRC32C.checksum(length.bytes, from: value)
        add(mapped.bytes)
    }

    /// Prepared data count as the sources that they were made of, so that a run may go on with either.
    package mutating func add(prepared fingerprint: UInt32) {
        var bytes = ByteWriter(capacity: 4)
        bytes.append(fingerprint)
        value = value == 0 ? fingerprint : CRC32C.checksum(bytes.bytes, from: value)
    }
}

extension MappedFile {
    /// Maps a file that a listing has found.
    package convenience init(listed file: SourceFile) throws(BadInput) {
        do {
            try self.init(file.path)
        } catch {
            guard isGone(file.path) else { throw error }
            throw BadInput("\(file.path) was there when the data was listed, and is gone; leave the data alone while "
                + "it is read, then start again")
        }
    }
}

package func checksum(_ bytes: Span<UInt8>, from crc: UInt32) -> UInt32 {
    unsafe bytes.withUnsafeBytes { unsafe CRC32C.checksum($0, from: crc) }
}

/// Why `text` cannot be used: for a note, and as the end of a sentence that begins with its path. Nil when it can.
private func textProblem(_ text: Span<UInt8>, isNamed: Bool) -> (reason: ReadingNotes.Reason, text: String)? {
    if text.count <= markLength(text) { return (.empty, "is empty: there is nothing to train on") }
    if text.count > 1, (text[0], text[1]) == (0xFF, 0xFE) || (text[0], text[1]) == (0xFE, 0xFF) {
        return (.utf16, "is in UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
    }
    if let place = firstInvalidByte(text) {
        // Text has no zero bytes, and programs and pictures have them early.
        return (contains(text, 0) ? .binary : .notUTF8,
                "is not UTF-8 text: byte \(place) begins no valid character; if it is Latin-1, convert it: "
                    + "iconv -f ISO-8859-1 -t UTF-8")
    }
    // A zero byte is valid UTF-8 but a sure sign of a binary file.
    return !isNamed && contains(text, 0) ? (.binary, "is binary") : nil
}

/// Bytes of the byte order mark that some editors put before UTF-8: 3, or 0.
func markLength(_ text: Span<UInt8>) -> Int {
    text.count >= 3 && text[0] == 0xEF && text[1] == 0xBB && text[2] == 0xBF ? 3 : 0
}

private func isBlank(_ text: Span<UInt8>) -> Bool {
    for index in text.indices where ![0x20, 0x09, 0x0A, 0x0D].contains(text[index]) { return false }
    return true
}

/// Where `text` stops being UTF-8; nil when all of it is.
func firstInvalidByte(_ text: Span<UInt8>) -> Int? {
    do {
        _ = try UTF8Span(validating: text)
        return nil
    } catch {
        return error.byteOffsets.lowerBound
    }
}

private func contains(_ text: Span<UInt8>, _ byte: UInt8) -> Bool {
    for index in text.indices where text[index] == byte { return true }
    return false
}
