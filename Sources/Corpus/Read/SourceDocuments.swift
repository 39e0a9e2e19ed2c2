import Base

/// All documents of the given sources, in their order: texts back to back in one buffer, unchanged, and token
/// files mapped.
package struct SourceDocuments {
    package struct Document {
        /// The token file that holds it; nil for text.
        package var file: Int?
        /// Bytes of `text`, or tokens of the file.
        package var range: Range<Int>
        /// What the document's table or file name says, if it says anything.
        package var split: Split?
        /// CRC-32C of the document's name, which the split rule reads.
        package var hash: UInt32
    }

    package private(set) var text: [UInt8] = []
    package private(set) var tokenFiles: [TokenFile] = []
    package private(set) var documents: [Document] = []
    /// CRC-32C over each file's key, length and bytes.
    package private(set) var fingerprint: UInt32 = 0
    private let tokenizer: (any Tokenizer)?

    /// Reads `sources`: see `files(ofSource:)` for what they may be.
    ///
    /// A file that the user named must be text in UTF-8 and not empty; in a folder, files that are not
    /// UTF-8, hold a zero byte or nothing at all are skipped. Token files must fit `tokenizer`; without
    /// one they are an error.
    package init(_ sources: [String], tokenizer: (any Tokenizer)? = nil) throws(BadInput) {
        guard !sources.isEmpty else { throw BadInput("no data: name a text file or a folder of texts") }
        self.tokenizer = tokenizer
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
        if file.kind == .tokens {
            try appendTokens(file, mapped)
        } else {
            if let error = textError(mapped.bytes, isNamed: file.isNamed) {
                guard file.isNamed else { return }
                throw BadInput("\(file.path) \(error)")
            }
            try appendText(file, mapped.bytes)
        }
        fingerprint = CRC32C.checksum(Array(file.key.utf8), from: fingerprint)
        var length = ByteWriter(capacity: 8)
        length.append(UInt64(mapped.count))
        fingerprint = checksum(mapped.bytes, from: CRC32C.checksum(length.bytes, from: fingerprint))
    }

    private mutating func appendText(_ file: SourceFile, _ bytes: Span<UInt8>) throws(BadInput) {
        let base = text.count
        if case .lines = file.kind {
            for (number, range) in try appendJSONLines(bytes, path: file.path, to: &text) {
                let hash = CRC32C.checksum(Array("\(file.key):\(number)".utf8))
                documents.append(Document(range: range, hash: hash))
            }
            return
        }
        if case .table(let path) = file.kind {
            let table = try MappedFile(path)
            for row in try documentTable(table.bytes, path: path, text: bytes, textPath: file.path) {
                let range = (base + row.range.lowerBound)..<(base + row.range.upperBound)
                let hash = CRC32C.checksum(Array(row.name.utf8))
                documents.append(Document(range: range, split: row.split, hash: hash))
            }
            // The splits are part of what the data is, so they are part of its fingerprint.
            fingerprint = checksum(table.bytes, from: fingerprint)
        } else {
            let hash = CRC32C.checksum(Array(file.key.utf8))
            documents.append(Document(range: base..<(base + bytes.count), hash: hash))
        }
        unsafe bytes.withUnsafeBufferPointer { unsafe text.append(contentsOf: $0) }
    }

    private mutating func appendTokens(_ file: SourceFile, _ mapped: MappedFile) throws(BadInput) {
        guard let tokenizer else {
            throw BadInput("\(file.path) holds tokens, but a tokenizer learns from text; name text files")
        }
        let tokens = try TokenFile(mapped)
        // "val" as nanoGPT and llm.c name their files.
        let name = baseName(file.path)
        let split: Split? = name.contains("val") ? .valid : name.contains("train") ? .train : nil
        for range in try tokens.documents(tokenizer) {
            let hash = CRC32C.checksum(Array("\(file.key):\(range.lowerBound)".utf8))
            documents.append(Document(file: tokenFiles.count, range: range, split: split, hash: hash))
        }
        tokenFiles.append(tokens)
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
