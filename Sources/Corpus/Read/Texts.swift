import Base

/// All documents of the given sources: their bytes back to back in one buffer, unchanged.
package struct Texts {
    package struct Document {
        package var range: Range<Int>
        /// What the document's table says, if it has one.
        package var split: Split?
        /// CRC-32C of the document's name, which the split rule reads.
        package var hash: UInt32
    }

    package private(set) var bytes: [UInt8] = []
    package private(set) var documents: [Document] = []
    /// CRC-32C over each file's key, length and bytes.
    package private(set) var fingerprint: UInt32 = 0

    /// Reads `sources`: text files, folders, and texts with document tables.
    ///
    /// A file that the user named must be text in UTF-8 and not empty; in a folder, files that are not
    /// UTF-8, hold a zero byte or nothing at all are skipped.
    package init(sources: [String]) throws(BadInput) {
        guard !sources.isEmpty else { throw BadInput("no data: name a text file or a folder of texts") }
        for source in sources {
            let before = documents.count
            for file in try files(ofSource: source) { try append(file) }
            guard documents.count > before else {
                throw BadInput("no text in folder \(source): hidden files, build folders and files that are "
                    + "not UTF-8 were skipped")
            }
        }
    }

    private mutating func append(_ file: SourceFile) throws(BadInput) {
        let mapped = try MappedFile(file.path)
        let text = mapped.bytes
        if let error = textError(text, isNamed: file.named) {
            guard file.named else { return }
            throw BadInput("\(file.path) \(error)")
        }
        let base = bytes.count
        if let path = file.table {
            let table = try MappedFile(path)
            for row in try documentTable(table.bytes, path: path, text: text, textPath: file.path) {
                documents.append(Document(range: (base + row.range.lowerBound)..<(base + row.range.upperBound),
                                          split: row.split, hash: CRC32C.checksum(Array(row.name.utf8))))
            }
            // The splits are part of what the data is, so they are part of its name.
            fingerprint = checksum(table.bytes, from: fingerprint)
        } else {
            documents.append(Document(range: base..<(base + text.count), split: nil,
                                      hash: CRC32C.checksum(Array(file.key.utf8))))
        }
        fingerprint = CRC32C.checksum(Array(file.key.utf8), from: fingerprint)
        var length = ByteWriter(capacity: 8)
        length.append(UInt64(text.count))
        fingerprint = checksum(text, from: CRC32C.checksum(length.bytes, from: fingerprint))
        unsafe text.withUnsafeBufferPointer { unsafe bytes.append(contentsOf: $0) }
    }
}

package func checksum(_ bytes: Span<UInt8>, from crc: UInt32) -> UInt32 {
    unsafe bytes.withUnsafeBytes { unsafe CRC32C.checksum($0, from: crc) }
}

/// Why `text` cannot be used, as the end of a sentence that begins with its path; nil when it can.
private func textError(_ text: Span<UInt8>, isNamed: Bool) -> String? {
    if text.isEmpty { return "is empty: there is nothing to train on" }
    do {
        _ = try UTF8Span(validating: text)
    } catch {
        return "is not UTF-8 text: byte \(error.byteOffsets.lowerBound) begins no valid character"
    }
    // A zero byte is valid UTF-8 but a sure sign of a binary file.
    return !isNamed && contains(text, 0) ? "is binary" : nil
}

private func contains(_ text: Span<UInt8>, _ byte: UInt8) -> Bool {
    for index in text.indices where text[index] == byte { return true }
    return false
}
