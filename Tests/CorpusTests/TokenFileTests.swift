import Base
import Corpus
import Testing

@Suite struct TokenFileTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private let documents: [[UInt8]] = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]

    private func write<T: FixedWidthInteger>(_ name: String, _ tokens: [T],
                                             header: [Int32] = []) throws -> String {
        var file = ByteWriter()
        for value in header + (header.isEmpty ? [] : Array(repeating: 0, count: 256 - header.count)) {
            file.append(value)
        }
        for token in tokens { file.append(token) }
        return try folder.write(name, file.bytes)
    }

    private func writeIndex(_ name: String, lengths: [Int32], width: Int, bounds: [Int64],
                            type: UInt8) throws -> String {
        var file = ByteWriter()
        file.append(bytes: Array("MMIDIDX\0\0".utf8))
        file.append(UInt64(1))
        file.append(type)
        file.append(UInt64(lengths.count))
        file.append(UInt64(bounds.count))
        for length in lengths { file.append(length) }
        var offset: Int64 = 0
        for length in lengths {
            file.append(offset)
            offset += Int64(width) * Int64(length)
        }
        for bound in bounds { file.append(bound) }
        return try folder.write(name, file.bytes)
    }

    /// The tokens of each document of `source`.
    private func read(_ source: String) throws -> [[UInt8]] {
        let data = try SourceDocuments([source], tokenizer: ByteTokenizer())
        #expect(data.tokenFiles.count == 1 && data.text.isEmpty)
        let places = data.documents.map {
            TokenStream.Document(storage: 0, offset: $0.range.lowerBound, count: $0.range.count)
        }
        let stream = TokenStream(places, storage: [.file(data.tokenFiles[0])], endOfDocument: 256)
        var tokens = [Int32](repeating: -1, count: stream.length + 1)
        stream.copy(0..<(stream.length + 1), into: &tokens, at: 0)
        #expect(tokens.first == 256 && tokens.last == 256)
        return tokens.split(separator: 256).map { $0.map { UInt8($0) } }
    }

    @Test func theFourFormatsHoldTheSameDocuments() throws {
        let appended = documents.flatMap { document -> [UInt16] in document.map { UInt16($0) } + [256] }
        let prefixed = documents.flatMap { document -> [UInt16] in [256] + document.map { UInt16($0) } }
        #expect(try read(write("nanogpt.bin", appended)) == documents)
        #expect(try read(write("llmc.bin", prefixed, header: [20_240_520, 1, Int32(prefixed.count)])) == documents)
        let wide = prefixed.map { UInt32($0) }
        #expect(try read(write("llama.bin", wide, header: [20_240_801, 7, Int32(wide.count)])) == documents)
        for (type, width) in [(UInt8(8), 2), (4, 4)] {
            // Sequences 0 and 1 are one document here; the last one ends in an end-of-document token.
            let flat = documents.joined().map { Int32($0) } + [256]
            let name = "m\(type).bin"
            let file = try type == 8 ? write(name, flat.map { UInt16($0) }) : write(name, flat)
            let index = try writeIndex("m\(type).idx", lengths: [3, 1, 5, 2, 4], width: width,
                                       bounds: [0, 2, 3, 4, 5], type: type)
            for source in [file, index] {
                #expect(try read(source) == [[1, 2, 3, 4]] + documents[2...])
            }
        }
    }

    @Test func aFolderOfTokenFilesIsSplitByName() throws {
        try folder.write("t/README.md", "about")
        _ = try write("t/train.bin", [UInt16(1), 2, 3, 256, 4])
        _ = try write("t/val.bin", [UInt16(5), 256, 6, 7])
        let corpus = try Corpus(CorpusOptions(sources: [folder.path + "/t"], sequence: 2, seed: 0),
                                tokenizer: ByteTokenizer())
        #expect(corpus.trainTokenCount == 6 && corpus.validationTokenCount == 5)
        #expect(corpus.validationByteCount == 3)
        let batch = Batch(rows: 3, sequence: 2)
        corpus.fillValidation(batch, rows: 0..<3)
        #expect(batch.inputs == [256, 5, 256, 6, 7, 256] && batch.targets == [5, 256, 6, 7, 256, -1])
    }

    /// Texts and token files together, one long document cut at nine tenths.
    @Test func aSingleTokenDocumentIsCut() throws {
        let path = try write("one.bin", (0..<100).map { UInt16($0) })
        let options = CorpusOptions(sources: [path], sequence: 8, seed: 0)
        let corpus = try Corpus(options, tokenizer: ByteTokenizer())
        #expect(corpus.trainTokenCount == 91 && corpus.validationTokenCount == 11)
        let text = try folder.write("a.txt", "text")
        let two = CorpusOptions(sources: [text, path], sequence: 4, seed: 0)
        let both = try Corpus(two, tokenizer: ByteTokenizer())
        #expect(both.trainTokenCount + both.validationTokenCount == 106)
    }

    @Test func brokenFilesAreNamed() throws {
        func message(_ path: String) -> String? {
            complaint { _ = try SourceDocuments([path], tokenizer: ByteTokenizer()) }
        }
        let short = try write("short.bin", [UInt16(1), 2], header: [20_240_520, 1, 3])
        #expect(message(short) == "\(short): its header says 3 tokens, which take 1030 bytes, but it has 1028 "
            + "bytes; copy it again")
        let odd = try folder.write("odd.bin", [1, 0, 2])
        #expect(message(odd) == "\(odd): 3 bytes are no whole number of 2-byte tokens; copy it again")
        let none = try folder.write("none.bin", "")
        #expect(message(none) == "\(none) holds no tokens: there is nothing to train on")
        let ends = try write("ends.bin", [UInt16(256), 256])
        #expect(message(ends) == "\(ends) holds nothing but end-of-document tokens")
        let foreign = try write("foreign.bin", [UInt16(1), 257])
        #expect(message(foreign) == "\(foreign): token 1 is 257, outside the tokenizer's vocabulary of 257; "
            + "it was made with another tokenizer")
        #expect(complaint { _ = try SourceDocuments([foreign]) }
            == "\(foreign) holds tokens, but a tokenizer learns from text; name text files")

        let good = try write("good.bin", [UInt16(1), 2, 3])
        let cases: [(lengths: [Int32], bounds: [Int64], type: UInt8, text: String)] = [
            ([3, 1], [0, 1, 2], 8, "sequence 1 at byte 6 does not fit \(good), which has 6 bytes"),
            ([3], [0, 2], 8, "document 0 has no valid bounds"),
            ([3], [1, 0], 8, "document 0 has no valid bounds"),
            ([3], [0, 1], 7, "tokens of type 7; 4 (int32) and 8 (uint16) are supported"),
        ]
        for (lengths, bounds, type, text) in cases {
            let index = try writeIndex("good.idx", lengths: lengths, width: 2, bounds: bounds, type: type)
            #expect(message(good) == "\(index): \(text)")
        }
        let index = try folder.write("good.idx", "not an index")
        #expect(message(good) == "\(index) is not a Megatron index of version 1")
        var cut = ByteWriter()
        cut.append(bytes: Array("MMIDIDX\0\0".utf8))
        cut.append(UInt64(1))
        cut.append(UInt8(8))
        cut.append(UInt64.max)
        cut.append(UInt64(2))
        try folder.write("good.idx", cut.bytes)
        #expect(message(good) == "\(index): its header does not fit its 34 bytes; copy it again")
    }
}
