import Base

/// A file of token ids, mapped: llm.c's `.bin` (header of 256 int32, then uint16 or uint32), Megatron's
/// `.bin` with its `.idx`, or nanoGPT's `.bin` (uint16 and nothing else). All are little-endian.
package final class TokenFile {
    package let path: String
    /// Tokens in the file.
    package let count: Int
    /// Whether a token takes 4 bytes; otherwise 2.
    package let isWide: Bool
    private let file: MappedFile
    /// Where the tokens begin.
    private let begin: Int
    /// Documents as the index gives them; one range of everything where there is none.
    private let bounds: [Range<Int>]
    /// Ids are below this. `documents` looks at every token at the begin; where an index makes that needless,
    /// tokens are checked when they are copied.
    private let vocabularySize: UInt32
    /// The first token that was copied and is none, with its value; it was given out as token 0.
    package private(set) var damage: (index: Int, value: UInt32)?

    package init(_ file: MappedFile, vocabularySize: Int = 1 << 32 - 1) throws(BadInput) {
        self.file = file
        self.vocabularySize = UInt32(vocabularySize)
        path = file.path
        let indexPath = path.hasSuffix(".bin") ? path.dropLast(4) + ".idx" : path + ".idx"
        let magic = file.count >= 1024 ? file.integer(UInt32.self, at: 0) : 0
        if isFile(indexPath) {
            let index = try MegatronIndex(indexPath, tokens: file)
            (isWide, begin, bounds) = (index.isWide, 0, index.documents)
            count = file.count / (isWide ? 4 : 2)
        } else if magic == 20_240_520 || magic == 20_240_801 {
            isWide = magic == 20_240_801
            begin = 1024
            count = Int(file.integer(UInt32.self, at: 8))
            bounds = [0..<count]
            let expected = 1024 + count * (isWide ? 4 : 2)
            guard file.count == expected else {
                throw BadInput("\(path): its header says \(count) tokens, which take \(expected) bytes, but "
                    + "it has \(file.count) bytes; copy it again")
            }
        } else {
            (isWide, begin, count, bounds) = (false, 0, file.count / 2, [0..<(file.count / 2)])
            guard file.count % 2 == 0 else {
                throw BadInput("\(path): \(file.count) bytes are no whole number of 2-byte tokens; "
                    + "copy it again")
            }
        }
        guard count > 0 else { throw BadInput("\(path) holds no tokens: there is nothing to train on") }
    }

    /// The ranges of tokens between end-of-document tokens, wherever those stand: nanoGPT puts one after each
    /// document, llm.c one before, Megatron either way or none but knows the bounds. Reads the whole file,
    /// and so finds ids outside the vocabulary too.
    package func documents(_ tokenizer: any Tokenizer) throws(BadInput) -> [Range<Int>] {
        let end = UInt32(tokenizer.endOfDocument), size = UInt32(tokenizer.vocabularySize)
        let file = file, bytes = file.raw
        var result: [Range<Int>] = []
        for bound in bounds {
            var first = bound.lowerBound
            for index in bound {
                let token = Self.token(bytes, at: begin, index, isWide)
                guard token < size else {
                    throw BadInput("\(path): token \(index) is \(token), outside the tokenizer's "
                        + "vocabulary of \(size); it was made with another tokenizer")
                }
                guard token == end else { continue }
                if first < index { result.append(first..<index) }
                first = index + 1
            }
            if first < bound.upperBound { result.append(first..<bound.upperBound) }
        }
        guard !result.isEmpty else { throw BadInput("\(path) holds nothing but end-of-document tokens") }
        return result
    }

    /// Writes the tokens at `range` to `output`, from its element `start` on.
    func copy(_ range: Range<Int>, into output: inout [Int32], at start: Int) {
        precondition(range.upperBound <= count, "tokens outside the file")
        let file = file, bytes = file.raw
        var highest: UInt32 = 0
        for (offset, index) in range.enumerated() {
            let token = Self.token(bytes, at: begin, index, isWide)
            highest = max(highest, token)
            output[start + offset] = Int32(truncatingIfNeeded: token)
        }
        if highest >= vocabularySize { note(range, &output, start) }
    }

    /// Nothing outside the vocabulary may reach a model, whose tables end there.
    private func note(_ range: Range<Int>, _ output: inout [Int32], _ start: Int) {
        let file = file, bytes = file.raw
        for (offset, index) in range.enumerated() {
            let token = Self.token(bytes, at: begin, index, isWide)
            guard token >= vocabularySize else { continue }
            if damage == nil { damage = (index, token) }
            output[start + offset] = 0
        }
    }

    /// Where in the file a token is.
    func offset(of token: Int) -> Int { begin + token * (isWide ? 4 : 2) }

    /// Bytes of text that the tokens at `range` stand for.
    package func byteCount(_ range: Range<Int>, _ tokenizer: any Tokenizer) -> Int {
        let file = file, bytes = file.raw
        var sum = 0
        for index in range { sum += tokenizer.byteCount(Int32(Self.token(bytes, at: begin, index, isWide))) }
        return sum
    }

    @inline(__always)
    private static func token(_ bytes: RawSpan, at begin: Int, _ index: Int, _ isWide: Bool) -> UInt32 {
        isWide ? unsafe bytes.unsafeLoadUnaligned(fromByteOffset: begin + 4 * index, as: UInt32.self)
            : unsafe UInt32(bytes.unsafeLoadUnaligned(fromByteOffset: begin + 2 * index, as: UInt16.self))
    }
}

/// Megatron's `.idx`: "MMIDIDX\0\0", u64 version 1, u8 type (4 int32, 8 uint16), u64 sequences, u64 bounds,
/// then int32 lengths, int64 byte offsets, and int64 bounds of documents in sequences (from 0 to all).
private struct MegatronIndex {
    var isWide: Bool
    var documents: [Range<Int>] = []

    init(_ path: String, tokens: MappedFile) throws(BadInput) {
        let file = try MappedFile(path)
        guard file.count >= 34, (0..<9).allSatisfy({ file.bytes[$0] == Array("MMIDIDX\0\0".utf8)[$0] }),
              file.integer(UInt64.self, at: 9) == 1 else {
            throw BadInput("\(path) is not a Megatron index of version 1")
        }
        let type = file.integer(UInt8.self, at: 17)
        guard type == 4 || type == 8 else {
            throw BadInput("\(path): tokens of type \(type); 4 (int32) and 8 (uint16) are supported")
        }
        isWide = type == 4
        let width = isWide ? 4 : 2
        let sequences = Int(clamping: file.integer(UInt64.self, at: 18))
        let bounds = Int(clamping: file.integer(UInt64.self, at: 26))
        guard sequences < 1 << 48, bounds < 1 << 48, file.count == 34 + 12 * sequences + 8 * bounds else {
            throw BadInput("\(path): its header does not fit its \(file.count) bytes; copy it again")
        }
        func length(_ sequence: Int) -> Int { Int(file.integer(Int32.self, at: 34 + 4 * sequence)) }
        func offset(_ sequence: Int) -> Int { file.integer(Int.self, at: 34 + 4 * sequences + 8 * sequence) }
        func bound(_ index: Int) -> Int { file.integer(Int.self, at: 34 + 12 * sequences + 8 * index) }
        for document in 0..<max(bounds - 1, 0) {
            let (lower, upper) = (bound(document), bound(document + 1))
            guard 0 <= lower, lower <= upper, upper <= sequences else {
                throw BadInput("\(path): document \(document) has no valid bounds")
            }
            guard lower < upper else { continue }
            let first = offset(lower)
            var end = first
            for sequence in lower..<upper {
                guard offset(sequence) == end, end >= 0, end % width == 0, length(sequence) >= 0,
                      length(sequence) * width <= tokens.count - end else {
                    throw BadInput("\(path): sequence \(sequence) at byte \(offset(sequence)) does not fit "
                        + "\(tokens.path), which has \(tokens.count) bytes")
                }
                end += length(sequence) * width
            }
            documents.append((first / width)..<(end / width))
        }
    }
}
